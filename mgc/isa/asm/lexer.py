"""Assembler text -> tokens, each with its place."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from mgc.isa.error import ProgramError

_TOKEN = re.compile(
    r"""(?P<blank>(?:\s+|;[^\n]*)+)
      | (?P<text>"(?:[^"\\\n]|\\.)*")
      | (?P<number>[-+]?(?:nan|inf|[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)(?![\w.]))
      | (?P<word>\.?[A-Za-z_][\w-]*|[0-9a-f]{64}\b)
      | (?P<mark>[\[\](){},=])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """A piece of text: kind is text, number, word, mark or end; `at` is its offset."""

    kind: str
    text: str
    at: int


class Lexer:
    """Reads tokens one by one; says where it is when something is wrong."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.token = self._read()

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        """Raises ProgramError with line and column of the current token, or of the offset `at`."""
        at = self.token.at if at is None else at
        line = self._text.count("\n", 0, at) + 1
        column = at - (self._text.rfind("\n", 0, at) + 1) + 1
        raise ProgramError(f"line {line}, column {column}: {message}")

    def expected(self, what: str) -> NoReturn:
        """Raises ProgramError: something else was expected here."""
        found = "the end of the text" if self.token.kind == "end" else repr(self.token.text)
        self.fail(f"{what} is expected, not {found}")

    def next(self) -> Token:
        """The current token; moves on."""
        token = self.token
        self.token = self._read()
        return token

    def mark(self, mark: str) -> None:
        """Takes one mark. Raises ProgramError if another token stands here."""
        if not self.accept(mark):
            self.expected(f"'{mark}'")

    def accept(self, mark: str) -> bool:
        """Takes a mark if it stands here."""
        if self.token.kind == "mark" and self.token.text == mark:
            self.next()
            return True
        return False

    def word(self, what: str) -> str:
        """Takes a word."""
        if self.token.kind != "word":
            self.expected(what)
        return self.next().text

    def text(self, what: str) -> str:
        """Takes a text in quotes."""
        if self.token.kind != "text":
            self.expected(f"{what} in quotes")
        try:
            return json.loads(self.token.text)
        except ValueError:
            self.fail(f"{self.token.text} is no text as JSON writes it")
        finally:
            self.next()

    def integer(self, what: str) -> int:
        """Takes a whole number."""
        if self.token.kind != "number" or not re.fullmatch(r"[-+]?[0-9]+", self.token.text):
            self.expected(f"{what}, a whole number,")
        if len(self.token.text) > 20 or not -(1 << 63) <= int(self.token.text) < 1 << 63:
            self.fail(f"{self.token.text} does not fit into 64 bits")
        return int(self.next().text)

    def real(self, what: str) -> float:
        """Takes a number."""
        if self.token.kind != "number":
            self.expected(f"{what}, a number,")
        return float(self.next().text)

    def json(self) -> Any:
        """Takes a JSON value that begins at the current token."""
        try:
            value, end = json.JSONDecoder().raw_decode(self._text, self.token.at)
        except (ValueError, RecursionError) as error:
            self.fail(f"this is no JSON: {error}")
        self._at = end
        self.token = self._read()
        return value

    def _read(self) -> Token:
        while True:
            if self._at == len(self._text):
                return Token("end", "", self._at)
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                self.fail(f"{self._text[self._at]!r} makes no sense here", self._at)
            at, self._at = self._at, match.end()
            if match.lastgroup != "blank":
                return Token(str(match.lastgroup), match.group(), at)

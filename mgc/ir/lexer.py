"""Tokens of the text form, each with the line and column where it stands."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import NamedTuple

from mgc.ir.op import IRError

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+|//[^\n]*)
  | (?P<value>%(?:[\w./-]+|"[^"\\\n]*(?:\\.[^"\\\n]*)*"))
  | (?P<node>\^(?:[\w./-]+|"[^"\\\n]*(?:\\.[^"\\\n]*)*"))
  | (?P<blob>\#\d+)
  | (?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*)*")
  | (?P<number>[-+]?(?:inf|nan|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.]))
  | (?P<word>[A-Za-z_]\w*)
  | (?P<punctuation>->|[(){}\[\],:=+])
    """,
    re.VERBOSE | re.ASCII,
)


class Token(NamedTuple):
    """A token: `kind` is value, node, blob, string, number, word, punctuation or end; `text` as written."""

    kind: str
    text: str
    offset: int


class Lexer:
    """Walks over the tokens of a text; every error says [file:]line:column and what was expected."""

    def __init__(self, text: str, file: str = "") -> None:
        self.prefix = f"{file}:" if file else ""
        self._lines = [0, *(m.end() for m in re.finditer("\n", text))]
        self.tokens: list[Token] = []
        self.index = 0
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"unexpected character {text[position]!r}", Token("", "", position))
            if match.lastgroup != "space":
                self.tokens.append(Token(match.lastgroup or "", match.group(), position))
            position = match.end()
        self.tokens.append(Token("end", "end of text", len(text)))

    @property
    def token(self) -> Token:
        """The next token."""
        return self.tokens[self.index]

    def error(self, message: str, at: Token | None = None) -> IRError:
        """An IRError with line:column of a token (the next one by default)."""
        at = at or self.token
        line = bisect_right(self._lines, at.offset)
        return IRError(f"{self.prefix}{line}:{at.offset - self._lines[line - 1] + 1}: {message}")

    def location(self, at: Token) -> str:
        """The line of a token: "file.ir:12", or "12" without a file."""
        return f"{self.prefix}{bisect_right(self._lines, at.offset)}"

    def expected(self, what: str) -> IRError:
        """The error that `what` was expected where the next token stands."""
        text = self.token.text
        return self.error(f"expected {what}, found {text if len(text) <= 40 else text[:37] + '...'}")

    def take(self, kind: str, what: str) -> Token:
        """The next token, which must be of a kind."""
        if self.token.kind != kind:
            raise self.expected(what)
        self.index += 1
        return self.tokens[self.index - 1]

    def punctuation(self, text: str) -> None:
        """The next token, which must be this punctuation."""
        if not self.skip(text):
            raise self.expected(f"'{text}'")

    def skip(self, text: str) -> bool:
        """Steps over this punctuation or word if it is next."""
        if self.token.kind in ("punctuation", "word") and self.token.text == text:
            self.index += 1
            return True
        return False

    def word(self, text: str) -> None:
        """The next token, which must be this word."""
        if not self.skip(text):
            raise self.expected(f"'{text}'")

    def string(self, what: str) -> str:
        """The next token, which must be a string; its content."""
        token = self.take("string", what)
        try:
            return str(json.loads(token.text))
        except ValueError as error:
            raise self.error(f"bad string: {error}", token) from error

    def name(self, kind: str) -> str:
        """The next token, which must be %name (kind "value") or ^name (kind "node"); the name."""
        token = self.take(kind, "a value (%name)" if kind == "value" else "a node (^name)")
        if token.text[1] != '"':
            return token.text[1:]
        try:
            return str(json.loads(token.text[1:]))
        except ValueError as error:
            raise self.error(f"bad name: {error}", token) from error

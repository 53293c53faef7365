"""Tokens of our texts (the graph IR, assembler), each with the line and column where it stands."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import Any, NamedTuple


def grammar(comment: str, **kinds: str) -> re.Pattern[str]:
    """What the tokens of a text look like: strings, numbers and words, and beside them `kinds` (name -> pattern).

    `comment` begins a comment, which goes to the end of its line. Words may not begin like one of `kinds`.
    """
    common = {
        "space": rf"(?:[ \t\r\n]+|{comment}[^\n]*)+",
        **kinds,
        "string": STRING,
        "number": r"[-+]?(?:inf|nan|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])",
        "word": r"[A-Za-z_]\w*",
    }
    punctuation = common.pop("punctuation")
    return re.compile("|".join(f"(?P<{k}>{p})" for k, p in {**common, "punctuation": punctuation}.items()), re.ASCII)


STRING = r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
"""A string as JSON has it."""


class Token(NamedTuple):
    """A token: `kind` is string, number, word, end or one of the grammar's own; `text` as written."""

    kind: str
    text: str
    offset: int


class Lexer:
    """Walks over the tokens of a text; every error is an `error_class` that says [file:]line:column."""

    def __init__(self, text: str, pattern: re.Pattern[str], error_class: type[Exception], file: str = "") -> None:
        self.text, self._error_class = text, error_class
        self.prefix = f"{file}:" if file else ""
        self._lines = [0, *(m.end() for m in re.finditer("\n", text))]
        self.tokens: list[Token] = []
        self.index = 0
        position = 0
        while position < len(text):
            match = pattern.match(text, position)
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

    def error(self, message: str, at: Token | None = None) -> Exception:
        """The error with line:column of a token (the next one by default)."""
        at = at or self.token
        line = bisect_right(self._lines, at.offset)
        return self._error_class(f"{self.prefix}{line}:{at.offset - self._lines[line - 1] + 1}: {message}")

    def location(self, at: Token) -> str:
        """The line of a token: "file.ir:12", or "12" without a file."""
        return f"{self.prefix}{bisect_right(self._lines, at.offset)}"

    def expected(self, what: str) -> Exception:
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

    def integer(self, what: str) -> int:
        """The next token, which must be a whole number of 64 bits."""
        token = self.take("number", f"{what}, a whole number")
        if not re.fullmatch(r"[-+]?[0-9]+", token.text):
            self.index -= 1
            raise self.expected(f"{what}, a whole number")
        if len(token.text) > 20 or not -(1 << 63) <= int(token.text) < 1 << 63:
            raise self.error(f"{token.text} does not fit into 64 bits", token)
        return int(token.text)

    def real(self, what: str) -> float:
        """The next token, which must be a number."""
        return float(self.take("number", f"{what}, a number").text)

    def json(self) -> Any:
        """The JSON value that begins at the next token."""
        try:
            value, end = json.JSONDecoder().raw_decode(self.text, self.token.offset)
        except (ValueError, RecursionError) as error:
            raise self.error(f"this is no JSON: {error}") from error
        while self.token.offset < end:
            self.index += 1
        return value

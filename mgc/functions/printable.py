"""Text that is safe to show: no character that moves a cursor, changes a terminal, or turns the order of letters."""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Control characters but newline (C0, DEL, C1), those that are invisible or turn the direction, halves of pairs."""


def printable(text: str) -> str:
    r"""The text with every such character written as `\u` and four digits, which JSON reads back."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)

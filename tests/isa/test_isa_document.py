"""docs/isa.md is what the definitions say."""

from pathlib import Path

from mgc.isa.document import document
from mgc.isa.functions import FUNCTIONS
from mgc.isa.instruction import OPCODES

DOCUMENT = Path(__file__).parents[2] / "docs" / "isa.md"


def test_the_document_is_current():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run `make docs`"


def test_everything_is_documented():
    text = document()
    for cls in OPCODES.values():
        assert f"### {cls.mnemonic.upper()}\n\nOpcode {cls.opcode}," in text
    for f in FUNCTIONS.values():
        assert f"| {f.code} | `{f.name}` |" in text

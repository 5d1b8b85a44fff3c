"""Every way to get a rulebook wrong, with the exact words it is told in. One file each: what is written, then what is said.

    # a comment line says what goes wrong
    == rules/x.yaml          a file that replaces or joins the base rulebook
    == says                  the whole message

After a deliberate change of words: UPDATE_GOLDEN=1 pytest tests/declare/test_golden.py, then read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shopward.declare.rulebook import Rulebook
from shopward.errors import RulebookError
from tests.declare.base import BASE

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))


def parts(text: str) -> dict[str, str]:
    blocks = text.split("\n== ")[1:]
    return {b.split("\n", 1)[0]: b.split("\n", 1)[1] if "\n" in b else "" for b in blocks}


def said(files: dict[str, str]) -> str:
    try:
        book = Rulebook.from_files(BASE | {k: v + "\n" for k, v in files.items()})
    except RulebookError as e:
        return str(e)
    return "\n".join("warning: " + p.render() for p in book.warnings) or "fine"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_golden(path: Path):
    text = path.read_text(encoding="utf-8")
    files = parts(text)
    wanted = files.pop("says", "").rstrip("\n")
    got = said(files)
    if os.environ.get("UPDATE_GOLDEN") and got != wanted:
        head = text.split("\n== says")[0].rstrip("\n")
        path.write_text(f"{head}\n\n== says\n{got}\n", encoding="utf-8")
    assert got == wanted


def test_the_base_rulebook_is_fine():
    assert said({}) == "fine"

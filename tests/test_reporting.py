"""docs/reporting.md contains every item of both checklists once, and the files that it names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reporting.md").read_text(encoding="utf-8")
CLAIM, TRIPOD = (TEXT.partition(f"## {name}")[2].partition("\n## ")[0] for name in ("CLAIM 2024", "TRIPOD+AI"))
LETTERED = {
    3: "abc",
    5: "ab",
    6: "abc",
    8: "abc",
    9: "abc",
    12: "abcdefg",
    18: "abcdef",
    20: "abc",
    23: "ab",
    27: "abc",
}


def _rows(part: str) -> list[list[str]]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| ")
    ]
    return rows[1:]


def _numbers(part: str) -> list[str]:
    return [row[0].split()[0] for row in _rows(part)]


def test_claim_has_its_44_items():
    assert _numbers(CLAIM) == [str(number) for number in range(1, 45)]


def test_tripod_ai_has_its_27_items_with_their_parts():
    assert _numbers(TRIPOD) == [f"{number}{letter}" for number in range(1, 28) for letter in LETTERED.get(number, [""])]


@pytest.mark.parametrize("part", [CLAIM, TRIPOD], ids=["CLAIM", "TRIPOD+AI"])
def test_every_item_says_who_fills_it(part):
    for item, who, where in _rows(part):
        assert who in ("tool", "both", "you"), item
        assert where or who == "you", item


def test_files_of_the_repository_that_it_names_exist():
    named = re.findall(r"`(ggn_tf/[\w/.]+)`", TEXT)
    assert named
    for path in named:
        assert (ROOT / path).exists(), path

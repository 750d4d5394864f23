"""docs/reporting.md contains every item of both checklists once, and the files that it names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reporting.md").read_text(encoding="utf-8")
CLAIM, TRIPOD = (TEXT.partition(f"## {name}")[2].partition("\n## ")[0] for name in ("CLAIM 2024", "TRIPOD+AI"))
PARTS = {3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3}
TRIPOD_ITEMS = [
    f"{number}{letter}"
    for number in range(1, 28)
    for letter in ("abcdefg"[: PARTS[number]] if number in PARTS else [""])
]
CLAIM_ITEMS = [str(number) for number in range(1, 45)]


def _rows(part: str) -> list[list[str]]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| ")
    ]
    return rows[1:]


@pytest.mark.parametrize(("part", "items"), [(CLAIM, CLAIM_ITEMS), (TRIPOD, TRIPOD_ITEMS)], ids=["CLAIM", "TRIPOD+AI"])
def test_every_item_is_listed_once_with_who_reports_it(part, items):
    rows = _rows(part)
    assert [row[0].split()[0] for row in rows] == items
    for item, who, where in rows:
        assert who in ("tool", "both", "you"), item
        assert where or who == "you", item


def test_named_files_exist():
    named = re.findall(r"`(ggn_tf/[\w/.]+)`", TEXT)
    assert named
    for path in named:
        assert (ROOT / path).exists(), path

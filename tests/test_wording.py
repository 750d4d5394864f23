"""Texts that users see keep the house rules of CONTRIBUTING.md."""

from pathlib import Path

import pytest

from scripts.check_wording import ROOT, checked_files, findings


@pytest.mark.parametrize("path", checked_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_wording_of_the_list_is_used(path: Path) -> None:
    assert not [str(finding) for finding in findings(path)]


def test_the_check_finds_what_it_looks_for(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("One row per nodule. It contains a mask.\nA row a nodule, which holds `told`.\n", encoding="utf-8")
    assert [(finding.line, finding.found) for finding in findings(page)] == [(2, "A row a nodule"), (2, "holds")]

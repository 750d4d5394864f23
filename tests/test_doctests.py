"""The examples in docstrings give what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _runs_examples(path: Path) -> bool:
    lines = path.read_text(encoding="utf-8").splitlines()
    return any(line.lstrip().startswith(">>> ") and "doctest: +SKIP" not in line for line in lines)


MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "ggn_tf").rglob("*.py"))
    if _runs_examples(path)
]


# The import of TensorFlow takes ten seconds.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("ggn_tf.models")) for name in MODULES]
)
def test_examples_give_what_they_show(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0

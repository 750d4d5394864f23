#!/usr/bin/env python
"""Finds wordings that CONTRIBUTING.md's house rules exclude, in texts that users see.

Checks the strings of ggn_tf, except docstrings of private functions, and the Markdown pages. Used by the tests and by
pre-commit: `scripts/check_wording.py [FILE ...]`, without arguments all files; exits with 1 if anything is found.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/**/*.md", "serving/**/*.md", ".github/**/*.md")

_UNITS = "case|class|column|command|device|file|fold|label|machine|mask|nodule|patch|patient|process|repeat|request|row"
_UNITS += "|run|series|set|slice|stage|step|study|system|training|user|variable|version|voxel"
_NOT_NOUNS = "about|after|and|as|before|by|for|from|in|into|is|marks|names|of|on|or|than|that|to|when|where|while"
_NOT_NOUNS += "|with|within|without"

# Pattern, and what to write in its place.
WORDINGS = {
    rf"\b(a|an|one|\d+) (\w+ )?(?!(?:{_NOT_NOUNS})\b)\w+ an? ({_UNITS})\b": "one ... per ...",
    r"\b(tell|tells|telling|told)\b": "report, state, distinguish, inform",
    r"\bholds\b(?! (the|a) lock)|\bholding\b": "contains, keeps, is true",
    r"\bheld\b(?! by|-out)": "contained, kept, locked",
    r"\bmend(s|ed|ing)?\b": "repair, correct",
    r"\banew\b": "again",
    r"\b(go|goes|going|went|gone) on\b": "resume, continue",
    r"\bput(s|ting)? (it |them |this )?right\b": "repair, correct",
    r"\bnobody\b|\bno one\b": "unknown, or say who",
    r"\bno telling\b": "unknown",
    r"\bstands? (?!for )": "is, is located",
    r"\bstands? for itself\b": "is self-explanatory",
    r"\b(lie|lies|lay|lain|lying)\b": "is, is located",
    r"\bdear(er|est)\b": "most expensive, slowest",
    r"\bdoubt(s|ed|ful)?\b|\bcaution(s)?\b": "warning",
    r"\b(the|a|its|one) door\b": "interceptor",
    r"\bconversation(s)?\b": "client session, exchange",
    r"\baim(s|ed|ing)?\b": "patch location, target, goal",
    r"\bevidence\b": "report data, predictions",
    r"\badmission\b": "request limits",
    r"\b(is|are|was|were|be|been|being) asked\b": "is queried, is requested",
    r"\bwants\b(?! to)|\bwanted\b(?!:)": "requires, needed",
    r"\bheed(s|ed)?\b": "read, obey",
    r"\b(be|been|is|are|was|were) had\b": "be obtained, be reproduced",
    r"\bone say\b|\bno say\b": "contributes once",
    r"\bas it was\b|\bas they were\b": "say which state is restored",
    r"\bat work at a time\b": "in parallel",
    r"\bthere are that\b": "some ... that",
    r"\b(?<!there )(?<!, )(is|are) no (?!longer|more)\w+": "is not a ...",
    r"\bno use\b": "cannot succeed",
    r"\bthose who\b|\bhe who\b|\bwho(so)?ever\b": "observers, users, callers",
    r"\banswers? for\b": "predicts",
    r"\btaken for (one|each)\b": "confused with",
    r"\bdoes without\b|\bdo without\b": "does not need",
    r"\bas far as that\b": "say the condition",
    r"\bcleared away\b": "removed",
    r"\bdribbl\w+\b": "sends slowly",
    r"\bgives? (its|the) place\b": "releases",
    r"\b(thereof|therein|thereby|herein|hereby|whence|whither|wherefrom|whereof|upon|hitherto)\b": "plain words",
    r"\bto look at\b": "for inspection",
    r"\bwrit\b|\bwrought\b|\bought\b": "plain words",
    r"\bthe trade'?s?\b": "the usual term",
    r"\bwidow\w*\b|\borphan(s|ed)? of\b": "left over",
    r"\ba worker gone\b": "loss of a worker",
    r"\bonce more\b": "again",
    r"\bwhat(ever)? (comes|came|came in|is there|there is)\b": "name the thing",
    r"\bthe like\b": "similar",
    r"\bsooner or later\b|\bin the end\b|\bafter all\b": "leave out",
}
_WORDINGS = [(re.compile(pattern, re.IGNORECASE), instead) for pattern, instead in WORDINGS.items()]
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_HELP_WITHOUT_NOUN = re.compile(r"^(Of|As|At|By|For|In|On|To|With|Its|Theirs|Another)\b")


class Finding(NamedTuple):
    """A wording that is to be replaced."""

    path: Path
    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.found!r}: {self.instead}"


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of a file that users see, each with the number of its line."""
    if path.suffix == ".md":
        yield from _page_texts(path)
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    private = {id(node) for node in _private_docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in private:
            yield node.lineno, node.value


def _page_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Lines without code: it is quoted from the program, where it is checked."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield number, re.sub(r"`[^`]*`", "`code`", line)


def _private_docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or not node.name.startswith("_"):
            continue
        for child in [node, *ast.walk(node)] if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(child):
                first = child.body[0]
                assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                yield first.value


def _helps(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "help":
            text = "".join(
                part.value
                for part in ast.walk(node.value)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )
            if text:
                yield node.value.lineno, text


def findings(path: Path) -> Iterator[Finding]:
    """Every wording of a file that is to be replaced."""
    for line, text in texts(path):
        # A single word is a key of a file format, a code or a name.
        if path.suffix == ".py" and re.fullmatch(r"\S+", text):
            continue
        for pattern, instead in _WORDINGS:
            for match in pattern.finditer(text):
                yield Finding(path, line + text[: match.start()].count("\n"), match.group(), instead)
    if path.suffix != ".py" or not path.is_relative_to(ROOT / "ggn_tf"):
        return
    if path.is_relative_to(ROOT / "ggn_tf" / "cli"):
        for line, text in _helps(path):
            if match := _HELP_WITHOUT_NOUN.search(text):
                yield Finding(path, line, text, f"a sentence that does not begin with {match.group()!r}")
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for match in _OPTION.finditer(node.value):
                yield Finding(
                    path, node.lineno, match.group(), "errors name `arguments`; only ggn_tf/cli names options"
                )


def checked_files() -> list[Path]:
    """All files whose texts users see."""
    files = {*(ROOT / "ggn_tf").rglob("*.py"), *(path for pattern in PAGES for path in ROOT.glob(pattern))}
    return sorted(path for path in files if "node_modules" not in path.parts and ".venv" not in path.parts)


def main() -> None:
    """Print what is found in the files that are named, or in all."""
    everything = set(checked_files())
    files = [path for name in sys.argv[1:] if (path := Path(name).resolve()) in everything] or sorted(everything)
    found = [finding for path in files for finding in findings(path)]
    print(*found, sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()

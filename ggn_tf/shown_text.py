"""Text of unknown origin, made harmless for the place where it is shown: a terminal, Markdown, or a spreadsheet.

Headers, labels, ids, file names and the messages of servers can contain what a terminal, a browser or a spreadsheet
program would execute. HTML is escaped by its templates.
"""

import re
import traceback
from pathlib import Path

# C0 and C1 controls without tab and line feed, separators of lines and paragraphs, the characters that order a line
# from right to left up to its end, invisible letters (tags), and halves of characters, which no file can contain.
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f\ud800-\udfff"
_CONTROLS, _ALL = re.compile(f"[{_CONTROL}]"), re.compile(f"[\t\n{_CONTROL}]")
# Colours and weights, and on a terminal what moves the cursor and clears a line: what progress bars are drawn with.
_STYLE = r"\x1b\[[0-79;]*m"
_STYLED = re.compile(f"({_STYLE})|[{_CONTROL}]")
_DRAWN = re.compile(rf"({_STYLE}|\x1b\[\d*[AK]|\x1b\[\?25[lh]|\r)|[{_CONTROL}]")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_TAG = re.compile(r"<(?! )")


def printable(text: str) -> str:
    """The text with escapes instead of control characters; tabs and line feeds stay."""
    return _CONTROLS.sub(_escape, text)


def one_line(text: str) -> str:
    """The text in one line: a space for each tab and line feed, and escapes as in `printable`."""
    return _ALL.sub(lambda found: " " if found[0] in "\t\n" else _escape(found), text)


def on_terminal(text: str, *, drawn: bool) -> str:
    """Output with escapes instead of the control characters that this program does not print itself.

    Progress bars may be `drawn` there.
    """
    return (_DRAWN if drawn else _STYLED).sub(lambda found: found[1] or _escape(found), text)


def in_markdown(text: str) -> str:
    """Markdown in which values cannot contain HTML, links or images; a `<` before a space begins none."""
    return _TAG.sub("&lt;", text).replace("](", "]\\(")


def in_spreadsheet(text: str) -> str:
    """A cell that a spreadsheet program shows and does not compute: an apostrophe before what begins like a formula.

    Numbers, and lists of them with semicolons, stay as they are. `from_spreadsheet` is its inverse.
    """
    return f"'{text}" if _FORMULA.match(text) and not all(map(_is_number, text.split(";"))) else text


def from_spreadsheet(cell: str) -> str:
    """The text of a cell that `in_spreadsheet` wrote."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def kind_of(error: BaseException) -> str:
    """An error's type and place: texts and tracebacks quote headers and paths."""
    places = traceback.extract_tb(error.__traceback__)
    return " in ".join([type(error).__name__, *(f"{Path(item.filename).name}:{item.lineno}" for item in places[-1:])])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    # Also an escape of JSON.
    return f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"

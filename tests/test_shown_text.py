import pytest

from ggn_tf.errors import GgnError
from ggn_tf.evaluation.report.page import cell_line, fact_lines
from ggn_tf.shown_text import from_spreadsheet, in_markdown, in_spreadsheet, on_terminal, one_line, printable


def test_control_characters_and_overrides_become_escapes() -> None:
    assert printable("\x1b]0;title\x07 \x9b2J \u202efdp\u2069 a\tb\n") == (
        "\\u001b]0;title\\u0007 \\u009b2J \\u202efdp\\u2069 a\tb\n"
    )
    assert one_line("a\tb\nc\r\x1b") == "a b c\\u000d\\u001b"
    assert printable("Лёгкое 肺 ريه\u200f") == "Лёгкое 肺 ريه\u200f"


def test_output_keeps_the_styles_and_a_drawn_one_its_bars() -> None:
    bar = "\x1b[2K\x1b[1A\x1b[?25l\r\x1b[1mcut\x1b[0m"
    assert on_terminal(bar, drawn=True) == bar
    assert on_terminal(bar, drawn=False) == "\\u001b[2K\\u001b[1A\\u001b[?25l\\u000d\x1b[1mcut\x1b[0m"
    # Hidden text, a link, the clipboard, the title, a cleared screen.
    for sequence in ("\x1b[8m", "\x1b]8;;http://evil\x07", "\x1b]52;c;aGk=\x07", "\x1b]0;t\x07", "\x1b[2J", "\x1bc"):
        assert "\x1b" not in on_terminal(sequence, drawn=True)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1-1", "-cmd|' /C calc'!A0", "-1;=A1", "@SUM(1)", "\t=1", "'=1", "''-x", "\uff1d1"]
)
def test_a_formula_is_text_in_a_spreadsheet_and_reads_back_equal(text: str) -> None:
    assert in_spreadsheet(text) == f"'{text}"
    assert from_spreadsheet(in_spreadsheet(text)) == text


@pytest.mark.parametrize(
    "text", ["-5.3", "+1e-3", "-inf", "-107.02; 27.9; -154.8", "MIA", "'quoted'", "1-2", "", "a=b"]
)
def test_numbers_and_names_stay_as_they_are(text: str) -> None:
    assert in_spreadsheet(text) == from_spreadsheet(text) == text


def test_markdown_contains_no_html_and_no_links() -> None:
    assert in_markdown("<script>x</script> ![a](http://b) `c` < 5 %") == (
        "&lt;script>x&lt;/script> ![a]\\(http://b) `c` < 5 %"
    )


def test_an_error_quotes_nothing_that_a_terminal_executes() -> None:
    error = GgnError("What.", case="a\x1b[2Jb", found="one\n  remedy:   Delete all.", remedy="Wait.")
    assert str(error).splitlines() == [
        "What.",
        "  case:     a\\u001b[2Jb",
        "  found:    one",
        "              remedy:   Delete all.",
        "  remedy:   Wait.",
    ]
    assert len(str(GgnError("What.", found="x" * 10**6))) < 5000


def test_what_is_never_visible_and_what_no_file_can_contain_become_escapes() -> None:
    assert printable("a\U000e0041\ud800b") == "a\\U000e0041\\ud800b"


def test_a_cell_of_markdown_begins_no_line() -> None:
    assert cell_line("a\n\n[1]: http://evil\r# title") == "a  [1]: http://evil\\u000d# title"
    assert fact_lines([("site", "a\n# title")]) == ["- site: a # title"]

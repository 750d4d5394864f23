"""Forms that different spellings of one text share: names of columns, ids of patients, labels."""

import re
import unicodedata
from decimal import Decimal

_DIGITS = re.compile(r"\d+")
_WHOLE_DECIMAL = re.compile(r"(?<=\d)[.,]0+$")
# 1,234 or 1 234: a number whose thousands are separated.
_GROUPED = re.compile(r"\d{1,3}([,.' ])\d{3}(\1\d{3})*")
# P_7, P 7 and P-7; and between a letter and a number, where P7 is the same.
_SEPARATORS, _BEFORE_NUMBER = re.compile(r"[-_ ]+"), re.compile(r"(?<=[^\W\d_])-(?=\d)")
# Small letters of which the large or the small form looks like a Latin one.
_LOOK_ALIKE = str.maketrans("авеікмнорстхуѕјαβεζηικμνορτυχ", "abeikmhopctxysjabezhikmnoptyx")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?")


def trimmed(text: str) -> str:
    r"""A text without invisible characters, such as byte order marks, and without space at its ends.

    >>> trimmed("\ufefflabel\xa0")
    'label'
    """
    return "".join(char for char in text if unicodedata.category(char) != "Cf").strip()


def composed(text: str) -> str:
    r"""A form that spellings share which look the same: without invisible characters, in one Unicode form and space.

    >>> composed("Lu\u0308cke  1 ") == composed("L\u00fccke 1")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", trimmed(text)).split())


def folded(text: str) -> str:
    r"""A form that spellings share which differ in case, space, kind of dash, or Unicode form (NFC, NFKC).

    >>> folded(" MIA\u200b") == folded("mia")
    True
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", trimmed(text)).casefold())
    dashes = ("-" if unicodedata.category(char) == "Pd" else char for char in plain)
    return " ".join("".join(dashes).translate(_LOOK_ALIKE).split())


def folded_id(text: str) -> str:
    """As `folded`, for ids: also without what spreadsheet programs add and remove.

    This is leading zeros, a trailing `.0`, separators of thousands, the apostrophe that marks a text, and the choice of
    `-`, `_`, space or nothing between a word and a number.

    >>> folded_id("P-007"), folded_id("p_7 "), folded_id("4.0"), folded_id("1,234"), folded_id("P1 2")
    ('p7', 'p7', '4', '1234', 'p1-2')
    """
    grouped = _GROUPED.fullmatch(folded(text))
    if grouped is not None:
        return grouped[0].replace(grouped[1], "").lstrip("0") or "0"
    plain = _WHOLE_DECIMAL.sub("", folded(text.lstrip("'")))
    joined = _BEFORE_NUMBER.sub("", _SEPARATORS.sub("-", plain))
    return _DIGITS.sub(lambda digits: digits[0].lstrip("0") or "0", joined)


def folded_label(text: str) -> str | Decimal:
    """As `folded`, for labels: a number by its value.

    >>> folded_label("4") == folded_label("4.0") == folded_label("04")
    True
    """
    plain = folded(text)
    return Decimal(plain) if _NUMBER.fullmatch(plain) else plain

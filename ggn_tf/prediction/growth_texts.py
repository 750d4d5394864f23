"""How changes and doubling times are shown to readers."""

from ggn_tf.cases.growth import Change, Compared
from ggn_tf.cases.measure_texts import MEASURE_TEXTS

COMPARED_TEXTS = {Compared.WITHIN: "within measurement error", Compared.MORE: "more than measurement error"}


def change_texts(change: Change) -> tuple[str, str, str, str, str, str]:
    """A change for readers: both values, the change, the relative change, its limit, and how they compare."""
    text, relative = MEASURE_TEXTS[change.measurement], change.relative_percent
    return (
        text.printed(change.earlier),
        text.printed(change.later),
        f"{change.absolute:+z.{text.decimals}f} {text.unit}",
        "undefined" if relative is None else f"{relative:+z.1f} %",
        f"{change.limit:g} {change.limit_unit}",
        COMPARED_TEXTS[change.compared],
    )


def doubling_text(change: Change) -> str | None:
    """The doubling time of a volume or mass for readers; None where it is not known."""
    if change.doubling_days is None:
        return None
    kind = "doubling time" if change.doubling_days > 0 else "halving time"
    unsure = "" if change.compared is Compared.MORE else "; the change is within measurement error, so it is uncertain"
    return f"{kind} {abs(change.doubling_days):.0f} days{unsure}"

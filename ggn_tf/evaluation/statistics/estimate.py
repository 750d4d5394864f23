"""A score with its interval: numbers until they are printed."""

from dataclasses import dataclass

UNDEFINED = "undefined"


@dataclass(frozen=True)
class Estimate:
    """A score, or a difference of two scores, with its interval.

    Attributes:
        value: The score; None where it is undefined.
        low, high: Interval over patients at 95 %; None where there is none.
        reason: Why the value or its interval is None, for a reader.
        left_out: Number of bootstrap replicates on which the score is undefined; the interval leaves them out.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    left_out: int = 0


def format_estimate(estimate: Estimate, *, signed: bool = False) -> str:
    """Value and interval as text, for example `0.846 [0.754, 0.928]`."""
    return f"{format_value(estimate, signed=signed)} {format_interval(estimate, signed=signed)}".rstrip()


def format_value(estimate: Estimate, *, signed: bool = False) -> str:
    """The value with three decimals, or `undefined`."""
    return UNDEFINED if estimate.value is None else _number(estimate.value, signed)


def format_interval(estimate: Estimate, *, signed: bool = False) -> str:
    """The interval in brackets; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{_number(estimate.low, signed)}, {_number(estimate.high, signed)}]"


def _number(value: float, signed: bool) -> str:
    return f"{value:+.3f}" if signed else f"{value:.3f}"

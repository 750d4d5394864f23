"""A score with its interval: numbers until they are printed."""

from dataclasses import dataclass

from ggn_tf.json_records import added_later


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
    reason: str | None = added_later(None)
    left_out: int = added_later(0)

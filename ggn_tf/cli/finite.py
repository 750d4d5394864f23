"""Numbers of the command line that are numbers."""

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """click's own lets NaN pass: it compares false with every bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse, and refuse what is not finite."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number", param, ctx)
        return number

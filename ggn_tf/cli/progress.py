"""Progress of a training run on the terminal: a bar within an epoch, a line after it."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ggn_tf.runs.stages import Stage
from ggn_tf.training.monitor import Monitored
from ggn_tf.training.observers import Observer


class EpochBars(Observer):
    """An observer of the loop, on stderr. On a terminal it draws a bar; in a log it only prints the epochs' lines."""

    def __enter__(self) -> "EpochBars":
        """Start drawing."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
        )
        self._bars = Progress(
            *columns, TimeElapsedColumn(), TimeRemainingColumn(), transient=True, console=Console(stderr=True)
        )
        self._bars.start()
        self._bar = self._bars.add_task("", total=None, loss="", visible=False)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()

    def epoch_started(self, stage: Stage, epoch: int, steps: int, done: int) -> None:
        """A new bar."""
        name = f"{stage.name} epoch {epoch}"
        self._bars.reset(self._bar, total=steps, completed=done, description=name, loss="", visible=True)

    def step_done(self, loss: float) -> None:
        """One step further."""
        self._bars.update(self._bar, advance=1, loss=f"loss {loss:.4f}")

    def epoch_done(self, stage: Stage, row: dict[str, Any], monitored: Monitored) -> None:
        """Print the epoch's line."""
        shown = {name: value for name, value in row.items() if isinstance(value, float) and name != "learning_rate"}
        scores = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in shown.items())
        line = f"{stage.name:<9} epoch {row['epoch']:>3}  {scores}"
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

"""Progress of a study on the terminal: what is at work, what is done, and the time that is left."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from ggn_tf.study.item import Item
    from ggn_tf.study.process import WorkerMessage


class StudyBars:
    """On stderr. On a terminal a bar for the study and one for each item at work; in a log a line an item.

    Args:
        items: The whole work.
    """

    def __init__(self, items: "Sequence[Item]") -> None:
        """See the class."""
        self._costs = {item.name: item.cost for item in items}
        self._shares = dict.fromkeys(self._costs, 0.0)
        self._at_work: dict[str, TaskID] = {}

    def __enter__(self) -> "StudyBars":
        """Start drawing."""
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        self._bars = Progress(
            *columns,
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
            # An item is minutes to hours; the rate of the last half minute says nothing.
            TimeRemainingColumn(),
            speed_estimate_period=6 * 3600,
            transient=True,
            console=Console(stderr=True),
        )
        self._bars.start()
        self._whole = self._bars.add_task("study", total=sum(self._costs.values()), what="")
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()

    def tell(self, news: "WorkerMessage") -> None:
        """An item is so far."""
        self._shares[news.item] = news.share
        done = sum(self._costs[item] * share for item, share in self._shares.items())
        ended = sum(share == 1.0 for share in self._shares.values())
        if news.share == 1.0 and news.item not in self._at_work:
            # Done by an earlier call, within no time: the first count of all is no part of the rate.
            self._bars.reset(self._whole)
        self._bars.update(self._whole, completed=done, what=f"{ended} of {len(self._costs)} done")
        if news.share < 1.0:
            if news.item not in self._at_work:
                self._at_work[news.item] = self._bars.add_task(f"  {news.item}", total=1.0, what="")
            self._bars.update(self._at_work[news.item], completed=news.share, what=news.what)
        elif news.item in self._at_work:
            self._bars.remove_task(self._at_work.pop(news.item))
            line = f"{ended:>4} of {len(self._costs)}  {news.item}"
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

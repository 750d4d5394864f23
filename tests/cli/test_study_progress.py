from types import SimpleNamespace

import pytest

from ggn_tf.cli.study_progress import StudyBars
from ggn_tf.study.process import DONE, WorkerMessage


def test_what_an_earlier_call_did_says_nothing_about_the_time_left(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    with StudyBars([SimpleNamespace(name=f"item{number}", cost=10.0) for number in range(4)]) as bars:
        monkeypatch.setattr(bars._bars, "get_time", lambda: now)
        bars._bars.tasks[0]._get_time = lambda: now
        bars.tell(WorkerMessage("item0", 1.0, DONE))
        bars.tell(WorkerMessage("item1", 1.0, DONE))
        for share in (0.0, 0.1, 0.2, 0.3):
            bars.tell(WorkerMessage("item2", share, "joint epoch 1"))
            now += 5.0
        whole = bars._bars.tasks[0]
        # A unit every five seconds, and 17 of 40 are left.
        assert (whole.completed, whole.time_remaining) == (23.0, 85)

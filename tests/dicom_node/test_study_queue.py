"""What a queue does with repeated, late and incomplete studies, with a clock of these tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggn_tf.dicom_node.study import Instance, State, Study
from ggn_tf.dicom_node.study_queue import QueueLimits, StudyQueue
from ggn_tf.errors import PacsError

QUIET_S, PATIENCE_S = 31.0, 3601.0


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


class Sender:
    """A queue, and an archive that sends to it."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.queue = StudyQueue(folder, QueueLimits(spare_bytes=0), self.clock)

    def send(self, *names: str) -> None:
        """Slices, and markers, whose names begin with m."""
        for name in names:
            self.queue.receive(Instance("1.2", name, None if name.startswith("m") else "1.2.3", (b"content",)))

    def wait(self, seconds: float) -> list[tuple[str, str]]:
        self.clock.now += seconds
        self.queue.settle()
        return [(study["state"], study["reason"]) for study in self.queue.status()["studies"]]

    def take(self, state: State = State.READY) -> Study:
        study = self.queue.take(state)
        assert study is not None
        return study

    def answer(self) -> None:
        study = self.take()
        self.queue.answer(study).mkdir()
        self.queue.answered(study, [self.queue.answer(study) / "sr.dcm"], ["m-answer"])

    def deliver(self, *names: str) -> None:
        self.send(*names)
        self.wait(QUIET_S)
        self.answer()
        self.queue.delivered(self.take(State.ANSWERED))


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    made = Sender(tmp_path)
    with made.queue.opened():
        yield made


@pytest.mark.parametrize("again", [["a", "b", "m1"], ["m1"], ["m-answer"], ["a"], ["a", "b"]])
def test_what_is_answered_is_forgotten_when_it_is_sent_again(sender: Sender, again: list[str]) -> None:
    sender.deliver("a", "b", "m1")
    sender.send(*again)
    assert sender.wait(PATIENCE_S) == [] and len([*sender.queue.folder.rglob("*.dcm")]) == 0


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (["m2"], "No CT was received."),
        (["m1", "m2"], "No CT was received."),
        (["c"], "1 CT instances were received after the study was answered; the answer is without them."),
        (
            ["a", "c", "d", "m1"],
            "2 CT instances were received after the study was answered; the answer is without them.",
        ),
    ],
)
def test_what_is_new_and_not_answered_fails_with_its_reason(sender: Sender, sent: list[str], reason: str) -> None:
    sender.deliver("a", "b", "m1")
    sender.send(*sent)
    assert [state for state, _ in sender.wait(QUIET_S)] == ["receiving"]
    assert sender.wait(PATIENCE_S) == [("failed", reason)]


def test_slices_that_come_while_the_study_is_answered_are_reported(sender: Sender) -> None:
    sender.send("a", "m1")
    sender.wait(QUIET_S)
    study = sender.take()
    sender.send("b")
    sender.queue.answered(study, [], [])
    assert ("failed", "1 CT instances were received after the study was answered; the answer is without them.") in (
        sender.wait(PATIENCE_S)
    )


def test_a_new_mark_is_answered_without_those_that_are_known(sender: Sender) -> None:
    sender.deliver("a", "m1")
    sender.send("a", "m1", "m2")
    assert [state for state, _ in sender.wait(QUIET_S)] == ["ready"]
    assert sender.queue.status()["studies"][0]["instances"] == 2
    assert sender.queue.status()["bytes"] == 2 * len(b"content")


def test_a_study_grows_where_it_receives_and_not_where_it_waits_for_another_attempt(sender: Sender) -> None:
    sender.send("a", "m1")
    sender.wait(QUIET_S)
    first = sender.take()
    sender.send("m2")
    sender.queue.postpone(first, "No server.")
    sender.send("a", "b")
    assert sorted(state for state, _ in sender.wait(QUIET_S)) == ["ready", "receiving"]
    sender.answer()
    sender.queue.delivered(sender.take(State.ANSWERED))
    assert [state for state, _ in sender.wait(QUIET_S)] == ["ready"]
    assert len([*sender.queue.instances(sender.take()).rglob("*.dcm")]) == 3


def test_a_note_is_shown_after_the_delivery(sender: Sender) -> None:
    sender.send("a", "m1", "m2")
    sender.wait(QUIET_S)
    sender.queue.answered(sender.take(), [], [], "1 of 2 SR and SEG were not used.")
    sender.queue.delivered(sender.take(State.ANSWERED))
    assert sender.wait(0) == [("delivered", "1 of 2 SR and SEG were not used.")]
    # The unused one does not come back.
    sender.send("a", "m2")
    assert len(sender.wait(QUIET_S)) == 1


def test_an_error_of_one_study_does_not_keep_others(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    sender.send("a", "m1")
    sender.queue.receive(Instance("1.3", "c", "1.2.4", (b"c",)))
    sender.queue.receive(Instance("1.3", "m3", None, (b"m",)))
    settle, calls = sender.queue._settle, []

    def fail_first(study: Study, *, expired: bool) -> None:
        calls.append(study.digest)
        if study.digest == calls[0]:
            raise OSError(28, "No space left on device")
        settle(study, expired=expired)

    monkeypatch.setattr(sender.queue, "_settle", fail_first)
    assert {*sender.wait(QUIET_S)} == {("ready", ""), ("receiving", "An unexpected error (OSError).")}
    sender.wait(0.2)
    assert len(calls) == 2, "it is not repeated at once"


def test_a_study_whose_time_cannot_be_set_is_taken(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    sender.send("a", "m1")
    sender.wait(QUIET_S)
    monkeypatch.setattr(os, "utime", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
    assert sender.take().busy


def test_an_error_after_a_rename_leaves_the_study_where_it_is(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    sender.send("a", "m1")
    sender.wait(QUIET_S)
    study = sender.take()
    with monkeypatch.context() as broken, pytest.raises(OSError):
        broken.setattr("ggn_tf.files._reach_disk", lambda path: path.is_dir() and (_ for _ in ()).throw(OSError(5, "")))
        sender.queue._move(study, State.ANSWERED)
    sender.queue.postpone(study, "I/O error")
    sender.clock.now += 10
    assert sender.take(State.ANSWERED) is study and sender.queue._path(study).is_dir()


def test_only_what_is_ours_is_deleted(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    name = f"{'0' * 16}-1"
    kept = ["delivered/2026/ct", "failed/.snapshots", f"delivered/{name}x/ct", "ready/.ggn-tf-temporary.mine"]
    gone = [f"delivered/{name}/instances", f"ready/.ggn-tf-temporary.{name}.abcdefgh"]
    for folder in (*kept, *gone):
        (tmp_path / folder).mkdir(parents=True)
    with StudyQueue(tmp_path).opened():
        pass
    assert all((tmp_path / folder).is_dir() for folder in kept)
    assert not any((tmp_path / folder).exists() for folder in gone)


def test_a_folder_with_something_else_is_refused_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "delivered").mkdir()
    with pytest.raises(PacsError) as caught, StudyQueue(tmp_path).opened():
        pass
    assert caught.value.arguments == ("queue",) and [path.name for path in tmp_path.rglob("*")] == ["delivered"]


def test_a_damaged_record_is_a_failed_study(sender: Sender, tmp_path: Path) -> None:
    sender.deliver("a", "m1")
    (record,) = tmp_path.rglob("record.json")
    record.write_text("{")
    fresh = StudyQueue(tmp_path)
    fresh.scan()
    assert [study["reason"] for study in fresh.status()["studies"]] == ["The record is damaged."]
    fresh._fail_damaged()
    fresh.scan()
    assert [study["state"] for study in fresh.status()["studies"]] == ["failed"]

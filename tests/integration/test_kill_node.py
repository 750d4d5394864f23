"""A DICOM node that is killed while it receives, answers and delivers, with an archive that often refuses."""

import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.dicom_node.study_queue import StudyQueue
from tests.support.fake_dicomweb import Archive
from tests.support.loopback_server import free_port
from tests.support.node_studies import NAME, PATIENT, SR, expected_uid, instance, run_node, send, whole_study
from tests.support.processes import Process

# pynetdicom leaves sockets of the callers open whose connections were refused.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
UNAVAILABLE = 503


class Sender(threading.Thread):
    """An archive that sends each instance until it is confirmed, over an association for each attempt."""

    def __init__(self, address: str, studies: int) -> None:
        super().__init__(daemon=True)
        self._address, self._waiting, self.stopped = address, list(range(studies)), False

    def run(self) -> None:
        while self._waiting and not self.stopped:
            if send(self._address, whole_study(self._waiting[0])) == [0, 0, 0]:
                self._waiting.pop(0)
            else:
                time.sleep(0.05)

    def remaining(self) -> int:
        return len(self._waiting)


def alternate(archive: Archive, stopped: threading.Event) -> None:
    """The archive takes nothing half of the time."""
    while not stopped.wait(0.4):
        archive.status = {} if archive.status else {"store": UNAVAILABLE}


@pytest.mark.parametrize(("kills", "studies"), [(3, 5), pytest.param(20, 40, marks=pytest.mark.nightly)])
def test_each_study_is_answered_and_delivered_once_by_a_node_that_is_killed(
    kills: int, studies: int, tmp_path: Path
) -> None:
    generator, archive, stopped = np.random.default_rng(0), Archive(), threading.Event()
    port = free_port()
    queue, log = tmp_path / "queue", tmp_path / "log"
    expected = {expected_uid([instance(study, SR).SOPInstanceUID]) for study in range(studies)}
    with archive.serve() as url:
        threading.Thread(target=alternate, args=(archive, stopped), daemon=True).start()
        sender = Sender(f"127.0.0.1:{port}", studies)
        sender.start()
        logged = ""
        for number in range(kills + 1):
            node = Process(run_node, queue, port, url, errors=log)
            # The share of the studies that are with the archive when it is killed.
            share = (number + generator.uniform()) / (kills + 1) if number < kills else 1.0
            ends = time.monotonic() + 120
            while len(archive.instances) < share * studies or (number == kills and pending(queue)):
                assert node.poll() is None and time.monotonic() < ends, log.read_text()
                time.sleep(0.005)
            node.kill()
            node.wait()
            logged += log.read_text()
        stopped.set()
        sender.join(10)
    assert {*archive.instances} == expected and not sender.remaining()
    state = StudyQueue(queue)
    with state.opened():
        # The last kill may have come before the instances were deleted.
        pass
    assert state.status()["states"] == {"receiving": 0, "ready": 0, "answered": 0, "delivered": studies, "failed": 0}
    answered = re.findall(r"study (\w+): answered", logged)
    assert len(answered) == len({*answered})
    kept = b"".join(path.read_bytes() for path in queue.rglob("*") if path.is_file())
    assert NAME not in logged and PATIENT not in logged and NAME.encode() not in kept


def pending(folder: Path) -> bool:
    state = StudyQueue(folder)
    state.scan()
    return bool(state.status()["studies"])

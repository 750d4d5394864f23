"""What callers may do to a node: unknown ones nothing, known ones no more than its bounds."""

import socket
import struct
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import Verification

from ggn_tf.dicom_node.receiver import Receiver, _read
from ggn_tf.dicom_node.study import Instance
from ggn_tf.dicom_node.study_queue import QueueFullError, QueueLimits, StudyQueue
from ggn_tf.errors import PacsError
from tests.support.node_studies import ARCHIVE, CT, NODE, SEG, SR, instance, options, send, whole_study

# pynetdicom leaves sockets of the callers open whose connections were refused.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
ASSOCIATE = 1


@contextmanager
def receiving(receive=None, **changes: object) -> Iterator[tuple[str, list[Instance]]]:
    received: list[Instance] = []
    receiver = Receiver(options(**{"pdu_s": 2.0, **changes}), receive or received.append)
    receiver.start()
    try:
        yield receiver.address, received
    finally:
        receiver.close()


def connect(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=5)


def conversation(address: str) -> list[bytes]:
    """The PDUs of a caller that sends a CT slice."""
    sent: list[bytes] = []
    entity = AE(ARCHIVE)
    entity.add_requested_context(CT, "1.2.840.10008.1.2.1")
    host, port = address.rsplit(":", 1)
    handlers = [(evt.EVT_DATA_SENT, lambda event: sent.append(event.data))]
    association = entity.associate(host, int(port), ae_title=NODE, evt_handlers=handlers)
    assert association.send_c_store(instance(0, CT)).Status == 0
    association.release()
    return sent


def test_known_callers_may_echo_and_store() -> None:
    with receiving() as (address, received):
        entity = AE(ARCHIVE)
        entity.add_requested_context(Verification)
        association = entity.associate("127.0.0.1", int(address.rsplit(":", 1)[1]), ae_title=NODE)
        assert association.send_c_echo().Status == 0
        association.release()
        assert send(address, whole_study(1)) == [0, 0, 0]
    assert [item.series is None for item in received] == [False, False, True]
    assert received[2].uid == instance(1, SR).SOPInstanceUID


@pytest.mark.parametrize(("calling", "called"), [("UNKNOWN", NODE), (ARCHIVE, "OTHER"), (ARCHIVE.lower(), NODE)])
def test_unknown_callers_and_other_titles_are_refused(calling: str, called: str) -> None:
    with receiving() as (address, received):
        assert send(address, whole_study(1), calling, called) == []
    assert not received


def changed(sop_class: str, **values: object) -> Dataset:
    dataset = instance(1, sop_class)
    with warnings.catch_warnings(action="ignore"):
        dataset.update(values)
    return dataset


@pytest.mark.parametrize(
    ("dataset", "status"),
    [
        (changed(CT, StudyInstanceUID=""), 0xC000),
        (changed(CT, SeriesInstanceUID="../../etc"), 0xC000),
        (changed(SR, StudyInstanceUID="1.2\\3.4"), 0xC000),
        # Our own.
        (changed(SR, Manufacturer="ggn_tf"), 0),
        (changed(SEG, Manufacturer="ggn_tf"), 0),
    ],
)
def test_what_is_not_stored_has_its_status(dataset: Dataset, status: int) -> None:
    with receiving() as (address, received):
        assert send(address, [dataset]) == [status]
    assert not received


def test_a_class_that_was_not_accepted_is_refused_in_an_accepted_context() -> None:
    dataset = changed(CT, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    request = SimpleNamespace(AffectedSOPClassUID=dataset.SOPClassUID, AffectedSOPInstanceUID=dataset.SOPInstanceUID)
    context = SimpleNamespace(transfer_syntax="1.2.840.10008.1.2.1")
    content = encode(dataset, False, True)
    assert _read(SimpleNamespace(encoded_dataset=lambda **_: content, context=context, request=request)) == 0xA900


@pytest.mark.parametrize("error", [QueueFullError(), OSError(28, "No space left on device"), MemoryError()])
def test_what_cannot_be_stored_now_may_be_sent_later(error: Exception) -> None:
    def refuse(item: Instance) -> None:
        raise error

    with receiving(refuse) as (address, _):
        assert send(address, [instance(1, CT)]) == [0xA700]


@pytest.mark.parametrize(
    ("limits", "statuses"),
    [
        (QueueLimits(instances=2), [0, 0, 0, 0xA700]),
        # An instance has 1.2 KB.
        (QueueLimits(total_bytes=3000), [0, 0, 0, 0xA700]),
        (QueueLimits(studies=0), [0xA700] * 4),
        (QueueLimits(spare_bytes=1 << 60), [0xA700] * 4),
    ],
)
def test_a_full_queue_takes_again_what_it_has_and_no_more(
    tmp_path: Path, limits: QueueLimits, statuses: list[int]
) -> None:
    queue = StudyQueue(tmp_path, limits)
    with queue.opened(), receiving(queue.receive) as (address, _):
        assert send(address, [instance(1, CT, number) for number in (0, 0, 1, 2)]) == statuses
    assert len([*tmp_path.rglob("*.dcm")]) == (2 if statuses[0] == 0 else 0)


def test_an_instance_that_is_too_large_ends_its_association_alone() -> None:
    large = instance(1, CT)
    large.PixelData = bytes(1 << 20)
    with receiving(instance_bytes=1 << 19) as (address, received):
        assert send(address, [large]) == [None]
        assert send(address, [instance(1, CT)]) == [0]
    assert len(received) == 1


def test_connections_and_associations_are_bounded() -> None:
    with receiving(associations=2, pdu_s=1.5) as (address, _):
        with closing(connect(address)), closing(connect(address)):
            # They have not said anything.
            time.sleep(0.2)
            assert send(address, [instance(1, CT)]) == []
            rest = [connect(address) for _ in range(3)]
            assert rest[-1].recv(1) == b"", "no connection is closed"
        for connection in rest:
            connection.close()
        ends = time.monotonic() + 5
        while not send(address, [instance(1, CT)]):
            assert time.monotonic() < ends, "their places do not become free"


@pytest.mark.parametrize("sent", [b"", b"\1\0\0\0\0\xff", b"\1\0\xff\xff\xff\xff", b"\4\0\0\0\1\0" + bytes(200)])
def test_a_caller_that_is_silent_slow_or_announces_too_much_is_disconnected(sent: bytes) -> None:
    with receiving(pdu_s=0.3) as (address, _), closing(connect(address)) as connection:
        connection.sendall(sent)
        begun = time.monotonic()
        with suppress(ConnectionResetError):
            while connection.recv(4096):
                pass
        assert time.monotonic() - begun < 2


def test_a_taken_port_is_one_error() -> None:
    with receiving() as (address, _), pytest.raises(PacsError) as caught:
        Receiver(options(int(address.rsplit(":", 1)[1])), lambda item: None)
    assert caught.value.arguments == ("port",)


def nested(levels: int) -> Dataset:
    dataset = inner = instance(1, SR)
    for _ in range(levels):
        inner.ContentSequence = Items([Dataset()])
        inner = inner.ContentSequence[0]
    return dataset


def malformed(pdus: list[bytes], generator: np.random.Generator) -> tuple[list[bytes], int]:
    """PDUs of which one is damaged, and its number."""
    pdus, number = list(pdus), int(generator.integers(len(pdus)))
    content, position = bytearray(pdus[number]), int(generator.integers(len(pdus[number])))
    kind = generator.integers(6)
    if kind == 0:
        for place in generator.integers(0, len(content), 1 + int(generator.integers(8))):
            content[place] = generator.integers(256)
    elif kind == 1:
        content = content[:position]
    elif kind == 2:
        content[2:6] = struct.pack(">L", int(generator.integers(2**32)))
    elif kind == 3:
        content[position : position + 4] = b"\xff\xff\xff\xff"
    elif kind == 4:
        content = bytearray(generator.bytes(int(generator.integers(1, 2000))))
    else:
        pdus.insert(number, pdus[int(generator.integers(len(pdus)))])
    pdus[number] = bytes(content)
    return pdus, number


def attack(address: str, pdus: list[bytes], damaged: int) -> None:
    with closing(connect(address)) as connection, suppress(OSError):
        for number, pdu in enumerate(pdus):
            connection.sendall(pdu)
            if pdu[:1] == bytes([ASSOCIATE]):
                # Data before the acceptance would not be read as such.
                connection.settimeout(0.02 if number == damaged else 2)
                connection.recv(4096)


def test_a_node_survives_500_malformed_associations_and_data_sets() -> None:
    generator = np.random.default_rng(0)
    with receiving(associations=100, pdu_s=1.0) as (address, received):
        threads = threading.active_count()
        pdus = conversation(address)
        for _ in range(500):
            attack(address, *malformed(pdus, generator))
        assert send(address, [nested(200)]) == [0xC000]
        ends = time.monotonic() + 10
        while threading.active_count() > threads:
            assert time.monotonic() < ends, "threads remain"
            time.sleep(0.05)
        assert send(address, [instance(1, CT)]) == [0]
    assert received[-1].uid == instance(1, CT).SOPInstanceUID

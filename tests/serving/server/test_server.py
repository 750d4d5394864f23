import asyncio
import queue
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import grpc
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ggn_tf.errors import ExportError, ServingError
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.runtime.batching import BatchingParameters
from ggn_tf.serving.runtime.predict_request import predict_in_parts
from ggn_tf.serving.runtime.servable import Servable, StatusError
from ggn_tf.serving.server.request_limits import RequestLimits
from ggn_tf.serving.server.server import HEALTH_SERVICES, ModelServer, ServerOptions
from ggn_tf.serving.server.services import PredictionService
from scripts.serving_load import ServerProcess

DEADLINE_S = 60
"""Longest wait; a test that passes stays far below it."""


def request_of(patches):
    request = predict_pb2.PredictRequest(output_filter=["probabilities"])
    request.model_spec.name = "ggn"
    request.inputs["hu"].CopyFrom(tf.make_tensor_proto(0.0, shape=(patches, 32, 32, 32, 1)))
    return request


def test_a_client_needs_no_deadline(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    assert stub.Predict(request_of(1)).model_spec.version.value == 1


def test_requests_at_the_same_time_all_get_a_response(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    with ThreadPoolExecutor(12) as pool:
        responses = list(pool.map(lambda size: stub.Predict(request_of(size), timeout=60), range(1, 13)))
    assert [len(response.outputs["probabilities"].float_val) for response in responses] == [3 * n for n in range(1, 13)]


@pytest.mark.parametrize("service", HEALTH_SERVICES)
def test_health_is_serving(service, channel):
    stub = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == 1


def test_a_swap_while_requests_come_loses_none(exported, tmp_path):
    folder = tmp_path / "ggn"
    shutil.copytree(exported, folder)
    shutil.copytree(exported / "1", tmp_path / "2")
    options = ServerOptions(port=0, poll_wait_seconds=0.05)
    with ModelServer(folder, options) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        seen = [stub.Predict(request_of(1), timeout=10).model_spec.version.value]
        (tmp_path / "2").rename(folder / "2")
        ends = time.monotonic() + 20
        while seen[-1] == 1 and time.monotonic() < ends:
            seen.append(stub.Predict(request_of(1), timeout=10).model_spec.version.value)
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "ggn"
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        while len(seen) < 1000 and _state_of_the_old(models, status) != 50:
            seen.append(stub.Predict(request_of(1), timeout=10).model_spec.version.value)
        states = [(s.version, s.state) for s in models.GetModelStatus(status, timeout=10).model_version_status]
    assert (seen[0], seen[-1]) == (1, 2)
    assert states == [(2, 30), (1, 50)]


def _state_of_the_old(models, request):
    return models.GetModelStatus(request, timeout=10).model_version_status[-1].state


class Gate:
    """Delays all runs of versions from when it is shut until it is opened."""

    def __init__(self):
        self.arrived = threading.Semaphore(0)
        self.opened = threading.Event()
        self.opened.set()


@pytest.fixture
def gate(monkeypatch):
    gate, run = Gate(), Servable.run

    def held(servable, feeds, fetches):
        gate.arrived.release()
        assert gate.opened.wait(DEADLINE_S)
        return run(servable, feeds, fetches)

    monkeypatch.setattr(Servable, "run", held)
    yield gate
    gate.opened.set()


def shut(gate):
    """Delay runs from now on; earlier ones, as the warm-up, do not count."""
    gate.arrived = threading.Semaphore(0)
    gate.opened.clear()


def refusal(stub):
    """The status code of a server that accepts no more requests."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "ggn"
    ends = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends:
        try:
            stub.GetModelMetadata(request, timeout=DEADLINE_S)
        except grpc.RpcError as error:
            return error.code()
        time.sleep(0.01)
    return None


def test_a_stop_completes_running_requests_and_refuses_new_ones(exported, gate):
    server = ModelServer(exported, ServerOptions(port=0))
    server.start()
    stopping = threading.Thread(target=server.stop, args=(DEADLINE_S,))
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        shut(gate)
        running = stub.Predict.future(request_of(2), timeout=DEADLINE_S)
        assert gate.arrived.acquire(timeout=DEADLINE_S)
        stopping.start()
        assert refusal(stub) == grpc.StatusCode.UNAVAILABLE
        assert not running.done()
        gate.opened.set()
        assert len(running.result().outputs["probabilities"].float_val) == 6
    stopping.join(DEADLINE_S)
    assert not stopping.is_alive()


def test_a_flood_is_refused_as_unavailable(exported, gate):
    options = ServerOptions(port=0, running=1, waiting=1)
    ended = queue.Queue()
    with ModelServer(exported, options) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        shut(gate)
        for _ in range(5):
            stub.Predict.future(request_of(1), timeout=DEADLINE_S).add_done_callback(ended.put)
        refused = [ended.get(timeout=DEADLINE_S).code() for _ in range(3)]
        gate.opened.set()
        completed = [ended.get(timeout=DEADLINE_S).code() for _ in range(2)]
    assert refused == [grpc.StatusCode.UNAVAILABLE] * 3
    assert completed == [grpc.StatusCode.OK] * 2


def in_one_part(work):
    return work()
    yield


async def started(limits, connection, work, *, large=False, size=0):
    """A request that has its turn or waits for it."""
    task = asyncio.ensure_future(limits.run(connection, in_one_part(work), large=large, size=size))
    await asyncio.sleep(0)
    return task


def test_requests_beyond_the_limits_are_unavailable():
    async def flood():
        limits, ended = RequestLimits(running=1, waiting=1), threading.Event()
        running = await started(limits, "a", lambda: ended.wait(DEADLINE_S))
        await started(limits, "a", lambda: ended.wait(DEADLINE_S))
        with pytest.raises(StatusError) as caught:
            await limits.run("a", in_one_part(lambda: ended.wait(DEADLINE_S)))
        assert caught.value.code == grpc.StatusCode.UNAVAILABLE
        ended.set()
        assert await running
        await limits.drain(DEADLINE_S)

    asyncio.run(flood())


class Message:
    """What a request keeps in memory."""


def test_a_request_cancelled_while_waiting_leaves_the_queue_with_its_message():
    async def leave():
        limits, ended = RequestLimits(running=1, waiting=1), threading.Event()
        await started(limits, "a", lambda: ended.wait(DEADLINE_S))
        for _ in range(100):
            message = Message()
            gone = weakref.ref(message)
            task = await started(limits, "a", partial(id, message))
            task.cancel()
            del message
            await asyncio.wait([task])
            assert task.cancelled()
            del task
            assert gone() is None
        waiting = await started(limits, "a", lambda: 7)
        ended.set()
        assert await waiting == 7
        await limits.drain(DEADLINE_S)

    asyncio.run(leave())


def test_a_request_that_fails_frees_its_slot():
    async def fail():
        limits = RequestLimits(running=1, waiting=0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await limits.run("a", in_one_part(lambda: 1 // 0))
        await limits.drain(DEADLINE_S)

    asyncio.run(fail())


def order_of(senders, seconds):
    """The order in which requests run that arrive at once, one at a time; each takes what its sender's do."""

    async def queue_up():
        limits, begun, order = RequestLimits(running=1, waiting=len(senders)), threading.Event(), []
        await started(limits, "first", lambda: begun.wait(DEADLINE_S))

        def work(sender):
            order.append(sender)
            time.sleep(seconds[sender])

        tasks = [await started(limits, sender, partial(work, sender)) for sender in senders]
        begun.set()
        await asyncio.gather(*tasks)
        return order

    return "".join(asyncio.run(queue_up()))


def test_a_connection_with_many_requests_delays_another_by_one():
    assert order_of("aaaaab", {"a": 0.01, "b": 0.01}) == "abaaaa"


def test_a_connection_with_large_requests_waits_until_others_have_used_as_much():
    assert order_of("aaabbb", {"a": 0.2, "b": 0.01}) == "abbbaa"


def test_large_requests_have_half_of_the_threads_while_small_ones_wait():
    async def queue_up():
        limits, ended, begun, order = RequestLimits(running=2, waiting=4), threading.Event(), threading.Event(), []
        tasks = [
            await started(limits, "a", lambda: ended.wait(DEADLINE_S), large=True),
            await started(limits, "b", lambda: begun.wait(DEADLINE_S)),
            await started(limits, "c", lambda: order.append("large"), large=True),
            await started(limits, "b", lambda: order.append("small")),
        ]
        begun.set()
        # Without small ones the large ones take every thread.
        await asyncio.gather(*tasks[1:])
        ended.set()
        await tasks[0]
        return order

    assert asyncio.run(queue_up()) == ["small", "large"]


def test_no_thread_idles_while_requests_wait():
    async def queue_up():
        limits, together = RequestLimits(running=2, waiting=20), threading.Barrier(2, timeout=DEADLINE_S)
        await (await started(limits, "one at a time", lambda: None))
        await asyncio.gather(*[await started(limits, "many", together.wait) for _ in range(14)])
        await limits.drain(DEADLINE_S)

    asyncio.run(queue_up())


LIMITS = "ggn_tf.serving.server.request_limits."


async def waste(limits, connection, count):
    for _ in range(count):
        with pytest.raises(StatusError):
            await limits.run(connection, in_one_part(partial(refuse, grpc.StatusCode.NOT_FOUND)))


def test_a_request_that_leaves_while_it_is_delayed_is_not_wasted(monkeypatch):
    monkeypatch.setattr(LIMITS + "_DELAY_S", 0.5)

    async def leave():
        limits = RequestLimits(running=1, waiting=4)
        await waste(limits, "a", 1)
        for _ in range(20):
            task = await started(limits, "a", lambda: None)
            task.cancel()
            await asyncio.wait([task])
        return await asyncio.wait_for(limits.run("a", in_one_part(lambda: "served")), 5)

    assert asyncio.run(leave()) == "served"


def test_wasted_requests_are_forgiven_after_a_time(monkeypatch):
    monkeypatch.setattr(LIMITS + "_WASTED_S", 0.1)

    async def wait():
        limits = RequestLimits(running=1, waiting=4)
        await waste(limits, "a", 3)
        await asyncio.sleep(0.2)
        monkeypatch.setattr(LIMITS + "_DELAY_S", DEADLINE_S)
        return await asyncio.wait_for(limits.run("a", in_one_part(lambda: "served")), 5)

    assert asyncio.run(wait()) == "served"


def test_a_wasted_request_is_forgiven_once(monkeypatch):
    now = 0.0
    monkeypatch.setattr(LIMITS + "time", SimpleNamespace(monotonic=lambda: now))

    async def wait():
        nonlocal now
        limits, order = RequestLimits(running=1, waiting=4), []
        await waste(limits, "a", 1)
        await limits.run("a", in_one_part(lambda: "served"))
        now = 6.0
        await waste(limits, "a", 1)
        now = 11.0
        tasks = [await started(limits, sender, partial(order.append, sender)) for sender in "ab"]
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(wait()) == ["b", "a"]


def test_a_refused_request_that_leaves_at_once_frees_no_thread():
    async def leave():
        limits, ended = RequestLimits(running=1, waiting=2), threading.Event()
        tasks = [await started(limits, "a", lambda: ended.wait(DEADLINE_S)) for _ in range(3)]
        other = asyncio.ensure_future(limits.run("b", in_one_part(lambda: "served")))
        asyncio.get_running_loop().call_soon(tasks[-1].cancel)
        await asyncio.wait(tasks[-1:])
        assert isinstance(tasks[-1].exception(), StatusError)
        with pytest.raises(StatusError, match="queue is full"):
            await limits.run("c", in_one_part(lambda: "served"))
        ended.set()
        assert await other == "served"
        await asyncio.gather(*tasks[:-1])
        await limits.drain(DEADLINE_S)

    asyncio.run(leave())


def test_a_client_that_abandons_requests_is_delayed_until_it_has_waited_for_as_many(monkeypatch):
    async def leave():
        limits, order = RequestLimits(running=1, waiting=4), []
        for _ in range(3):
            task = await started(limits, "a", partial(time.sleep, 0.005))
            task.cancel()
            await asyncio.wait([task])
        monkeypatch.setattr(LIMITS + "_DELAY_S", 0.3)
        gone = await started(limits, "a", partial(order.append, "gone"))
        slow = await started(limits, "a", partial(order.append, "slow"))
        await limits.run("b", in_one_part(partial(order.append, "other")))
        gone.cancel()
        # A stop waits for it.
        await asyncio.gather(slow, limits.drain(DEADLINE_S))
        return order

    assert asyncio.run(leave()) == ["other", "slow"]


def refuse(code, **fault):
    raise StatusError(code, "It is refused.", **fault)


def fail(error):
    raise error


@pytest.mark.parametrize(
    "wasted",
    [
        partial(time.sleep, 0.005),
        partial(refuse, grpc.StatusCode.INVALID_ARGUMENT),
        partial(refuse, grpc.StatusCode.NOT_FOUND),
        partial(refuse, grpc.StatusCode.FAILED_PRECONDITION),
        partial(refuse, grpc.StatusCode.OUT_OF_RANGE),
        partial(refuse, grpc.StatusCode.INTERNAL, by_client=True),
    ],
)
def test_wasted_requests_are_forgiven_by_a_response(wasted):
    async def wait():
        limits, order = RequestLimits(running=1, waiting=4), []
        task = await started(limits, "a", wasted)
        if wasted.func is time.sleep:
            task.cancel()
        await asyncio.wait([task])
        for name in ("delayed", "at once"):
            tasks = [await started(limits, sender, partial(order.append, (name, sender))) for sender in "ab"]
            await asyncio.gather(*tasks)
        await limits.drain(DEADLINE_S)
        return order

    assert asyncio.run(wait()) == [("delayed", "b"), ("delayed", "a"), ("at once", "a"), ("at once", "b")]


@pytest.mark.parametrize(
    "parts",
    [
        PredictionService(None, None, None)._predict(b"\x12"),
        predict_in_parts(
            Servable("ggn", 1, None, {"init": meta_graph_pb2.SignatureDef()}),
            predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(signature_name="init")),
        ),
    ],
)
def test_a_wrong_request_that_tensorflow_serving_calls_internal(parts):
    with pytest.raises(StatusError) as caught:
        next(parts)
    assert caught.value.code == grpc.StatusCode.INTERNAL and caught.value.by_client


@pytest.mark.parametrize(
    "failing",
    [
        partial(refuse, grpc.StatusCode.UNAVAILABLE),
        partial(refuse, grpc.StatusCode.RESOURCE_EXHAUSTED),
        partial(refuse, grpc.StatusCode.INTERNAL),
        partial(refuse, grpc.StatusCode.UNIMPLEMENTED),
        partial(fail, MemoryError()),
    ],
)
def test_a_failure_of_the_server_is_no_waste(failing):
    async def wait():
        limits = RequestLimits(running=1, waiting=4)
        with pytest.raises((StatusError, MemoryError)):
            await limits.run("a", in_one_part(failing))
        order = []
        tasks = [await started(limits, sender, partial(order.append, sender)) for sender in "ab"]
        await asyncio.gather(*tasks)
        await limits.drain(DEADLINE_S)
        return order

    assert asyncio.run(wait()) == ["a", "b"]


async def parts_in_turns(requests, cancelled=""):
    """The order of the parts of requests that arrive at once: the number of parts by connection."""
    limits, begun, order = RequestLimits(running=1, waiting=len(requests)), threading.Event(), []
    await started(limits, "first", lambda: begun.wait(DEADLINE_S))

    def work(sender, count):
        for number in range(count):
            if number:
                yield
            order.append(sender)
            time.sleep(0.02)
        return sender

    tasks = {sender: asyncio.ensure_future(limits.run(sender, work(sender, n))) for sender, n in requests.items()}
    await asyncio.sleep(0)
    begun.set()
    if cancelled:
        while cancelled not in order:
            await asyncio.sleep(0.001)
        tasks.pop(cancelled).cancel()
    assert await asyncio.gather(*tasks.values()) == list(tasks)
    await limits.drain(DEADLINE_S)
    return "".join(order)


def test_a_large_request_lets_others_pass_between_its_parts():
    assert asyncio.run(parts_in_turns({"a": 4, "b": 1, "c": 1})) == "abcaaa"


def test_a_request_of_a_client_that_left_ends_after_the_part_that_runs():
    assert asyncio.run(parts_in_turns({"a": 50, "b": 1}, cancelled="a")).count("a") <= 2


def test_no_more_large_requests_are_interrupted_than_may_be_in_memory():
    names = "abcdefghijkl"
    order = asyncio.run(parts_in_turns(dict.fromkeys(names, 3)))
    assert order.startswith("abcdefgh" + "iiijjjkkklll") and sorted(order) == sorted(names * 3)


def test_a_full_queue_refuses_the_connection_that_fills_it():
    async def flood():
        limits, ended = RequestLimits(running=1, waiting=4), threading.Event()
        tasks = [await started(limits, "a", lambda: ended.wait(DEADLINE_S)) for _ in range(5)]
        other = await started(limits, "b", lambda: "served")
        with pytest.raises(StatusError, match="queue is full"):
            await tasks[-1]
        ended.set()
        assert await other == "served"
        await asyncio.gather(*tasks[:-1])
        await limits.drain(DEADLINE_S)

    asyncio.run(flood())


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        ([("a", 4), ("a", 4), ("b", 1), ("b", 1), ("c", 4)], 1),
        # To end the second would not make room for the third.
        ([("a", 4), ("a", 4), ("b", 7)], 2),
    ],
)
def test_a_queue_with_too_many_bytes_refuses_the_connection_with_most_of_them(sent, refused):
    async def flood():
        limits, ended = RequestLimits(running=1, waiting=9, waiting_bytes=10 << 20), threading.Event()
        await started(limits, "a", lambda: ended.wait(DEADLINE_S))
        waiting = [await started(limits, sender, partial(str, sender), size=size << 20) for sender, size in sent]
        with pytest.raises(StatusError, match="queue is full"):
            await waiting.pop(refused)
        with pytest.raises(StatusError, match="queue is full: no more than 9 requests wait, of 10 MiB"):
            await limits.run("d", in_one_part(lambda: "too large"), size=10 << 20)
        ended.set()
        assert await asyncio.gather(*waiting) == [name for number, (name, _) in enumerate(sent) if number != refused]
        await limits.drain(DEADLINE_S)

    asyncio.run(flood())


@pytest.mark.parametrize("waiting", [0, 1])
def test_a_server_that_is_idle_refuses_no_large_request_of_a_client_that_sent_a_wrong_one(waiting):
    async def wrong():
        limits = RequestLimits(running=1, waiting=waiting, waiting_bytes=10)
        with pytest.raises(StatusError):
            await limits.run("a", in_one_part(partial(refuse, grpc.StatusCode.NOT_FOUND)))
        assert await limits.run("a", in_one_part(lambda: "served"), size=10) == "served"
        await limits.drain(DEADLINE_S)

    asyncio.run(wrong())


@pytest.mark.parametrize(("wasted", "reason"), [(0, "queue is full"), (1, "are delayed: no more than 1 at a time")])
def test_a_refused_request_leaves_its_message_at_once(wasted, reason):
    async def refused():
        limits, ended = RequestLimits(running=1, waiting=0, waiting_bytes=1), threading.Event()
        for _ in range(wasted):
            with pytest.raises(StatusError):
                await limits.run("b", in_one_part(partial(refuse, grpc.StatusCode.NOT_FOUND)))
        await started(limits, "a", lambda: ended.wait(DEADLINE_S))
        others = [await started(limits, "b", partial(str, "delayed")) for _ in range(wasted)]
        message = Message()
        gone = weakref.ref(message)
        task = await started(limits, "b", partial(id, message), size=2)
        del message
        await asyncio.sleep(0)
        assert gone() is None and not task.done()
        with pytest.raises(StatusError, match=reason):
            await task
        ended.set()
        await asyncio.gather(*others, return_exceptions=True)
        await limits.drain(DEADLINE_S)

    asyncio.run(refused())


def test_a_full_queue_refuses_no_request_that_was_just_cancelled():
    async def leave():
        limits, ended = RequestLimits(running=1, waiting=2), threading.Event()
        tasks = [await started(limits, "a", lambda: ended.wait(DEADLINE_S)) for _ in range(3)]
        other = asyncio.ensure_future(limits.run("b", in_one_part(lambda: "served")))
        # It leaves the queue only after the other has looked for room.
        tasks[-1].cancel()
        await asyncio.sleep(0)
        ended.set()
        assert await other == "served"
        await asyncio.gather(*tasks[:-1])
        await limits.drain(DEADLINE_S)

    asyncio.run(leave())


def test_a_folder_without_versions_is_refused(tmp_path):
    (tmp_path / "assets").mkdir()
    with pytest.raises(ExportError) as caught:
        ModelServer(tmp_path, ServerOptions(port=0)).start()
    assert caught.value.found == "assets"


def test_a_first_version_that_does_not_load_is_refused(tmp_path):
    (tmp_path / "3").mkdir()
    with pytest.raises(ServingError) as caught:
        ModelServer(tmp_path, ServerOptions(port=0)).start()
    assert caught.value.found.startswith("version 3: ")


def test_a_port_that_is_taken_is_refused(exported, server):
    second = ModelServer(exported, ServerOptions(port=server.port))
    with pytest.raises(ServingError) as caught:
        second.start()
    assert caught.value.case == f"127.0.0.1:{server.port}"
    assert caught.value.arguments == ("port",)


def test_it_listens_on_loopback_by_default():
    assert ServerOptions().host == "127.0.0.1"


@pytest.mark.nightly
def test_tensorflow_keeps_a_thread_for_each_core_that_a_request_may_use(exported):
    """Independent of the machine's cores."""
    flag = "--tensorflow_intra_op_parallelism"
    with ServerProcess(exported, f"{flag}=1") as one, ServerProcess(exported, f"{flag}=3") as three:
        ends = time.monotonic() + 30
        # The number of gRPC's own threads varies.
        while three.threads - one.threads != 2 and time.monotonic() < ends:
            time.sleep(0.1)
        assert three.threads - one.threads == 2


@pytest.mark.parametrize(
    ("cores", "cores_each", "batching", "threads"),
    [(1, 0, None, 2), (8, 0, None, 4), (8, 1, None, 8), (8, 16, None, 2), (8, 1, BatchingParameters(24), 48)],
)
def test_running_requests_have_cores(cores, cores_each, batching, threads, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert ServerOptions(batching=batching, cores_each=cores_each).threads == threads


def test_a_folder_that_cannot_be_read_ends_the_start(exported, monkeypatch):
    """A file may vanish between its name and its time."""
    monkeypatch.setattr("ggn_tf.serving.server.version_manager.list_versions", gone)
    with pytest.raises(ServingError) as caught:
        ModelServer(exported, ServerOptions(port=0)).start()
    assert caught.value.found == "it cannot be read"


def gone(folder):
    raise FileNotFoundError(folder)


def test_another_programs_inputs_need_not_lead_with_a_batch(tmp_path):
    """TensorFlow Serving accepts them: a number for all rows, and a table."""

    class Scaling(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 2], name="x"),
                tf.TensorSpec([], name="factor"),
                tf.TensorSpec([2], name="table"),
            ]
        )
        def serve(self, x, factor, table):
            return {"y": factor * x + table}

    module = Scaling()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ggn"
    for name, value in (("x", [[1.0, 2.0]]), ("factor", 3.0), ("table", [10.0, 20.0])):
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    options = ServerOptions(port=0, trust=Trust(any_program=True))
    with ModelServer(tmp_path, options) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    assert list(response.outputs["y"].float_val) == [13.0, 26.0]

"""Cutting the patches of a whole case table, in several processes; its workers never import TensorFlow."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.patches import Patch, cut_patch
from ggn_tf.cases.repair import STRICT, Allowance
from ggn_tf.cases.table import Case
from ggn_tf.errors import DatasetError, GgnError, MaskError
from ggn_tf.protocol import PatchProtocol

# Results that wait for their turn: enough to keep the workers busy behind one slow CT, and no more memory than that.
_AHEAD_PER_JOB = 16


def prepare_cases(
    cases: Sequence[Case], protocol: PatchProtocol, jobs: int, allowance: Allowance = STRICT
) -> Generator[tuple[Case, Patch | GgnError], None, None]:
    """Cut every case's patch.

    Args:
        cases: The rows of a table.
        protocol: How to cut.
        jobs: Processes; 1 works in this one.
        allowance: What may be put right instead of being refused.

    Yields:
        Each case with its patch, or with the error that rejects it, in the order of `cases`.

    Raises:
        DatasetError: A worker process died.
    """
    if jobs == 1:
        yield from ((case, prepare_case(case, protocol, allowance)) for case in cases)
        return
    # Not forked: a fork of a process with TensorFlow's threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
        waiting: deque[tuple[Case, Future[Patch | GgnError]]] = deque()
        try:
            for case in cases:
                with _interrupts_held():
                    waiting.append((case, pool.submit(prepare_case, case, protocol, allowance)))
                if len(waiting) == jobs * _AHEAD_PER_JOB:
                    yield _next(waiting)
            while waiting:
                yield _next(waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def prepare_case(case: Case, protocol: PatchProtocol, allowance: Allowance = STRICT) -> Patch | GgnError:
    """Cut one case's patch; what is wrong with the case is returned, not raised."""
    try:
        if case.mask is None:
            raise MaskError(
                "The case has no mask.",
                case=case.case_id,
                found="a centre only",
                expected="a mask of the nodule, which the segmentation learns from",
                remedy="Segment the nodule, or leave the case out; a centre is enough for ggn-tf predict.",
            )
        return cut_patch(
            case.image,
            protocol,
            mask_path=case.mask,
            segment=case.segment,
            center_mm_lps=case.center_mm_lps,
            series=case.series,
            allowance=allowance,
            case=case.case_id,
        )
    except GgnError as error:
        return error


def _next(waiting: deque[tuple[Case, Future[Patch | GgnError]]]) -> tuple[Case, Patch | GgnError]:
    case, future = waiting.popleft()
    try:
        return case, future.result()
    except BrokenProcessPool as error:
        raise DatasetError(
            "A worker process died.",
            case=case.case_id,
            found="a process that ended without an answer: often, the system's memory ran out",
            remedy="Repeat with fewer --jobs; with --jobs 1 the case that is to blame comes last.",
        ) from error


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let a process that is started inside inherit that Ctrl-C waits, until it can say so itself.

    Ctrl-C reaches the whole process group. The parent ends the workers; one that is still importing when it comes
    would print a traceback for each.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One process a core is faster than one resampling on all of them.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

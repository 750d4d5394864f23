"""Cuts the patches of a case table in several processes; its workers never import TensorFlow."""

import errno
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress

import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.repair import STRICT, RepairPolicy
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import Patch, cut_patch_from, cut_patches
from ggn_tf.cases.remote import fetched, url_of
from ggn_tf.cases.table import Case
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import DatasetError, GgnError, MaskError, VolumeError
from ggn_tf.protocol import PatchProtocol

# Results that wait for their turn: enough to keep the workers busy behind one slow CT, within bounded memory.
_AHEAD_PER_JOB = 16
# Largest number of nodules of one CT that a worker cuts together.
_GROUP = 16

# Errors of the machine, a disk or a network drive, which the next case would meet as well.
_NOT_OF_A_CASE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT),
)

_Outcome = Patch | GgnError


def prepare_cases(
    cases: Sequence[Case],
    protocol: PatchProtocol,
    jobs: int,
    repair_policy: RepairPolicy = STRICT,
    *,
    radiomics: bool = False,
) -> Generator[tuple[Case, Patch | GgnError], None, None]:
    """Cut every case's patch; a compressed CT of neighbouring rows is decompressed once.

    Args:
        cases: The rows of a table.
        protocol: How to cut.
        jobs: Number of processes; 1 works in this one.
        repair_policy: What may be repaired instead of being refused.
        radiomics: Whether to measure the masks' radiomic features too.

    Yields:
        Each case with its patch, or with the error that rejects it, in the order of `cases`.

    Raises:
        DatasetError: A worker process died, or the storage of a URL does not respond.
        OSError: The machine, a disk or a network drive failed.
    """
    groups = groups_of(cases)
    if jobs == 1:
        for group in groups:
            yield from zip(group, prepare_group(group, protocol, repair_policy, radiomics), strict=True)
        return
    # Not forked: the fork of a process with TensorFlow's threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
        waiting: deque[tuple[list[Case], Future[list[_Outcome]]]] = deque()
        try:
            for group in groups:
                with _interrupts_blocked():
                    waiting.append((group, pool.submit(prepare_group, group, protocol, repair_policy, radiomics)))
                if len(waiting) == jobs * _AHEAD_PER_JOB:
                    yield from _next(waiting)
            while waiting:
                yield from _next(waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def groups_of(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """Neighbouring cases that are cut together, in the order of `cases`: those with the same compressed CT."""
    for image, same in itertools.groupby(cases, key=lambda case: case.image):
        # In a DICOM folder each nodule may belong to another series, and only its own slices are read.
        size = _GROUP if image.suffix.lower() == ".gz" else 1
        while group := list(itertools.islice(same, size)):
            yield group


def prepare_group(
    cases: Sequence[Case], protocol: PatchProtocol, repair_policy: RepairPolicy = STRICT, radiomics: bool = False
) -> list[_Outcome]:
    """Cut the patches of cases of one CT, as `prepare_case`; CTs and masks may be at URLs."""
    if any(url_of(path) for case in cases for path in (case.image, case.mask) if path):
        with fetched(cases) as copies:
            outcomes = iter(
                prepare_group([case for case in copies if isinstance(case, Case)], protocol, repair_policy, radiomics)
            )
            return [copy if isinstance(copy, GgnError) else next(outcomes) for copy in copies]
    if len(cases) > 1 and all(case.mask for case in cases):
        targets = [NoduleTarget(case.mask, case.segment, case.center_mm_lps) for case in cases]
        # After an error each is cut alone, so that only the wrong nodule is rejected.
        with suppress(GgnError, OSError, UnicodeError):
            volume = open_volume(cases[0].image, repair=repair_policy.repair)
            return list(cut_patches(volume, targets, protocol, repair_policy, radiomics=radiomics))
    return [prepare_case(case, protocol, repair_policy, radiomics) for case in cases]


def prepare_case(
    case: Case, protocol: PatchProtocol, repair_policy: RepairPolicy = STRICT, radiomics: bool = False
) -> Patch | GgnError:
    """Cut one case's patch; an error about the case is returned, not raised."""
    try:
        if case.mask is None:
            raise MaskError(
                "The case has no mask.",
                case=case.case_id,
                found="a centre only",
                expected="a mask of the nodule: the segmentation learns from it",
                remedy="Segment the nodule, or remove the case; a centre alone is enough for prediction.",
            )
        target = NoduleTarget(case.mask, case.segment, case.center_mm_lps, case.case_id)
        return cut_patch_from(case.image, target, protocol, repair_policy, series=case.series, radiomics=radiomics)
    except GgnError as error:
        return error
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and _is_of_the_machine(error, case):
            raise
        return VolumeError(
            "The CT or the mask cannot be opened.",
            case=f"{case.case_id} ({case.image})",
            found=error.strerror if isinstance(error, OSError) and error.strerror else error,
            expected="paths that can be opened",
            remedy="Correct the path or the permissions; paths in a case table are relative to the table.",
        )


def _is_of_the_machine(error: OSError, case: Case) -> bool:
    if error.errno != errno.EIO:
        return error.errno in _NOT_OF_A_CASE
    # A damaged sector concerns one file; a disk or drive that is gone lists no folder either.
    try:
        for path in (case.image, case.mask or case.image):
            next(path.parent.iterdir(), None)
    except (OSError, ValueError) as further:
        return getattr(further, "errno", None) in (errno.EIO, *_NOT_OF_A_CASE)
    return False


def _next(waiting: deque[tuple[list[Case], Future[list[_Outcome]]]]) -> list[tuple[Case, _Outcome]]:
    group, future = waiting.popleft()
    try:
        return list(zip(group, future.result(), strict=True))
    except BrokenProcessPool as error:
        raise DatasetError(
            "A worker process died.",
            case=group[0].case_id,
            found="a process that ended without a result; often because memory ran out",
            remedy="Repeat with fewer jobs; with one job the case that caused it is the last.",
            arguments=("jobs",),
        ) from error


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start processes with Ctrl-C blocked, until they ignore it themselves.

    Ctrl-C reaches the whole process group. The parent ends the workers; a worker that is still importing when it
    arrives would print a traceback.
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
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # One process per core is faster than resampling on all cores.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _end_with_parent() -> None:
    """End this process when its parent is killed; otherwise it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

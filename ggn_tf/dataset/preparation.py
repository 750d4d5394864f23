"""Cuts the patches of a case table in processes of their own, which never import TensorFlow."""

import errno
import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from queue import SimpleQueue

from ggn_tf.cases.masks import refuse_missing_mask
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import CutOptions, Patch, cut_patch_from, cut_patches
from ggn_tf.cases.reader_process import ReaderEndedError, ReaderProcess, restart_time
from ggn_tf.cases.remote import fetched, url_of
from ggn_tf.cases.tables.table import Case
from ggn_tf.cases.volumes import naming_case, open_volume, refuse_missing_ct
from ggn_tf.errors import GgnError, MaskError, VolumeError
from ggn_tf.protocol import PatchProtocol

# A dataset needs the digests of its CTs, which tell whether patients share one.
OF_A_DATASET = CutOptions(ct_digest=True)
# Results that wait for their turn: enough to keep the workers busy behind one slow CT, within bounded memory.
_AHEAD_PER_JOB = 16
# Largest number of nodules of one CT that a worker cuts together.
_GROUP = 16

# Errors of the machine, a disk or a network drive, which the next case would meet as well.
_NOT_OF_A_CASE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT),
)

_RELATIVE = "paths in a case table are relative to the table"

_Outcome = Patch | GgnError


def prepare_cases(
    cases: Sequence[Case], protocol: PatchProtocol, jobs: int, options: CutOptions = OF_A_DATASET
) -> Generator[tuple[Case, Patch | GgnError], None, None]:
    """Cut every case's patch; a compressed CT of neighbouring rows is decompressed once.

    Args:
        cases: The rows of a table.
        protocol: How to cut.
        jobs: Number of processes that read; none of them is this one, which no file can end.
        options: What may be repaired, and what is measured.

    Yields:
        Each case with its patch, or with the error that rejects it, in the order of `cases`.

    Raises:
        DatasetError: The storage of a URL does not respond.
        OSError: The machine, a disk or a network drive failed.
    """
    readers: SimpleQueue[ReaderProcess] = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(jobs):
            readers.put(stack.enter_context(ReaderProcess()))
        # Each thread waits for a process of its own.
        pool = ThreadPoolExecutor(jobs, "ggn-tf-reader")
        # Before the processes end, so that no thread takes another.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)

        def cut(group: list[Case]) -> list[_Outcome]:
            reader = readers.get()
            try:
                return cut_group(reader, group, protocol, options)
            finally:
                readers.put(reader)

        waiting: deque[tuple[list[Case], Future[list[_Outcome]]]] = deque()
        for group in groups_of(cases):
            waiting.append((group, pool.submit(cut, group)))
            if len(waiting) == jobs * _AHEAD_PER_JOB:
                yield from _next(waiting)
        while waiting:
            yield from _next(waiting)


def groups_of(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """Neighbouring cases that are cut together, in the order of `cases`: those with the same compressed CT."""
    for image, same in itertools.groupby(cases, key=lambda case: case.image):
        # In a DICOM folder each nodule may belong to another series, and only its own slices are read.
        size = _GROUP if image.suffix.lower() == ".gz" else 1
        while group := list(itertools.islice(same, size)):
            yield group


def cut_group(
    reader: ReaderProcess, cases: Sequence[Case], protocol: PatchProtocol, options: CutOptions
) -> list[_Outcome]:
    """Cut the patches of cases of one CT in another process; CTs and masks may be at URLs.

    A case whose file ends the process is rejected.
    """
    if any(url_of(path) for case in cases for path in (case.image, case.mask) if path):
        with fetched(cases) as copies:
            here = [case for case in copies if isinstance(case, Case)]
            outcomes = iter(cut_group(reader, here, protocol, options))
            return [copy if isinstance(copy, GgnError) else next(outcomes) for copy in copies]
    if not cases:
        return []
    try:
        return reader.run(prepare_group, cases, protocol, options)
    except ReaderEndedError as error:
        if len(cases) > 1:
            # One of them caused it.
            return [outcome for case in cases for outcome in cut_group(reader, [case], protocol, options)]
        return [_ended(cases[0], error)]


def prepare_group(cases: Sequence[Case], protocol: PatchProtocol, options: CutOptions = OF_A_DATASET) -> list[_Outcome]:
    """Cut the patches of cases of one CT, as `prepare_case`."""
    if len(cases) > 1 and all(case.mask for case in cases):
        targets = [NoduleTarget(case.mask, case.segment, case.center_mm_lps) for case in cases]
        # After an error, of whatever type, each is cut alone, so that only the wrong nodule is rejected.
        with suppress(Exception):
            volume = open_volume(cases[0].image, repair=options.repair_policy.repair)
            return list(cut_patches(volume, targets, protocol, options))
    return [prepare_case(case, protocol, options) for case in cases]


def prepare_case(case: Case, protocol: PatchProtocol, options: CutOptions = OF_A_DATASET) -> Patch | GgnError:
    """Cut one case's patch; an error about the case is returned, not raised."""
    restart_time()
    try:
        if case.mask is None:
            raise MaskError(
                "The case has no mask.",
                case=case.case_id,
                found="a centre only",
                expected="a mask of the nodule: the segmentation learns from it",
                remedy="Segment the nodule, or remove the case; a centre alone is enough for prediction.",
            )
        with naming_case(case.case_id):
            refuse_missing_ct(case.image, f"Correct the path; {_RELATIVE}.")
            refuse_missing_mask(case.mask, f"Correct the path; {_RELATIVE}.")
        target = NoduleTarget(case.mask, case.segment, case.center_mm_lps, case.case_id)
        return cut_patch_from(case.image, target, protocol, options, series=case.series)
    except GgnError as error:
        return error
    except MemoryError:
        raise
    except Exception as error:
        # Readers of damaged files raise any type.
        if isinstance(error, OSError) and _is_of_the_machine(error, case):
            raise
        if not isinstance(error, (OSError, UnicodeError)):
            return VolumeError(
                "The CT or the mask cannot be read.",
                case=f"{case.case_id} ({case.image})",
                found=f"{type(error).__name__}: {error}",
                expected="undamaged files",
                remedy="Export the CT and the mask again.",
            )
        return VolumeError(
            "The CT or the mask cannot be opened.",
            case=f"{case.case_id} ({case.image})",
            found=error.strerror if isinstance(error, OSError) and error.strerror else error,
            expected="paths that can be opened",
            remedy=f"Correct the path or the permissions; {_RELATIVE}.",
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
    return list(zip(group, future.result(), strict=True))


def _ended(case: Case, error: ReaderEndedError) -> VolumeError:
    return VolumeError(
        "The process that read the case's files ended.",
        case=f"{case.case_id} ({case.image})",
        found=f"{error}, while it read {case.image} and {case.mask}",
        expected="files that can be read within the memory of this machine",
        remedy="Export the CT and the mask again. If memory ran out, repeat with fewer processes.",
        arguments=("jobs",),
    )

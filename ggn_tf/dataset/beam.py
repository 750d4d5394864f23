"""Cuts the patches of a case table on several machines by Apache Beam.

Beam's workers cut blocks of neighbouring cases by the function that the process pool runs, and write the results into a
staging folder. The caller reads them in the order of the table, so the dataset is the same to the bit.
"""

import itertools
import pickle
import shutil
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import apache_beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from ggn_tf.cases.patches import PLAIN_CUT, CutOptions, Patch
from ggn_tf.cases.reader_process import ReaderProcess
from ggn_tf.cases.tables.table import Case
from ggn_tf.dataset.preparation import cut_group, groups_of
from ggn_tf.errors import DatasetError, GgnError
from ggn_tf.protocol import PatchProtocol

# Number of groups in a staged file, usually 10 MB of patches; less where that keeps more workers busy.
_MOST_GROUPS = 64
_LOCAL_RUNNERS = ("DirectRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner", "InteractiveRunner")


class _Work(NamedTuple):
    """How every block is cut."""

    staging: str
    protocol: PatchProtocol
    options: CutOptions


def prepare_by_beam(
    cases: Sequence[Case],
    protocol: PatchProtocol,
    beam_options: Sequence[str] = (),
    options: CutOptions = PLAIN_CUT,
    *,
    staging: str | None = None,
) -> Generator[tuple[Case, Patch | GgnError], None, None]:
    """Cut every case's patch, as `prepare_cases`; one block of patches is in memory at a time.

    Without `beam_options`, Beam's pipeline options as on its command line, its DirectRunner is used. `staging` is the
    path or URL of a new folder that the workers and this process reach, and is deleted at the end; None uses a
    temporary folder on this machine.

    Yields:
        Each case with its patch, or with the error that rejects it, in the order of `cases`.

    Raises:
        DatasetError: Workers on other machines cannot reach the staging folder, it exists, or the pipeline failed.
    """
    pipeline_options = PipelineOptions(list(beam_options))
    _check_reachable(pipeline_options, staging)
    with _staging_folder(staging) as folder:
        work = _Work(folder, protocol, options)
        count = 0
        for count, block in enumerate(_blocks(cases), start=1):
            _write(_cases_name(folder, count - 1), block)
        _cut_blocks(count, work, pipeline_options)
        for number in range(count):
            yield from _read(_patches_name(folder, number))


def cut_block(number: int, work: _Work) -> None:
    """Cut the cases of a staged block and stage the results; a repeated attempt writes the same file."""
    with ReaderProcess() as reader:
        outcomes = [
            outcome
            for group in _read(_cases_name(work.staging, number))
            for outcome in zip(group, cut_group(reader, group, work.protocol, work.options), strict=True)
        ]
    _write(_patches_name(work.staging, number), outcomes)


def _cut_blocks(count: int, work: _Work, options: PipelineOptions) -> None:
    try:
        with apache_beam.Pipeline(options=options) as pipeline:
            numbers = pipeline | apache_beam.Create(range(count), reshuffle=True)
            numbers | apache_beam.Map(cut_block, work)
    except Exception as error:
        # Of any type: workers, runners and their services raise their own.
        raise DatasetError(
            "Beam's pipeline failed.",
            found=(str(error).strip() or type(error).__name__).splitlines()[0],
            expected="a runner that starts, and storage that can be read and written",
            remedy="Read the workers' logs; repeat with local processes to learn whether a case causes it.",
            arguments=("runner",),
        ) from error


def _blocks(cases: Sequence[Case]) -> Iterator[list[list[Case]]]:
    groups = groups_of(cases)
    size = max(1, min(_MOST_GROUPS, len(cases) // _MOST_GROUPS))
    while block := list(itertools.islice(groups, size)):
        yield block


def _check_reachable(options: PipelineOptions, staging: str | None) -> None:
    runner = options.view_as(StandardOptions).runner or "DirectRunner"
    if staging is None and runner not in _LOCAL_RUNNERS:
        raise DatasetError(
            "The workers may be on other machines, which do not see this one's temporary folder.",
            found=f"Beam's {runner} and no staging folder",
            expected="a folder that they and this process reach",
            remedy="Name a staging folder, for example gs://BUCKET/FOLDER or one that all machines mount.",
            arguments=("staging",),
        )


@contextmanager
def _staging_folder(staging: str | None) -> Iterator[str]:
    if staging is None:
        folder = tempfile.mkdtemp(prefix="ggn-tf-beam-")
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
        return
    if FileSystems.exists(staging):
        raise DatasetError(
            "The staging folder exists.",
            case=staging,
            expected="a new one, which is deleted at the end",
            remedy="Name another folder.",
            arguments=("staging",),
        )
    # Object storage has no folders and accepts any.
    FileSystems.mkdirs(staging)
    try:
        yield staging
    finally:
        FileSystems.delete([staging])


def _cases_name(folder: str, number: int) -> str:
    return FileSystems.join(folder, f"{number:06d}.cases")


def _patches_name(folder: str, number: int) -> str:
    return FileSystems.join(folder, f"{number:06d}.patches")


# Pickled, as for a process pool's workers; Beam stages its own pickled functions in the same way.
def _write(name: str, content: Any) -> None:
    with FileSystems.create(name) as file:
        file.write(pickle.dumps(content))


def _read(name: str) -> Any:
    with FileSystems.open(name) as file:
        return pickle.loads(file.read())

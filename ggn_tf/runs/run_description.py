"""The settings of a run: everything that decides its weights, and what may change when it is resumed.

More epochs are possible, anything else is refused.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from ggn_tf.errors import RunError
from ggn_tf.json_records import added_later, to_json
from ggn_tf.protocol import Protocol
from ggn_tf.runs.started_from import StartedFrom
from ggn_tf.shown_text import one_line
from ggn_tf.tasks import Task

_PACKAGES = ("ggn-tf", "tensorflow", "keras", "numpy", "scikit-learn", "SimpleITK")


def package_versions() -> dict[str, str]:
    """Name and version of Python and of every package that a run's numbers may depend on."""
    return {"python": sys.version.split()[0], **{name: version(name) for name in _PACKAGES}}


@dataclass(frozen=True)
class RunDescription:
    """Everything that decides a run's weights; `run.json` contains it.

    Attributes:
        task: The grouping of labels into classes.
        model: `raw`, `reference`, `cascade` or `multitask` (Fig. 3).
        split: Number of the dataset's split.
        seed: Seed of the initial weights, the order of the cases, augmentation and dropout.
        precision: `float32` or `bfloat16`, as resolved.
        select_on: The set whose score selects the weights: `validation`, or `test` as in the paper.
        protocol: All numbers of the method.
        dataset_fingerprint: Fingerprint of the dataset's content.
        segment_on: The nodules of the stage `segment`: `all` of the set, whatever their label, or those of the `task`.
        split_digest: `digest_of` the split; None in runs that did not record it.
        start_from: The source of the first weights; None for the initial ones of the seed.
    """

    task: Task
    model: str
    split: int
    seed: int
    precision: str
    select_on: str
    protocol: Protocol
    dataset_fingerprint: str
    segment_on: str = added_later("task")
    split_digest: str | None = added_later(None)
    start_from: StartedFrom | None = added_later(None)  # noqa: RUF009 - a field, which is made once per class


def frozen_layers(description: RunDescription) -> tuple[str, ...]:
    """The layers that stay fixed in every stage."""
    return () if description.start_from is None else description.start_from.frozen


@dataclass(frozen=True)
class StoredBeginning:
    """What is read of run.json beside the description."""

    model: Literal["raw", "reference", "cascade", "multitask"]
    select_on: Literal["validation", "test"]
    precision: Literal["float32", "bfloat16"]
    dataset: str
    versions: Mapping[str, str]
    conditions: Mapping[str, Any] | None = added_later(None)
    extended_by: tuple[str, ...] = added_later(())


@dataclass(frozen=True)
class StoredConditions:
    """What is read of the conditions: in ggn-tf 0.1 they lack the kernels."""

    threads: int = added_later(0)
    kernels: Mapping[str, str] | None = added_later(None)


_EPOCHS = "max_epochs"


def check_extension(folder: Path, stored: RunDescription, requested: RunDescription, closed: Sequence[str]) -> bool:
    """Decide whether a run can be resumed with the settings that are requested now; returns whether epochs were added.

    Only the number of epochs may differ, and only grow: neither learning rate nor stopping depends on it before it is
    reached, so that the longer run equals one with the larger number from the start. It is too late for `closed`
    stages, which their number of epochs ended and from whose weights a later one has started.

    Raises:
        RunError: Something else differs, or a closed stage's epochs do; the message shows the differences.
    """
    former, now = _flat(to_json(stored)), _flat(to_json(requested))
    # The digests of single layers follow from the source's.
    names = [name for name in {**former, **now} if not name.startswith("start_from.taken.")]
    different = [name for name in names if former.get(name) != now.get(name)]
    if not all(_is_more_epochs(name, former.get(name), now.get(name)) for name in different):
        raise _refusal("The run folder contains a run with other settings.", folder, former, now, different)
    late = [name for name in different if name.split(".")[-2] in closed]
    if late:
        what = "A stage cannot be extended any more: a later one has started from its weights."
        remedy = "Keep that stage's number of epochs (a later stage's can grow), or choose another folder."
        raise _refusal(what, folder, former, now, late, remedy, ("epochs", "run"))
    return bool(different)


def resume_remedy(command: object, file: str) -> str:
    """The remedy where a training is not finished: its command, which a file contains.

    The file may be another person's: what is not one plain call of ggn-tf is not shown.
    """
    try:
        words = shlex.split(str(command))
    except ValueError:
        words = []
    if words[:1] == ["ggn-tf"] and shlex.join(words) == command == one_line(str(command)):
        return f"Repeat the command that began it; it resumes: {command}"
    return f"Repeat the command that began it, which {file} contains; it resumes."


def _is_more_epochs(name: str, former: Any, now: Any) -> bool:
    return name.startswith("protocol.training.") and name.endswith(f".{_EPOCHS}") and now > former


def _refusal(
    what: str,
    folder: Path,
    former: Mapping[str, Any],
    now: Mapping[str, Any],
    names: Sequence[str],
    remedy: str = "Repeat the run's own command, which run.json contains, or choose another folder.",
    arguments: Sequence[str] = ("run",),
) -> RunError:
    return RunError(
        what,
        case=folder,
        found="; ".join(f"{name} = {former.get(name)}" for name in names),
        expected="; ".join(f"{name} = {now.get(name)}" for name in names),
        remedy=remedy,
        arguments=arguments,
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat

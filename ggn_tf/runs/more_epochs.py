"""Coming back to a run with other settings: more epochs may go on, anything else is refused."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ggn_tf.errors import RunError
from ggn_tf.runs.run_description import RunDescription

_EPOCHS = "max_epochs"
_REMEDY = "Repeat the run's own command, which run.json holds, or name another folder with -o."


def check_extension(folder: Path, stored: RunDescription, asked: RunDescription, closed: Sequence[str]) -> bool:
    """Decide whether a run can go on with what is asked.

    The one thing that may differ is a larger number of epochs: neither learning rate nor stopping looks at it before it
    is reached, so that the longer run equals one with the larger number from the start. It is too late for a stage from
    whose weights a later one has started, if the number of epochs is what ended it.

    Args:
        folder: The run folder, to be named.
        stored: What the run was begun with.
        asked: What is asked now.
        closed: Stages that more epochs would change but that are not to be changed any more.

    Returns:
        Whether epochs were added.

    Raises:
        RunError: Something else differs, or a closed stage's epochs do; the message shows the differences.
    """
    ours, theirs = _flat(stored.to_dict()), _flat(asked.to_dict())
    different = [name for name in ours if ours[name] != theirs.get(name)]
    if not all(_is_more_epochs(name, ours[name], theirs.get(name)) for name in different):
        raise _refusal("The run folder holds a run with other settings.", folder, ours, theirs, different, _REMEDY)
    late = [name for name in different if name.split(".")[-2] in closed]
    if late:
        raise _refusal(
            "A stage cannot be extended any more: a later one has started from its weights.",
            folder,
            ours,
            theirs,
            late,
            "Leave that stage's --epochs as they were (a later stage's can grow), or name another folder with -o.",
        )
    return bool(different)


def _is_more_epochs(name: str, ours: Any, theirs: Any) -> bool:
    return name.startswith("protocol.training.") and name.endswith(f".{_EPOCHS}") and theirs > ours


def _refusal(
    what: str, folder: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any], names: Sequence[str], remedy: str
) -> RunError:
    return RunError(
        what,
        case=folder,
        found="; ".join(f"{name} = {ours[name]}" for name in names),
        expected="; ".join(f"{name} = {theirs.get(name)}" for name in names),
        remedy=remedy,
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat

"""Resuming a run with other settings: more epochs are possible, anything else is refused."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ggn_tf.errors import RunError
from ggn_tf.json_records import to_json
from ggn_tf.runs.run_description import RunDescription

_EPOCHS = "max_epochs"


def check_extension(folder: Path, stored: RunDescription, requested: RunDescription, closed: Sequence[str]) -> bool:
    """Decide whether a run can be resumed with the settings that are requested now.

    Only the number of epochs may differ, and only grow: neither learning rate nor stopping depends on it before it is
    reached, so that the longer run equals one with the larger number from the start. It is too late for a stage that
    its number of epochs ended and from whose weights a later one has started.

    Args:
        folder: The run folder, for the message.
        stored: The settings that the run was begun with.
        requested: The settings requested now.
        closed: Stages that more epochs would change but that must not change any more.

    Returns:
        Whether epochs were added.

    Raises:
        RunError: Something else differs, or a closed stage's epochs do; the message shows the differences.
    """
    former, now = _flat(to_json(stored)), _flat(to_json(requested))
    different = [name for name in former if former[name] != now.get(name)]
    if not all(_is_more_epochs(name, former[name], now.get(name)) for name in different):
        raise _refusal("The run folder contains a run with other settings.", folder, former, now, different)
    late = [name for name in different if name.split(".")[-2] in closed]
    if late:
        what = "A stage cannot be extended any more: a later one has started from its weights."
        remedy = "Keep that stage's number of epochs (a later stage's can grow), or choose another folder."
        raise _refusal(what, folder, former, now, late, remedy, ("epochs", "run"))
    return bool(different)


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
        found="; ".join(f"{name} = {former[name]}" for name in names),
        expected="; ".join(f"{name} = {now.get(name)}" for name in names),
        remedy=remedy,
        arguments=arguments,
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat

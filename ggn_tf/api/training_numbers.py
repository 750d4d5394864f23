"""Numbers of the training that `fit` and `crossval` take in place of the protocol's."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from ggn_tf.api.arguments import check_choices
from ggn_tf.dataset.records import Dataset
from ggn_tf.errors import GgnError
from ggn_tf.protocol import PROTOCOLS, Protocol, SelectionScore, TrainingProtocol
from ggn_tf.runs.stages import STAGE_NAMES


def chosen_protocol(protocol: str | Protocol) -> Protocol:
    """The numbers of the method, by name or as they are given; raises GgnError where there is no such name."""
    if isinstance(protocol, Protocol):
        return protocol
    check_choices("protocol", [protocol], PROTOCOLS)
    return PROTOCOLS[protocol]()


def with_numbers(
    protocol: Protocol,
    epochs: Sequence[int] | None,
    learning_rates: Sequence[float] | None,
    patience: Sequence[int] | None,
    batch_size: int | None,
    joint_weight: float | None,
    shift_mm: float | Sequence[float] | None,
    select_by: SelectionScore | None,
) -> Protocol:
    """A protocol with other numbers, as `fit` takes them; raises GgnError where they cannot be used."""
    training = protocol.training
    if batch_size is not None:
        training = replace(training, batch_size=batch_size)
    if joint_weight is not None:
        training = replace(training, joint_weight=joint_weight)
    if select_by is not None:
        check_choices("select_by", [select_by], get_args(SelectionScore))
        training = replace(training, select_by=select_by)
    for argument, field_name, numbers in (
        ("epochs", "max_epochs", epochs),
        ("learning_rates", "learning_rate", learning_rates),
        ("patience", "patience", patience),
    ):
        if numbers is None:
            continue
        if len(numbers) != len(STAGE_NAMES) or not all(0 < number < math.inf for number in numbers):
            raise GgnError(
                "The numbers of the three stages cannot be used.",
                found=repr(numbers),
                expected=f"three positive numbers, for {', '.join(STAGE_NAMES)}",
                remedy="Give one number for each stage.",
                arguments=(argument,),
            )
        training = _by_stage(training, field_name, numbers)
    if shift_mm is not None:
        training = _by_stage(training, "shift_mm", _shifts(shift_mm))
    return replace(protocol, training=training)


def _shifts(shift_mm: float | Sequence[float]) -> list[float]:
    shifts = (shift_mm,) if isinstance(shift_mm, int | float) else tuple(shift_mm)
    if len(shifts) not in (1, len(STAGE_NAMES)) or not all(0 <= shift < math.inf for shift in shifts):
        raise GgnError(
            "The shifts of the centre cannot be used.",
            found=repr(shift_mm),
            expected=f"one distance in mm, or three, for {', '.join(STAGE_NAMES)}; 0 shifts nothing",
            remedy="Give one number, or one number for each stage.",
            arguments=("shift_mm",),
        )
    return [float(shift) for shift in shifts] * (len(STAGE_NAMES) // len(shifts))


def _by_stage(training: TrainingProtocol, field_name: str, numbers: Sequence[float]) -> TrainingProtocol:
    stages = {
        name: replace(getattr(training, name), **{field_name: number})
        for name, number in zip(STAGE_NAMES, numbers, strict=True)
    }
    return replace(training, **stages)


def check_margin(protocol: Protocol, dataset: Dataset) -> None:
    """Refuse shifts beyond the margin of the dataset's patches; raises GgnError."""
    largest = max(getattr(protocol.training, name).shift_mm for name in STAGE_NAMES)
    if largest > dataset.protocol.margin_mm:
        raise GgnError(
            "The dataset's margin is too small for the shifts of the centre.",
            case=dataset.folder,
            found=f"shifts up to {largest:g} mm, a margin of {dataset.protocol.margin_mm:g} mm",
            expected="shifts within the margin",
            remedy="Choose smaller shifts, or prepare the dataset with a larger margin.",
            arguments=("shift_mm", "margin_mm"),
        )

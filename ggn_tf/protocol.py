"""Every number of Wang et al. 2021, once. What the paper leaves open says so."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from ggn_tf.json_records import added_later

SETS: Final = ("train", "validation", "test")
"""The sets of a split (section 3.2): every table, file and loop names them in this order."""

AIR_HU = -1024.0
"""Where the scale of CT begins: the lower end of the paper's window (section 3.2), and the value outside the CT."""

TABLE_5_JOINT_WEIGHTS: Final = (0.5, 0.7, 1.0, 1.3, 1.5)
"""The values of lambda (eq. 4) that Table 5 compares."""

LARGEST_MARGIN_MM = 64.0
"""Widest margin of a dataset; no nodule's centre is shifted as far."""

_LEAST_SPACING_MM, _LARGEST_SIZE = 0.05, 512
"""Voxels along each axis of a patch, as many as a CT has: a stored protocol must not make readers reserve more."""

SelectionScore = Literal["accuracy", "auc", "loss"]
"""What selects the weights of a classifier."""

MASK_THRESHOLD = 0.5
"""A voxel belongs to the nodule where the soft mask is at least this; the paper names none."""

SOLID_HU = -300.0
"""Above it voxels of a nodule are solid: where software and radiologists agree best (Scholten et al. 2015, European
Radiology 25:488)."""
SOLID_RANGE_HU = (AIR_HU, 400.0)
"""Thresholds that can be chosen."""


@dataclass(frozen=True)
class PatchProtocol:
    """The patch that the networks see (section 3.1). Axis order z, y, x.

    Attributes:
        size: Voxels along each axis.
        spacing_mm_zyx: Spacing of the resampled grid.
        window_hu: Lower and upper end of the window that eq. 5 maps to [-1, 1].
        outside_hu: Value where the CT does not reach (air).
        margin_mm: Width of what a dataset stores around the patch on every side, so that patches around other centres
            can be cut from it. It is rounded up to whole voxels. Networks never see it, and the paper has none.
    """

    size: int = 32
    spacing_mm_zyx: tuple[float, float, float] = (1.0, 0.7, 0.7)
    window_hu: tuple[float, float] = (AIR_HU, 400.0)
    outside_hu: float = AIR_HU
    margin_mm: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers for which no patch can be reserved."""
        usable = 1 <= self.size <= _LARGEST_SIZE and all(step >= _LEAST_SPACING_MM for step in self.spacing_mm_zyx)
        if not (usable and 0 <= self.margin_mm <= LARGEST_MARGIN_MM):
            raise ValueError(f"Expected a patch that fits into memory. Received: {self}")

    @property
    def margin_zyx(self) -> tuple[int, int, int]:
        """Voxels of the margin on each side, along each axis."""
        depth, height, width = (math.ceil(round(self.margin_mm / step, 6)) for step in self.spacing_mm_zyx)
        return depth, height, width

    @property
    def stored_zyx(self) -> tuple[int, int, int]:
        """Voxels of a patch with its margin, along each axis."""
        depth, height, width = (self.size + 2 * margin for margin in self.margin_zyx)
        return depth, height, width

    def without_margin(self, stored: Any) -> Any:
        """The patch in what a dataset stores: an array or tensor of `stored_zyx` voxels, or of [N, *stored_zyx, 1]."""
        middle = tuple(slice(margin, margin + self.size) for margin in self.margin_zyx)
        return stored[middle if len(stored.shape) == 3 else (slice(None), *middle)]


@dataclass(frozen=True)
class CnnProtocol:
    """The classifier (section 2.1, Fig. 2a): convolution blocks, max-pooling after every second, then fc blocks."""

    channels: tuple[int, ...] = (16, 16, 32, 32, 64, 64, 256, 256)
    fc_units: tuple[int, ...] = (256, 256)
    dropout: float = 0.1


@dataclass(frozen=True)
class UnetProtocol:
    """The segmenter (section 2.2, Fig. 2b).

    The paper's text does not name the channels: `channels_down` are the classifier's, and `channels_up` mirror them;
    both are our assumption. `prior` is the nodule probability at which the last bias starts (Lin et al. 2017, which
    section 3.2 follows without naming the value).
    """

    channels_down: tuple[int, ...] = (16, 16, 32, 32, 64, 64, 256, 256)
    channels_up: tuple[int, ...] = (64, 64, 32, 32, 16, 16)
    dilations_down: tuple[int, ...] = (1, 1, 2, 2, 2, 2, 4, 4)
    dilations_up: tuple[int, ...] = (2, 2, 2, 2, 1, 1)
    prior: float = 0.01


@dataclass(frozen=True)
class MaskingProtocol:
    """How a mask reaches the classifier (eq. 3).

    The mask multiplies the patch that eq. 5 has normalised, so that the background becomes 0, which is -312 HU. The
    paper leaves open whether it multiplies Hounsfield units instead. `background` is the value outside the mask, on the
    scale of eq. 5: 0 is the plain product.
    """

    background: float = 0.0


@dataclass(frozen=True)
class Plateau:
    """Multiply the learning rate when the monitored score has not risen for `patience` epochs (section 3.2)."""

    factor: float = 0.8
    patience: int = 10
    kind: Literal["plateau"] = "plateau"


@dataclass(frozen=True)
class Steps:
    """Multiply the learning rate every `every` epochs (section 3.2)."""

    factor: float = 0.5
    every: int = 30
    kind: Literal["steps"] = "steps"


@dataclass(frozen=True)
class StageProtocol:
    """How long and how fast one stage trains (section 3.2).

    Attributes:
        learning_rate: Adam's learning rate in the first epoch.
        max_epochs: Largest number of epochs.
        schedule: How the learning rate falls.
        patience: Number of epochs without a better score after which the stage stops.
        shift_mm: How far the centre of each patch is shifted at most, drawn again in each epoch; 0 is the paper's.
    """

    learning_rate: float
    max_epochs: int
    schedule: Plateau | Steps
    patience: int = 50
    shift_mm: float = 0.0


@dataclass(frozen=True)
class AugmentationProtocol:
    """Augmentation on the fly (section 3.2). The paper does not name the noise: 0.02 of [-1, 1] is 14 HU."""

    flip_probability: float = 0.5
    noise_sigma: float = 0.02


@dataclass(frozen=True)
class SplitProtocol:
    """How cases are split (section 3.2), label by label.

    Attributes:
        test_fraction: Fraction of all cases that test.
        validation_fraction: Fraction of the other cases that validate.
        splits: Default number of splits. The paper uses two (section 3.3).
        seed: Their default seed; the paper names none.
    """

    splits: ClassVar[int] = 5
    seed: ClassVar[int] = 0
    test_fraction: float = 0.3
    validation_fraction: float = 0.2


@dataclass(frozen=True)
class TrainingProtocol:
    """Training of every model (section 3.2).

    Attributes:
        batch_size: Patches per step.
        l2: Weight of the squared kernels in the loss.
        joint_weight: Lambda of eq. 4.
        batch_norm_momentum: Not named by the paper. With Keras's 0.99 and some 20 steps per epoch the moving statistics
            lag by ten epochs.
        segment: The cascade's first stage, the U-Net.
        classify: Its second stage, the CNN behind the frozen U-Net.
        joint: Its third stage, both networks.
        joint_trains_unet: Whether the third stage trains the U-Net too. Without, the classifier trains alone for as
            long: an ablation, not the paper's.
        select_by: The score of the monitored set that selects the weights of stages with a classifier. The paper names
            none.
    """

    batch_size: int = 24
    l2: float = 1e-4
    joint_weight: float = 1.0
    batch_norm_momentum: float = 0.9
    segment: StageProtocol = StageProtocol(1e-4, 150, Plateau())
    classify: StageProtocol = StageProtocol(1e-4, 120, Plateau())
    joint: StageProtocol = StageProtocol(1e-5, 120, Steps())
    joint_trains_unet: bool = True
    select_by: SelectionScore = added_later("accuracy")  # noqa: RUF009 - a field, which is made once per class

    def __post_init__(self) -> None:
        """Refuse a batch without patches."""
        if self.batch_size < 1:
            raise ValueError(f"Expected batches of at least one patch. Received: batch_size {self.batch_size}")

    @property
    def largest_shift_mm(self) -> float:
        """The largest shift of a patch's centre in any stage."""
        return max(stage.shift_mm for stage in (self.segment, self.classify, self.joint))


@dataclass(frozen=True)
class Protocol:
    """The whole method in numbers; `Protocol()` is the paper's."""

    patch: PatchProtocol = field(default_factory=PatchProtocol)
    cnn: CnnProtocol = field(default_factory=CnnProtocol)
    unet: UnetProtocol = field(default_factory=UnetProtocol)
    masking: MaskingProtocol = field(default_factory=MaskingProtocol)
    augmentation: AugmentationProtocol = field(default_factory=AugmentationProtocol)
    split: SplitProtocol = field(default_factory=SplitProtocol)
    training: TrainingProtocol = field(default_factory=TrainingProtocol)


def quick_protocol() -> Protocol:
    """A shortened training, not the paper's: 38 epochs of the cascade instead of 390, at higher rates.

    On 669 nodules of LIDC-IDRI it reaches a test Dice of 0.78, as a long training does.
    """
    paper = TrainingProtocol()
    return Protocol(
        training=dataclasses.replace(
            paper,
            segment=dataclasses.replace(paper.segment, learning_rate=1e-3, max_epochs=12),
            classify=dataclasses.replace(paper.classify, learning_rate=3e-4, max_epochs=20),
            joint=dataclasses.replace(paper.joint, learning_rate=1e-4, max_epochs=6),
        )
    )


def robust_protocol() -> Protocol:
    """A training for centres that are not exact, as a click is: up to 70 epochs of the cascade, not the paper's.

    Shifted centres, and selection by AUC. The dataset needs a margin of 8 mm.
    """
    paper = TrainingProtocol()
    return Protocol(
        training=dataclasses.replace(
            paper,
            segment=dataclasses.replace(paper.segment, learning_rate=1e-3, max_epochs=30, shift_mm=8.0),
            classify=dataclasses.replace(paper.classify, learning_rate=3e-4, max_epochs=30, shift_mm=2.0),
            joint=dataclasses.replace(paper.joint, learning_rate=1e-4, max_epochs=10, shift_mm=2.0),
            select_by="auc",
        ),
    )


ProtocolName = Literal["paper", "quick", "robust"]
PROTOCOLS: dict[str, Callable[[], Protocol]] = {"paper": Protocol, "quick": quick_protocol, "robust": robust_protocol}
"""The protocols that have a name."""


def start_protocol(protocol: Protocol) -> Protocol:
    """The same numbers with a tenth of the learning rates, for a run that starts from trained weights.

    The paper has no such runs.
    """
    old = protocol.training
    segment, classify, joint = (
        dataclasses.replace(stage, learning_rate=stage.learning_rate / 10)
        for stage in (old.segment, old.classify, old.joint)
    )
    training = dataclasses.replace(old, segment=segment, classify=classify, joint=joint)
    return dataclasses.replace(protocol, training=training)

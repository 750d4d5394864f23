"""Ablations: variants of the method where the paper leaves a choice, trained and compared beside its systems.

What is varied is in `docs/assumptions.md`. A study without ablations has the paper's systems alone.
"""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from ggn_tf.errors import GgnError
from ggn_tf.evaluation.statistics import paper_systems as paper
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.models.names import BACKGROUND_0_HU, BACKGROUND_AIR, BINARY_MASKS, CASCADE, FROZEN_UNET, TRANSFER
from ggn_tf.protocol import AIR_HU, MaskingProtocol
from ggn_tf.runs.run_description import RunDescription

BACKGROUNDS_HU: Final = {BACKGROUND_AIR: AIR_HU, BACKGROUND_0_HU: 0.0}
"""Hounsfield units outside the mask: those of air, and what a mask that multiplies Hounsfield units leaves."""


@dataclass(frozen=True)
class Variant:
    """A system that differs from one of the paper's in one thing.

    Attributes:
        ablation: Name of the ablation.
        base: The paper's system.
        model: The name of the variant's model in the predictions table.
        title: What differs, for a reader.
    """

    ablation: str
    base: System
    model: str
    title: str

    @property
    def system(self) -> System:
        """The variant in the predictions table."""
        return System(self.model, self.base.stage)


VARIANTS: Final = (
    *(
        Variant(ablation, base, f"{base.model}-{ablation.removeprefix('background-')}", f"background {hu:g} HU")
        for ablation, hu in BACKGROUNDS_HU.items()
        for base in (paper.REFERENCE, paper.FROZEN, paper.JOINT)
    ),
    Variant(FROZEN_UNET, paper.JOINT, f"{CASCADE}-frozen", "U-Net frozen in stage joint"),
    Variant(BINARY_MASKS, paper.TRANSFER, f"{TRANSFER}-binary", "masks thresholded at 0.5"),
)
"""In the order of the table."""


def variant_models(ablations: Collection[str], models: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The models that ablations add to those of a study, each with its stages.

    Raises:
        GgnError: A study does not have a model that an ablation varies.
    """
    found: dict[str, tuple[str, ...]] = {}
    for ablation in ablations:
        variants = [variant for variant in VARIANTS if variant.ablation == ablation]
        varied = [variant for variant in variants if variant.base.model in models]
        if not varied:
            raise GgnError(
                f"The study has no model that {ablation} varies.",
                found=", ".join(models),
                expected=" or ".join(dict.fromkeys(variant.base.model for variant in variants)),
                remedy="Add one of these models, or leave out the ablation.",
                arguments=("models", "ablations"),
            )
        for variant in varied:
            found[variant.model] = (*found.get(variant.model, ()), variant.base.stage)
    return found


def with_background(description: RunDescription, hu: float) -> RunDescription:
    """The same run with another value outside the mask, in HU."""
    low, high = description.protocol.patch.window_hu
    masking = MaskingProtocol(background=(hu - low) / (high - low) * 2 - 1)
    return dataclasses.replace(description, protocol=dataclasses.replace(description.protocol, masking=masking))


def with_frozen_unet(description: RunDescription) -> RunDescription:
    """The same run whose stage joint trains the classifier alone."""
    training = dataclasses.replace(description.protocol.training, joint_trains_unet=False)
    return dataclasses.replace(description, protocol=dataclasses.replace(description.protocol, training=training))

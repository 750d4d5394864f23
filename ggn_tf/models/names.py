"""Names of the models (paper Fig. 3) and of their parts, by which runs, stages and exports find them.

This module does not import Keras, so that the models can be listed before it is loaded.
"""

from typing import Final

RAW: Final = "raw"
REFERENCE: Final = "reference"
CASCADE: Final = "cascade"
MULTITASK: Final = "multitask"
# Systems of a study that train no network: (b) on automatic masks, and the SVM on radiomics.
TRANSFER: Final = "transfer"
RADIOMICS: Final = "radiomics"

SEGMENTATION: Final = "segmentation"
CLASSIFICATION: Final = "classification"

# Variants that a study trains beside the paper's systems.
BACKGROUND_AIR: Final = "background-air"
BACKGROUND_0_HU: Final = "background-0hu"
FROZEN_UNET: Final = "frozen-unet"
BINARY_MASKS: Final = "binary-masks"
ABLATIONS: Final = (BACKGROUND_AIR, BACKGROUND_0_HU, FROZEN_UNET, BINARY_MASKS)

STARTED: Final = "@"
"""Between a model and the run whose weights it starts from, in the systems of a study: `cascade@texture`."""


def base_model(system: str) -> str:
    """The model of a system, without the run that it starts from."""
    return system.partition(STARTED)[0]

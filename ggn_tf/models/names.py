"""What the models (paper Fig. 3) and their parts are called: runs, stages and exports find them by it.

No Keras here, so that a command line can list the models before it loads them.
"""

from typing import Final

RAW: Final = "raw"
REFERENCE: Final = "reference"
CASCADE: Final = "cascade"
MULTITASK: Final = "multitask"
# What a study answers without training a network of its own: (b) on automatic masks, and the SVM on radiomics.
TRANSFER: Final = "transfer"
RADIOMICS: Final = "radiomics"

SEGMENTATION: Final = "segmentation"
CLASSIFICATION: Final = "classification"

"""The names on the wire and in an export, on which client, server and export agree."""

from ggn_tf.server_names import MODEL_NAME as MODEL_NAME
from ggn_tf.server_names import PORT as PORT

SIGNATURE = "serving_default"
SIGNATURE_ROI = "roi"
SIGNATURE_RECENTERED = "roi_recentered"
INPUT_HU = "hu"
INPUT_SPACING = "spacing_mm"
INPUT_CENTER = "center_index"
OUTPUT_PROBABILITIES = "probabilities"
OUTPUT_MASK = "mask"
OUTPUT_CLASS_NAMES = "class_names"
OUTPUT_WARNING = "warning"
OUTPUT_CENTER = INPUT_CENTER
OUTPUT_MOVED = "moved_mm"
OUTPUT_SPREAD = "spread"
OUTPUT_SET = "in_set"
OUTPUT_TYPICALITY = "typicality"

_REGION = (INPUT_HU, INPUT_SPACING, INPUT_CENTER)
INPUTS = {SIGNATURE: (INPUT_HU,), SIGNATURE_ROI: _REGION, SIGNATURE_RECENTERED: _REGION}
OUTPUTS = (OUTPUT_PROBABILITIES, OUTPUT_MASK, OUTPUT_CLASS_NAMES, OUTPUT_WARNING)
"""The outputs of all signatures."""
CENTER_OUTPUTS = (OUTPUT_CENTER, OUTPUT_MOVED)
"""The further outputs of `roi_recentered`."""
FURTHER_OUTPUTS = (OUTPUT_SPREAD, OUTPUT_SET, OUTPUT_TYPICALITY)
"""The outputs that some exports add to all signatures; `ExportContract.further_outputs` lists those of one export."""


def outputs_of(signature: str) -> tuple[str, ...]:
    """The outputs of one signature."""
    return OUTPUTS + CENTER_OUTPUTS if signature == SIGNATURE_RECENTERED else OUTPUTS


DTYPES = {
    INPUT_HU: "float32",
    INPUT_SPACING: "float64",
    INPUT_CENTER: "float64",
    OUTPUT_PROBABILITIES: "float32",
    OUTPUT_MASK: "float32",
    OUTPUT_CLASS_NAMES: "string",
    OUTPUT_WARNING: "string",
    OUTPUT_MOVED: "float64",
    OUTPUT_SPREAD: "float32",
    OUTPUT_SET: "float32",
    OUTPUT_TYPICALITY: "float32",
}
"""Voxels are float32; positions are float64, as in DICOM."""

ASSETS_EXTRA = "assets.extra"
"""The folder of a SavedModel that TensorFlow copies without reading it."""
WARMUP_FILE = "tf_serving_warmup_requests"
"""TensorFlow Serving's name: it replays these requests before a version becomes available."""
GOLDEN_FILE = "golden_predictions"
LABELS_FILE = "labels.txt"
CONTRACT_FILE = "contract.json"
MODEL_CARD_FILE = "model_card.md"
WEIGHTS_FILE = "model.keras"
"""The network before its batch normalisation was folded into the convolutions, from which a training can start."""

WARMUP_BATCHES = (1, 2, 4, 8, 16, 24)
"""Batch sizes of `serving_default`: those that batching rounds up to (`allowed_batch_sizes` in
`serving/batching.config`)."""
WARMUP_BATCHES_ROI = (1, 24)
"""Batch sizes of `roi`. It runs the convolutions of `serving_default`, whose kernels are cached by shape.

`roi_recentered` has none: it would keep one more copy of the weights in the memory of servers that do not use it."""
LARGEST_BATCH = 24
"""Patches per request: `serving/batching.config` allows no more, and 24 patches stay below gRPC's default 4 MiB."""

TOLERANCES = {
    "float32": {OUTPUT_PROBABILITIES: 1e-3, OUTPUT_MASK: 1e-2, OUTPUT_SPREAD: 1e-3, OUTPUT_TYPICALITY: 0.05},
    "bfloat16": {OUTPUT_PROBABILITIES: 0.02, OUTPUT_MASK: 0.1, OUTPUT_SPREAD: 0.02, OUTPUT_TYPICALITY: 0.2},
}
"""By precision: largest difference of the same weights on another machine, which adds in another order.

A standard deviation changes by no more than the largest change of the probabilities; typicality is a rank, which
changes in steps. `in_set` has no tolerance: it may change only where the probability moved in the same direction."""
TOLERANCES_RECENTERED = {OUTPUT_CENTER: 1.0}
"""Of `roi_recentered` at any precision, in voxels of the region: where the mask is near its threshold, such differences
move the centre by a part of a voxel, and with it all other outputs, which `roi` computes by the same operations."""

# 4: the axes of patch and region are S, P, L; before, those of the CT's file.
SCHEMA = 4


def shape_text(shape: tuple[int | None, ...]) -> str:
    """A shape for a person, for example `[N,32,32,32,1]`; open sizes are N (the batch), then D, H and W."""
    letters = iter("NDHW")
    return "[" + ",".join(next(letters, "?") if size is None else str(size) for size in shape) + "]"

"""What a run's models and dataset add to its report: predictions on reference masks, and the gallery (Fig. 6)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from scipy.ndimage import zoom

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.pipeline import CaseStream, normalise_hu, read_batches
from ggn_tf.dataset.records import Dataset, read_patches_uint8
from ggn_tf.evaluation.statistics.cascade_changes import paired_stages
from ggn_tf.evaluation.statistics.predictions_table import probabilities, probability_columns
from ggn_tf.evaluation.statistics.scores import class_indices, gives_dice, gives_probabilities
from ggn_tf.models.names import CLASSIFICATION, SEGMENTATION
from ggn_tf.protocol import MASK_THRESHOLD
from ggn_tf.runs.run_folder import RunFolder


def class_activation(classifier: keras.Model, inputs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017) of a classifier that flattens its last maps, for the classes `target` [N].

    What is explained is the target's logit minus the mean of the others: softmax depends on nothing else of the logits,
    and the gradient of the probability itself would vanish for confident predictions. The gradient is taken voxel by
    voxel instead of averaged over the map (HiResCAM, Draelos and Carin 2020): this classifier weighs every location
    separately, and an average would show locations that it never read. With global average pooling both are the same.

    The inputs are the classifier's own, float32 [N, ...]: the patch, the masked patch, or a network's maps.

    Returns:
        float32 [N, D, H, W] on the grid of the last maps, positive contributions only (ReLU), each map scaled to a
        maximum of 1; all zero where no voxel speaks for the target.

    Raises:
        ValueError: The classifier is not Flatten, fully connected blocks and a softmax layer.
    """
    layers = list(classifier.layers)
    flatten = next((index for index, layer in enumerate(layers) if isinstance(layer, keras.layers.Flatten)), None)
    if flatten is None or not isinstance(layers[-1], keras.layers.Dense) or layers[-1].units < 2:
        raise ValueError(f"Expected a classifier of Flatten and Dense layers. Received: {classifier.name}.")
    maps = tf.cast(keras.Model(classifier.input, layers[flatten].input)(inputs, training=False), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits = _logits(maps, layers[flatten:])
        chosen = tf.one_hot(target, logits.shape[1])
        others = (1 - chosen) / (logits.shape[1] - 1)
        difference = tf.reduce_sum(logits * (chosen - others), axis=1)
    gradient = tape.gradient(difference, maps)
    heat = tf.nn.relu(tf.reduce_sum(gradient * maps, axis=-1)).numpy()
    largest = heat.reshape(len(heat), -1).max(axis=1)
    scaled: np.ndarray = heat / np.where(largest > 0, largest, 1).reshape(-1, 1, 1, 1)
    return scaled.astype(np.float32)


def enlarge(heat: np.ndarray, size: int) -> np.ndarray:
    """Interpolate maps [N, D, H, W] linearly between voxel centres onto the patch's grid [N, size, size, size]."""
    factors = (1, *(size / voxels for voxels in heat.shape[1:]))
    enlarged: np.ndarray = zoom(heat, factors, order=1, mode="nearest", grid_mode=True)
    return enlarged


def explain_patches(model: keras.Model, patch: np.ndarray, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Grad-CAM of a run's model, with a sub-model `classification`, on whole patches for the classes `target` [N].

    Patches are float32 [N, S, S, S, 1] in [-1, 1]; reference masks, which only the model `reference` uses, have the
    same shape. The result is float32 [N, S, S, S] in [0, 1].
    """
    classifier = model.get_layer(CLASSIFICATION)
    # The classifier's input where the model calls it: for a cascade the masked patch.
    before = keras.Model(model.input, classifier._inbound_nodes[-1].arguments.keras_tensors[0])
    inputs = before({"patch": patch, "mask": reference} if len(model.inputs) == 2 else patch, training=False)
    return enlarge(class_activation(classifier, inputs, target), patch.shape[1])


def _logits(maps: tf.Tensor, layers: list[keras.layers.Layer]) -> tf.Tensor:
    x = maps
    for layer in layers[:-1]:
        x = layer(x, training=False)
    last = layers[-1]
    return tf.matmul(tf.cast(x, tf.float32), tf.cast(last.kernel, tf.float32)) + tf.cast(last.bias, tf.float32)


_AT_ONCE = 8

GAINED, LOST = "joint training raised its class score", "joint training lowered its class score"
WRONG, WORST_MASK, CORRECT = "confident wrong prediction", "low Dice", "confident correct prediction"


@dataclass(frozen=True)
class Slides:
    """A nodule as the gallery shows it, with the reason why it was chosen. Arrays are [S, S, S], axes z, y, x.

    Gray levels (uint8) are Hounsfield units in the method's window. There is a mask (bool) of each stage that changes
    the segmenter. The heat map (float32, 0 to 1) is Grad-CAM for the prediction of the last stage; None without a
    classifier.
    """

    case_id: str
    reason: str
    gray: np.ndarray
    reference: np.ndarray
    masks: dict[str, np.ndarray]
    heat: np.ndarray | None


def choose_cases(rows: pd.DataFrame, count: int) -> dict[str, str]:
    """Choose the most informative nodules by a rule; returns the reason for each case, in the order of choice.

    In turns: the largest rise of the true class's probability by joint training, its largest fall, the most confident
    wrong prediction, the lowest Dice. Without joint training the most confident correct prediction replaces the first
    two. Ties are broken by case id. A nodule is shown once, under the first reason that chose it.
    """
    queues = {reason: list(order.sort_index().sort_values(kind="stable").index) for reason, order in _orders(rows)}
    chosen: dict[str, str] = {}
    while any(queues.values()) and len(chosen) < count:
        for reason, queue in queues.items():
            case = next((case for case in queue if case not in chosen), None)
            queue[:] = queue[queue.index(case) + 1 :] if case is not None else []
            if case is not None and len(chosen) < count:
                chosen[case] = reason
    return chosen


def collect_slides(run: RunFolder, dataset: Dataset, rows: pd.DataFrame, chosen: dict[str, str]) -> list[Slides]:
    """Compute masks and Grad-CAM of the chosen cases with the run's models."""
    if not chosen:
        return []
    hu, reference = read_patches_uint8(dataset, list(chosen))
    low, high = dataset.protocol.window_hu
    patch = np.asarray(normalise_hu(hu, (low, high)))
    segmenting, last = _segmenting(rows), _last_classified(rows)
    masks: dict[str, np.ndarray] = {}
    heat = None
    # One model at a time, each loaded once.
    for stage in dict.fromkeys([*segmenting, *([] if last is None else [str(last["stage"].iloc[0])])]):
        model = run.load_model(stage)
        if stage in segmenting:
            masks[stage] = _masks(model, patch)
        if last is not None and stage == last["stage"].iloc[0]:
            predicted = pd.Series(class_indices(last)[1], index=pd.Index(last["case"]))[list(chosen)]
            heat = explain_patches(model, patch, reference.astype(np.float32), predicted.to_numpy())
    gray = np.rint((patch[..., 0] + 1) * 127.5).astype(np.uint8)
    return [
        Slides(
            case_id=case,
            reason=reason,
            gray=gray[index],
            reference=reference[index, ..., 0] > 0,
            masks={stage: mask[index] for stage, mask in masks.items()},
            heat=None if heat is None else heat[index],
        )
        for index, (case, reason) in enumerate(chosen.items())
    ]


def _orders(rows: pd.DataFrame) -> list[tuple[str, "pd.Series[float]"]]:
    """For each reason one number per case; the smallest comes first."""
    orders: list[tuple[str, pd.Series[float]]] = []
    pair = paired_stages(rows)
    last = _last_classified(rows)
    if last is not None:
        label, predicted = class_indices(last)
        probability = probabilities(last)
        cases = pd.Index(last["case"])
        true_class = pd.Series(probability[np.arange(len(last)), label], index=cases)
        highest = pd.Series(probability.max(axis=1), index=cases)
        if pair is not None:
            change = pair.changes.set_index("case")["score_change"]
            orders += [(GAINED, -change[change > 0]), (LOST, change[change < 0])]
        else:
            orders += [(CORRECT, -true_class[predicted == label])]
        orders += [(WRONG, -highest[predicted != label])]
    segmented = [part for _, part in rows.groupby("stage", sort=False) if gives_dice(part)]
    if segmented:
        orders += [(WORST_MASK, segmented[-1].set_index("case")["dice"])]
    return orders


def _last_classified(rows: pd.DataFrame) -> pd.DataFrame | None:
    parts = [part for _, part in rows.groupby("stage", sort=False) if gives_probabilities(part)]
    return parts[-1] if parts else None


def _segmenting(rows: pd.DataFrame) -> list[str]:
    """The first and the last stage with masks: those between repeat the first one's, whose segmenter is frozen."""
    stages = [str(stage) for stage, part in rows.groupby("stage", sort=False) if gives_dice(part)]
    return list(dict.fromkeys([stages[0], stages[-1]])) if stages else []


def _masks(model: keras.Model, patch: np.ndarray) -> np.ndarray:
    """The segmenter's masks, bool [N, S, S, S], a few patches at a time to limit memory."""
    network = next((layer for layer in model.layers if layer.name == SEGMENTATION), model)
    parts = [network(patch[start : start + _AT_ONCE], training=False) for start in range(0, len(patch), _AT_ONCE)]
    soft = np.concatenate([part["mask"] if isinstance(part, dict) else part for part in parts])
    mask: np.ndarray = soft[..., 0] >= MASK_THRESHOLD
    return mask


def predict_with_reference(run: RunFolder, dataset: Dataset, rows: pd.DataFrame) -> pd.DataFrame | None:
    """Multiply the patch by the reference mask instead of the predicted one (eq. 3), in the last stage that can do so.

    Returns the stage's rows with the probabilities for the reference masks; None where no stage segments and
    classifies, or the model has no mask in front of its classifier.
    """
    stages = [part for _, part in rows.groupby("stage", sort=False) if gives_probabilities(part) and gives_dice(part)]
    if not stages:
        return None
    last = stages[-1]
    classifier = _masked_classifier(run.load_model(str(last["stage"].iloc[0])))
    if classifier is None:
        return None
    description = run.description
    stream = CaseStream(dataset, list(last["case"]), description.task)
    batches = read_batches(stream.in_order(description.protocol.training.batch_size), stream)
    outputs = [classifier.predict_on_batch(batch.patch * batch.mask) for batch in batches]
    probability = np.concatenate(outputs).astype(np.float64)
    return last.assign(**probability_columns(probability, description.task.class_names), dice=1.0)


def _masked_classifier(model: keras.Model) -> keras.Model | None:
    """The classifier behind the product of patch and mask; only a cascade has one."""
    names = {layer.name for layer in model.layers}
    return model.get_layer(CLASSIFICATION) if {SEGMENTATION, CLASSIFICATION} <= names else None


@dataclass(frozen=True)
class ReportInputs:
    """What the dataset (by case id), another site's, and the models add to a report; what is None is left out.

    `retested` is the table of the test-retest analysis.
    """

    nodules: Mapping[str, CaseRecord] | None = None
    external: Mapping[str, CaseRecord] | None = None
    reference: pd.DataFrame | None = None
    slides: Sequence[Slides] = ()
    retested: pd.DataFrame | None = None


def collect_report_inputs(
    run: RunFolder,
    dataset: Dataset,
    frame: pd.DataFrame,
    gallery: int,
    announce: Callable[[str], None] = lambda line: None,
) -> ReportInputs:
    """Compute the inputs of a run's report with its models."""
    rows = frame[frame["set"] == "test"]
    if rows.empty:
        return ReportInputs(dataset.case_by_id)
    announce(f"predicting: reference masks, test set, {rows['case'].nunique()} nodules")
    reference = predict_with_reference(run, dataset, rows)
    chosen = choose_cases(rows, gallery)
    announce(f"gallery: {len(chosen)} nodules")
    return ReportInputs(
        nodules=dataset.case_by_id, reference=reference, slides=collect_slides(run, dataset, rows, chosen)
    )

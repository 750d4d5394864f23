"""The graph that is served: from Hounsfield units to named outputs, by three signatures, with warnings."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from ggn_tf.cases.lung_context import BELOW_AIR_HU, LEAST_LUNG, MOST_BELOW_AIR, NO_LUNG_HU
from ggn_tf.cases.recentring import WARNING_MM
from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.evaluation.statistics.typicality import FeatureDistribution
from ggn_tf.models.features import FEATURES
from ggn_tf.protocol import MASK_THRESHOLD
from ggn_tf.serving.contract import warning_texts as texts
from ggn_tf.serving.contract import wire
from ggn_tf.serving.contract.export_contract import ExportContract, SignatureContract
from ggn_tf.serving.export.ensemble import Network, NetworkOutputs, PatchOutputs, no_outputs, predict_patches
from ggn_tf.serving.export.recentring import CutPatches, cut_patches, is_sound, lengths, recenter

_VOXELS = (1, 2, 3, 4)
# What was a 32-bit number may be 2.5000001.
_SPACING_TOLERANCE_MM = 1e-4


class RaisedWarning(NamedTuple):
    """A warning, and to which patches of the batch it applies, [N] bool."""

    kind: texts.WarningKind
    raised: tf.Tensor


def patch_warnings(hu: tf.Tensor, covered: tf.Tensor, mask: tf.Tensor) -> list[RaisedWarning]:
    """Check values [N, S, S, S, 1], Hounsfield units, where the CT covers them, and the predicted mask, 0 to 1."""
    measured = _count(covered)
    no_lung = _count(covered & (hu <= NO_LUNG_HU)) < LEAST_LUNG * measured
    nodule = mask >= MASK_THRESHOLD
    dense = _count(nodule & (hu > texts.DENSE_HU)) > texts.MOST_DENSE * _count(nodule)
    within = nodule[:, 1:-1, 1:-1, 1:-1]
    return [
        RaisedWarning(texts.NOT_FINITE, ~tf.reduce_all(tf.math.is_finite(hu), _VOXELS)),
        RaisedWarning(texts.NO_LUNG, no_lung),
        RaisedWarning(texts.BELOW_AIR, _count(covered & (hu <= BELOW_AIR_HU)) >= MOST_BELOW_AIR * measured),
        # If the values are not Hounsfield units, density is no second finding.
        RaisedWarning(texts.DENSE, dense & ~no_lung),
        RaisedWarning(texts.NO_NODULE, ~tf.reduce_any(nodule, _VOXELS)),
        RaisedWarning(texts.LARGER_THAN_PATCH, _count(nodule) > _count(within)),
    ]


def region_warnings(
    hu: tf.Tensor, spacing_mm: tf.Tensor, center_index: tf.Tensor, covered: tf.Tensor
) -> list[RaisedWarning]:
    """Check the geometry: that of `is_sound`, and which of the patch's voxels [N, S, S, S, 1] the region covers."""
    return [
        RaisedWarning(texts.BAD_GEOMETRY, ~is_sound(hu, spacing_mm, center_index)),
        RaisedWarning(texts.PARTLY_OUTSIDE_CT, ~tf.reduce_all(covered, _VOXELS)),
        RaisedWarning(
            texts.COARSE_SPACING, tf.reduce_max(spacing_mm, 1) > texts.COARSEST_SPACING_MM + _SPACING_TOLERANCE_MM
        ),
    ]


def uncertainty_warnings(further: Mapping[str, tf.Tensor]) -> list[RaisedWarning]:
    """The warnings that follow from the outputs `in_set` and `typicality`, where an export has them."""
    if wire.OUTPUT_SET not in further:
        return []
    return [
        RaisedWarning(texts.UNDECIDED, tf.reduce_all(further[wire.OUTPUT_SET] > 0, axis=1)),
        RaisedWarning(texts.ATYPICAL, further[wire.OUTPUT_TYPICALITY] < texts.ATYPICAL_BELOW),
    ]


def warning_output(warnings: Sequence[RaisedWarning]) -> tf.Tensor:
    """All warnings of a patch as one text, [N]; without a prediction only those that explain why there is none."""
    predicted = has_prediction(warnings)
    lines = [tf.where(raised & (predicted | (not kind.predicted)), kind.line + "\n", "") for kind, raised in warnings]
    return tf.strings.strip(tf.strings.join(lines))


def has_prediction(warnings: Sequence[RaisedWarning]) -> tf.Tensor:
    """[N] bool: whether no warning withholds the prediction."""
    return ~tf.reduce_any(tf.stack([raised for kind, raised in warnings if not kind.predicted], axis=1), axis=1)


def _count(flags: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(flags, tf.float32), _VOXELS)


class ServedModel(tf.Module):
    """All signatures around one or several networks: patch [N, S, S, S, 1] in [-1, 1] -> `{"mask", "probabilities"}`.

    A plain module, because a saved Keras model would include training functions. With distributions, one per network,
    the networks also return `features`.
    """

    def __init__(
        self, models: Sequence[keras.Model], contract: ExportContract, distributions: Sequence[FeatureDistribution] = ()
    ) -> None:
        super().__init__()
        patch = contract.protocol.patch
        class_names = tf.constant([contract.task.class_names])
        networks = [_network(*each) for each in itertools.zip_longest(models, distributions)]

        def predict(hu: tf.Tensor) -> PatchOutputs:
            return predict_patches(networks, contract, normalise_hu(hu, patch.window_hu))

        def respond(
            cut: CutPatches, predicted: PatchOutputs, about_region: Sequence[RaisedWarning] = ()
        ) -> dict[str, tf.Tensor]:
            about_patch = patch_warnings(cut.hu, cut.covered, predicted.mask)
            warnings = [*about_region, *about_patch, *uncertainty_warnings(predicted.further)]
            valid = has_prediction(warnings)
            return {
                wire.OUTPUT_PROBABILITIES: _or_nan(predicted.probabilities, valid),
                wire.OUTPUT_MASK: _or_nan(predicted.mask, valid),
                wire.OUTPUT_CLASS_NAMES: tf.tile(class_names, [tf.shape(cut.hu)[0], 1]),
                wire.OUTPUT_WARNING: warning_output(warnings),
                **{name: _or_nan(values, valid) for name, values in predicted.further.items()},
            }

        def serve(hu: tf.Tensor) -> dict[str, tf.Tensor]:
            # Clients fill a patch with this value outside the CT; inside a chest it hardly occurs.
            return respond(CutPatches(hu, tf.not_equal(hu, patch.outside_hu)), predict(hu))

        def serve_roi(hu: tf.Tensor, spacing_mm: tf.Tensor, center_index: tf.Tensor) -> dict[str, tf.Tensor]:
            cut = cut_patches(hu, spacing_mm, center_index, patch)
            return respond(cut, predict(cut.hu), region_warnings(hu, spacing_mm, center_index, cut.covered))

        def serve_recentered(hu: tf.Tensor, spacing_mm: tf.Tensor, center_index: tf.Tensor) -> dict[str, tf.Tensor]:
            nothing = no_outputs(contract, tf.shape(hu)[0])
            last, cut, predicted = recenter(hu, spacing_mm, center_index, patch, predict, nothing)
            moved_mm = lengths((last - center_index) * spacing_mm)
            moved_far = RaisedWarning(texts.MOVED_FAR, moved_mm > WARNING_MM)
            about_region = [*region_warnings(hu, spacing_mm, center_index, cut.covered), moved_far]
            outputs = respond(cut, predicted, about_region)
            return {**outputs, wire.OUTPUT_CENTER: last, wire.OUTPUT_MOVED: moved_mm}

        signatures = {signature.name: signature for signature in contract.signatures}
        # AutoGraph has nothing to convert here, and would write into the temporary folder, which may be full.
        self.serve = tf.function(serve, _specs(signatures[wire.SIGNATURE]), autograph=False)
        self.serve_roi = tf.function(serve_roi, _specs(signatures[wire.SIGNATURE_ROI]), autograph=False)
        self.serve_recentered = tf.function(
            serve_recentered, _specs(signatures[wire.SIGNATURE_RECENTERED]), autograph=False
        )


def _network(model: keras.Model, distribution: FeatureDistribution | None) -> Network:
    """The model with its weights as constants, and how typical its features are.

    Operations on a kernel alone, such as splitting, rounding and conversion to the processor's layout, then run once,
    at a version's first request. With variables a CPU repeats them at each request, 20 % of a single patch's time.
    """
    trained, kept = (
        [variable.numpy() for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )

    def network(patch: tf.Tensor) -> dict[str, tf.Tensor]:
        constants = (list(map(tf.constant, trained)), list(map(tf.constant, kept)))
        outputs: dict[str, tf.Tensor] = model.stateless_call(*constants, patch, training=False)[0]
        return outputs

    # A function of its own, so that all signatures share one set of constants.
    traced = tf.function(network, [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs], autograph=False)

    def predict(patch: tf.Tensor) -> NetworkOutputs:
        outputs = {name: tf.cast(values, tf.float32) for name, values in traced(patch).items()}
        probabilities = outputs["probabilities"]
        typicality = (
            tf.ones(tf.stack([tf.shape(patch)[0]]))
            if distribution is None
            else _typicality(outputs[FEATURES], distribution)
        )
        return NetworkOutputs(probabilities, outputs["mask"], typicality)

    return predict


def _typicality(features: tf.Tensor, distribution: FeatureDistribution) -> tf.Tensor:
    """`FeatureDistribution.typicality` in the graph, [N] float32."""
    mean, precision, held_out = (
        tf.constant(part, tf.float32) for part in (distribution.mean, distribution.precision, distribution.held_out)
    )
    offset = features - mean
    distance = tf.sqrt(tf.maximum(tf.reduce_sum(tf.matmul(offset, precision) * offset, axis=1), 0.0))
    farther = tf.reduce_sum(tf.cast(held_out >= distance[:, None], tf.float32), axis=1)
    return (1 + farther) / (len(distribution.held_out) + 1)


def _or_nan(values: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """NaN where there is no prediction: a number would be mistaken for one."""
    return tf.where(tf.reshape(predicted, [-1] + [1] * (len(values.shape) - 1)), values, float("nan"))


def _specs(signature: SignatureContract) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name) for tensor in signature.inputs]

"""The graph that is served: from Hounsfield units to named outputs, by two signatures."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.serving.contract.export_contract import ExportContract, SignatureContract
from ggn_tf.serving.contract.names import (
    OUTPUT_CLASS_NAMES,
    OUTPUT_MASK,
    OUTPUT_PROBABILITIES,
    OUTPUT_WARNING,
    SIGNATURE,
    SIGNATURE_ROI,
)
from ggn_tf.serving.contract.warning_texts import BAD_GEOMETRY
from ggn_tf.serving.export.graph_warnings import (
    RaisedWarning,
    has_prediction,
    patch_warnings,
    region_warnings,
    warning_output,
)
from ggn_tf.serving.export.resampling import cut_patches, is_sound


class ServedModel(tf.Module):
    """Both signatures around one network.

    A plain module, because a saved Keras model would include training functions.

    Args:
        model: Patch [N, S, S, S, 1] in [-1, 1] -> `{"mask", "probabilities"}`.
        contract: Names, types and shapes.
    """

    def __init__(self, model: keras.Model, contract: ExportContract) -> None:
        super().__init__()
        patch = contract.protocol.patch
        class_names = tf.constant([contract.task.class_names])
        network = _network(model)

        def run(hu: tf.Tensor, covered: tf.Tensor, about_region: Sequence[RaisedWarning]) -> dict[str, tf.Tensor]:
            outputs = network(normalise_hu(hu, patch.window_hu))
            mask = tf.cast(outputs["mask"], tf.float32)
            warnings = [*about_region, *patch_warnings(hu, covered, mask)]
            predicted = has_prediction(warnings)
            return {
                OUTPUT_PROBABILITIES: _or_nan(tf.cast(outputs["probabilities"], tf.float32), predicted),
                OUTPUT_MASK: _or_nan(mask, predicted),
                OUTPUT_CLASS_NAMES: tf.tile(class_names, [tf.shape(hu)[0], 1]),
                OUTPUT_WARNING: warning_output(warnings),
            }

        def serve(hu: tf.Tensor) -> dict[str, tf.Tensor]:
            # Clients fill a patch with this value outside the CT; inside a chest it hardly occurs.
            return run(hu, tf.not_equal(hu, patch.outside_hu), ())

        def serve_roi(hu: tf.Tensor, spacing_mm: tf.Tensor, center_index: tf.Tensor) -> dict[str, tf.Tensor]:
            cut = cut_patches(hu, spacing_mm, center_index, patch)
            bad_geometry = RaisedWarning(BAD_GEOMETRY, ~is_sound(hu, spacing_mm, center_index))
            return run(cut.hu, cut.covered, [bad_geometry, *region_warnings(spacing_mm, cut.covered)])

        signatures = {signature.name: signature for signature in contract.signatures}
        # AutoGraph has nothing to convert here, and would write into the temporary folder, which may be full.
        self.serve = tf.function(serve, _specs(signatures[SIGNATURE]), autograph=False)
        self.serve_roi = tf.function(serve_roi, _specs(signatures[SIGNATURE_ROI]), autograph=False)


def _network(model: keras.Model) -> tf.types.experimental.GenericFunction:
    """The model with its weights as constants.

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

    # A function of its own, so that both signatures share one set of constants.
    return tf.function(network, [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs], autograph=False)


def _or_nan(values: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """NaN where there is no prediction: a number would be mistaken for one."""
    return tf.where(tf.reshape(predicted, [-1] + [1] * (len(values.shape) - 1)), values, float("nan"))


def _specs(signature: SignatureContract) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name) for tensor in signature.inputs]

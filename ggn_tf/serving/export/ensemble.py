"""The prediction that is served: of one network or the mean of several, of the patch or the mean of its eight mirrors.

Every output beyond probabilities and mask is computed in `further_outputs`.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ggn_tf.serving.contract import wire
from ggn_tf.serving.contract.export_contract import ExportContract

_MIRRORS = np.array(list(itertools.product((0, 1), repeat=3)))
"""[8, 3], 1 where an axis z, y, x is reversed."""


class NetworkOutputs(NamedTuple):
    """What one network predicts for patches.

    Attributes:
        probabilities: [N, C] float32.
        mask: [N, S, S, S, 1] float32, from 0 to 1.
        typicality: [N] float32, p value of the distance from the training nodules; 1 in exports without it.
    """

    probabilities: tf.Tensor
    mask: tf.Tensor
    typicality: tf.Tensor


class PatchOutputs(NamedTuple):
    """What an export predicts for patches.

    Attributes:
        probabilities: [N, C] float32.
        mask: [N, S, S, S, 1] float32, from 0 to 1.
        further: The outputs that `ExportContract.further_outputs` lists, by their names on the wire; [N, ...].
    """

    probabilities: tf.Tensor
    mask: tf.Tensor
    further: dict[str, tf.Tensor]


Network = Callable[[tf.Tensor], NetworkOutputs]
"""Patches [N, S, S, S, 1] in [-1, 1] -> their prediction."""


def further_outputs(
    contract: ExportContract, mean: NetworkOutputs, members: Sequence[NetworkOutputs]
) -> dict[str, tf.Tensor]:
    """Compute what an export predicts beside probabilities and mask.

    A new output is added here, to `ExportContract.further_outputs`, and to `wire.FURTHER_OUTPUTS` and `wire.DTYPES`.
    All signatures then return it, NaN in rows without a prediction.

    Returns:
        A tensor [N, ...] for each of the listed names.
    """
    outputs = {}
    if contract.uncertainty is not None:
        inside = mean.probabilities >= tf.constant(contract.uncertainty.least_probabilities, tf.float32)
        outputs[wire.OUTPUT_SET] = tf.cast(inside, tf.float32)
        outputs[wire.OUTPUT_TYPICALITY] = mean.typicality
    if wire.OUTPUT_SPREAD in (output.name for output in contract.further_outputs):
        deviations = tf.stack([member.probabilities - mean.probabilities for member in members])
        outputs[wire.OUTPUT_SPREAD] = tf.sqrt(tf.reduce_mean(tf.square(deviations), axis=0))
    return outputs


def predict_patches(networks: Sequence[Network], contract: ExportContract, patch: tf.Tensor) -> PatchOutputs:
    """Predict patches [N, S, S, S, 1] in [-1, 1] by all members."""
    members = _over_mirrors(networks, contract, patch) if contract.mirrored else [run(patch) for run in networks]
    mean = members[0]
    if len(members) > 1:
        mean = NetworkOutputs(*(tf.add_n(values) / len(values) for values in zip(*members, strict=True)))
    return PatchOutputs(mean.probabilities, mean.mask, further_outputs(contract, mean, members))


def no_outputs(contract: ExportContract, count: tf.Tensor) -> PatchOutputs:
    """Outputs of `count` rows that are all zero, where nothing was predicted."""
    further = {
        output.name: tf.zeros(tf.stack([count, *output.shape[1:]]), output.dtype) for output in contract.further_outputs
    }
    nothing = _no_prediction(contract, count)
    return PatchOutputs(nothing.probabilities, nothing.mask, further)


def _no_prediction(contract: ExportContract, count: tf.Tensor) -> NetworkOutputs:
    size = contract.protocol.patch.size
    return NetworkOutputs(
        tf.zeros(tf.stack([count, len(contract.task.classes)])),
        tf.zeros(tf.stack([count, size, size, size, 1])),
        tf.zeros(tf.stack([count])),
    )


def _over_mirrors(networks: Sequence[Network], contract: ExportContract, patch: tf.Tensor) -> list[NetworkOutputs]:
    """Each member's mean over the mirrors, whose masks are mirrored back.

    One mirror at a time: the graph contains the weights once, and a request needs no more memory than without mirrors.
    """
    size = contract.protocol.patch.size
    orders = np.stack([np.arange(size), np.arange(size)[::-1]])[_MIRRORS]

    def step(number: tf.Tensor, sums: list[NetworkOutputs]) -> tuple[tf.Tensor, list[NetworkOutputs]]:
        order_zyx = tf.unstack(tf.gather(orders, number))
        mirrored = _reordered(patch, order_zyx)
        outputs = [network(mirrored) for network in networks]
        restored = [member._replace(mask=_reordered(member.mask, order_zyx)) for member in outputs]
        return number + 1, tf.nest.map_structure(tf.add, sums, restored)

    zeros = [_no_prediction(contract, tf.shape(patch)[0]) for _ in networks]
    _, sums = tf.while_loop(lambda number, _: number < len(_MIRRORS), step, (0, zeros), parallel_iterations=1)
    return [NetworkOutputs(*(total / len(_MIRRORS) for total in member)) for member in sums]


def _reordered(volumes: tf.Tensor, order_zyx: Sequence[tf.Tensor]) -> tf.Tensor:
    """Volumes [N, S, S, S, 1] with their layers in another order; OpenVINO cannot reverse chosen axes in a loop."""
    for axis, order in enumerate(order_zyx, start=1):
        volumes = tf.gather(volumes, order, axis=axis)
    return volumes

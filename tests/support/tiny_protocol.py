"""The smallest protocol whose networks are those of the paper: two scales. Every layer costs time at each trace."""

import dataclasses

from ggn_tf.protocol import PatchProtocol, Protocol

SIZE = 16
"""Voxels along each axis of its patches."""


def tiny_protocol(
    epochs: int = 2, learning_rate: float = 1e-3, size: int = SIZE, prior: float | None = None
) -> Protocol:
    """Networks with two to four channels; stages of few epochs, batches of 4.

    Args:
        epochs: Of each stage.
        learning_rate: Of each stage.
        size: Voxels along each axis of a patch; `prepare` writes 32.
        prior: The U-Net's; None for the paper's, with which no voxel of an untrained mask reaches 0.5.
    """
    paper = Protocol()
    training = dataclasses.replace(paper.training, batch_size=4)
    for name in ("segment", "classify", "joint"):
        stage = dataclasses.replace(getattr(training, name), max_epochs=epochs, learning_rate=learning_rate)
        training = dataclasses.replace(training, **{name: stage})
    unet = dataclasses.replace(
        paper.unet, channels_down=(2, 2, 4, 4), channels_up=(2, 2), dilations_down=(1, 1, 2, 2), dilations_up=(2, 1)
    )
    return dataclasses.replace(
        paper,
        patch=PatchProtocol(size=size),
        cnn=dataclasses.replace(paper.cnn, channels=(2, 2, 4, 4), fc_units=(8,)),
        unet=dataclasses.replace(unet, prior=unet.prior if prior is None else prior),
        training=training,
    )


TINY = tiny_protocol(size=32, prior=0.4)
"""On patches of the paper's size, as a server gets them."""

"""The smallest protocol that is a cascade: two scales. Every layer costs time at each export and load."""

import dataclasses

from ggn_tf.protocol import CnnProtocol, Protocol, UnetProtocol

TINY = dataclasses.replace(
    Protocol(),
    cnn=CnnProtocol(channels=(2, 2, 4, 4), fc_units=(8,)),
    unet=UnetProtocol(
        channels_down=(2, 2, 4, 4), channels_up=(2, 2), dilations_down=(1, 1, 2, 2), dilations_up=(2, 1), prior=0.4
    ),
)

"""The exact fast layers: each computes what its stock counterpart does, with the same weights."""

from ggn_tf.models.fast.convolution import Conv3D
from ggn_tf.models.fast.dropout import Dropout
from ggn_tf.models.fast.normalisation import BatchNormalization
from ggn_tf.models.fast.space_to_batch import FromLattice, ToLattice

__all__ = ["BatchNormalization", "Conv3D", "Dropout", "FromLattice", "ToLattice"]

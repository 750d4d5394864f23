"""The exact fast layers: each computes what its stock counterpart does, with the same weights."""

from ggn_tf.models.convolution import Conv3D
from ggn_tf.models.dropout import Dropout
from ggn_tf.models.lattice import Gather, Scatter
from ggn_tf.models.normalisation import BatchNormalization

__all__ = ["BatchNormalization", "Conv3D", "Dropout", "Gather", "Scatter"]

"""The features from which a classifier's last layer computes the probabilities."""

import keras

from ggn_tf.models.names import CLASSIFICATION

FEATURES = "features"


def with_features(model: keras.Model) -> keras.Model:
    """The same model, with the further output `features` [N, F]: its classifier's penultimate layer, without dropout.

    Layers and weights are shared, and nothing is computed twice.

    Args:
        model: A model of `BUILDERS`, with the sub-model `classification`.
    """
    classifier = model.get_layer(CLASSIFICATION)
    last = classifier.layers[-1]
    trunk = keras.Model(classifier.input, last.input, name=FEATURES)
    # The classifier's input where the model calls it: for a cascade the masked patch.
    features = trunk(classifier._inbound_nodes[-1].arguments.keras_tensors[0])
    outputs = {**model.output, "probabilities": last(features), FEATURES: features}
    return keras.Model(model.input, outputs, name=model.name)

"""Writes our scores, loss, first bias and export as files, for an environment that has tensorflow-addons.

python scripts/addons/ours.py FOLDER
"""

import dataclasses
import math
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from ggn_tf.evaluation.statistics.predictions_table import columns
from ggn_tf.evaluation.statistics.scores import score_values
from ggn_tf.models.systems import build_cascade
from ggn_tf.protocol import Protocol
from ggn_tf.serving.contract.messages import Prediction
from ggn_tf.serving.export.golden_requests import sample_patches, sample_regions
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.tasks import THREE_CLASSES
from ggn_tf.training.losses import classification_loss

# The paper's depth, so that every kind of layer is there; few channels, so that it takes seconds.
NARROW = dataclasses.replace(
    Protocol(),
    cnn=dataclasses.replace(Protocol().cnn, channels=(4,) * 8, fc_units=(8, 8)),
    unet=dataclasses.replace(Protocol().unet, channels_down=(4,) * 8, channels_up=(4,) * 6),
)
# An untrained network that finds no nodule would hide the patch from its classifier.
ANSWERING = dataclasses.replace(NARROW, unet=dataclasses.replace(NARROW.unet, prior=0.4))
SMALLEST_SPREAD = 1e-3
RANDOM_TABLES = 200


def main(folder: Path) -> None:
    write_scores(folder / "scores.npz")
    write_losses(folder / "losses.npz")
    write_prior(folder / "prior.npz")
    for precision in ("float32", "bfloat16"):
        write_answers(folder / precision, precision)


def write_scores(path: Path) -> None:
    stored = {}
    for number, (name, label, probabilities) in enumerate(tables()):
        values = score_values(frame_of(label, probabilities))
        ours = [math.nan if values[score][0] is None else values[score][0] for score in ("mcc", "average_f1")]
        parts = {"name": name, "label": label, "probabilities": probabilities, "ours": ours}
        stored |= {f"{number}/{part}": value for part, value in parts.items()}
    np.savez(path, **stored)


def tables() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Label [N] and probabilities [N, C] under a name: random ones of 2 to 5 classes, then the edges."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(RANDOM_TABLES):
        classes, cases = int(generator.integers(2, 6)), int(generator.integers(2, 300))
        label = generator.choice(classes, cases, p=generator.dirichlet(np.ones(classes)))
        label[:2] = 0, 1
        skill = generator.uniform(0, 3)
        logits = generator.normal(0, 1, (cases, classes)) + skill * np.eye(classes)[label]
        found.append((f"random {number}", label, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)))
    edges = {
        "perfect": ([0, 1, 2, 1], [0, 1, 2, 1], 3),
        "all wrong, two classes": ([0, 1, 1], [1, 0, 0], 2),
        "all wrong, three classes": ([0, 1, 2], [1, 2, 0], 3),
        "one class predicted for all": ([0, 1, 2, 2], [2, 2, 2, 2], 3),
        "a class without nodules": ([0, 0, 1, 1], [0, 1, 1, 2], 3),
        "a class without nodules that is never predicted": ([0, 0, 1, 1], [0, 1, 1, 1], 3),
        "two nodules": ([0, 1], [0, 1], 2),
        "one nodule": ([1], [1], 2),
        "all nodules of one class": ([1, 1, 1], [1, 0, 1], 2),
    }
    for name, (label, taken, classes) in edges.items():
        found.append((name, np.array(label), 0.1 + 0.7 * np.eye(classes)[taken]))
    found[-len(edges) :] = [(name, label, p / p.sum(axis=1, keepdims=True)) for name, label, p in found[-len(edges) :]]
    found.append(("tied probabilities", np.array([0, 1, 2]), np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [1 / 3] * 3])))
    return found


def frame_of(label: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    names = tuple(f"class{number}" for number in range(probabilities.shape[1]))
    told = {"case": "c", "patient": "p", "split": 1, "set": "test", "model": "cascade", "stage": "joint", "repeat": 1}
    chances = {f"p_{name}": probabilities[:, number] for number, name in enumerate(names)}
    frame = pd.DataFrame({"label": [names[index] for index in label], "dice": 0.5, **chances})
    return frame.assign(**told)[columns(names)]


def write_losses(path: Path) -> None:
    """Eq. 1 of two classes, at the logit of the second: random ones, and extremes that float32 still resolves."""
    generator = np.random.default_rng(1)
    logit = np.concatenate([generator.normal(0, 3, 500), [0.0, 1e-6, -1e-6, 12.0, -12.0]]).astype(np.float32)
    label = generator.integers(0, 2, len(logit))
    second = 1 / (1 + np.exp(-logit.astype(np.float64)))
    probabilities = np.stack([1 - second, second], axis=1).astype(np.float32)
    loss = classification_loss()
    each = [float(loss(label[i : i + 1], probabilities[i : i + 1])) for i in range(len(label))]
    np.savez(path, logit=logit, label=label, each=each, mean=float(loss(label, probabilities)))


def write_prior(path: Path) -> None:
    """The logit of a nodule voxel that the segmenter's last bias starts with."""
    prior = Protocol().unet.prior
    model = build_cascade(3, NARROW, seed=0)
    last = [weight for weight in model.weights if weight.path.endswith("bias") and tuple(weight.shape) == (2,)]
    (bias,) = [weight.numpy() for weight in last if np.any(weight.numpy())]
    np.savez(path, logit=bias[1] - bias[0], prior=prior)


def write_answers(folder: Path, precision: str) -> None:
    model = build_cascade(3, ANSWERING, seed=1, precision=precision)
    disturb(model)
    version = export_model(model, THREE_CLASSES, ANSWERING, folder)
    patches, regions = sample_patches(ANSWERING.patch, 3, seed=7), sample_regions(seed=7)
    with LocalModel(version) as served:
        answers = {"serving_default": served.predict(patches), "roi": served.predict_roi(*regions)}
    feeds = {
        "serving_default": {"hu": patches},
        "roi": dict(zip(("hu", "spacing_mm", "center_index"), regions, strict=True)),
    }
    for signature, answer in answers.items():
        spread = min(np.ptp(answer.probabilities, axis=0).max(), np.ptp(answer.mask))
        if not spread > SMALLEST_SPREAD:
            raise SystemExit(f"{precision} {signature}: the answers hardly differ ({spread:.1e}): nothing to compare")
        np.savez(folder / f"{signature}.feeds.npz", **feeds[signature])
        np.savez(folder / f"{signature}.answer.npz", **arrays_of(answer))


def disturb(model: keras.Model) -> None:
    """Statistics and biases that are not the neutral ones: a swapped weight would show.

    Kernels stay as drawn: larger ones amplify the rounding of bfloat16 until no two releases agree.
    """
    generator = np.random.default_rng(1)
    for weight in model.weights:
        if weight.path.endswith(("moving_mean", "beta", "bias")):
            weight.assign(weight.numpy() + generator.normal(0, 0.1, weight.shape))


def arrays_of(answer: Prediction) -> dict[str, np.ndarray]:
    return {
        "probabilities": answer.probabilities,
        "mask": answer.mask,
        "class_names": np.array(answer.class_names),
        "warning": np.array(answer.warnings),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))

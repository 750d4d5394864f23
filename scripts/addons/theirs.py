"""Compares tensorflow-addons, and our export in TensorFlow 2.15, with the files of `ours.py`.

python scripts/addons/theirs.py FOLDER, in an environment with scripts/addons/constraints.txt
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")  # Addons says at each import that it has ended.

import tensorflow as tf  # noqa: E402
import tensorflow_addons as tfa  # noqa: E402

failures: list[str] = []


def main(folder: Path) -> int:
    print(f"TensorFlow {tf.__version__}, tensorflow-addons {tfa.__version__}, NumPy {np.__version__}")
    compare_scores(folder / "scores.npz")
    compare_losses(folder / "losses.npz")
    compare_prior(folder / "prior.npz")
    compare_answers(folder / "float32", {"probabilities": 1e-5, "mask": 1e-5})
    compare_answers(folder / "bfloat16")
    for failure in failures:
        print(f"DIFFERS: {failure}", file=sys.stderr)
    return 1 if failures else 0


def compare_scores(path: Path) -> None:
    """R_K and support-weighted F1 of decisions; addons computes in float32.

    Where our MCC is undefined (all nodules of one class), addons must have found nothing to divide by: it says 0.
    Addons' F1 counts each of several equal largest probabilities, ours the first, as MCC does in both: it is given the
    decisions where they are tied.
    """
    stored = np.load(path)
    largest = {"MatthewsCorrelationCoefficient": 0.0, "F1Score": 0.0}
    count = len({name.split("/")[0] for name in stored.files})
    for number in range(count):
        name, label, probabilities, ours = (
            stored[f"{number}/{part}"] for part in ("name", "label", "probabilities", "ours")
        )
        classes = probabilities.shape[1]
        mcc = tfa.metrics.MatthewsCorrelationCoefficient(num_classes=classes)
        f1 = tfa.metrics.F1Score(num_classes=classes, average="weighted")
        given = np.eye(classes)[probabilities.argmax(axis=1)] if name == "tied probabilities" else probabilities
        for metric, own in zip((mcc, f1), ours, strict=True):
            metric.update_state(np.eye(classes, dtype=np.float32)[label], given.astype(np.float32))
            found = float(metric.result())
            difference = abs(found - (0.0 if np.isnan(own) else own))
            kind = type(metric).__name__
            largest[kind] = max(largest[kind], difference)
            check(f"{kind}, {name}", difference, 1e-5)
    for kind, difference in largest.items():
        print(f"{kind}: {count} tables, largest difference {difference:.1e}")


def compare_losses(path: Path) -> None:
    """Eq. 1 is the focal loss that neither focuses nor weighs: gamma 0, no alpha, of the second class's logit."""
    stored = np.load(path)
    label, logit = (stored[name].astype(np.float32)[:, np.newaxis] for name in ("label", "logit"))
    focal = tfa.losses.SigmoidFocalCrossEntropy(from_logits=True, alpha=None, gamma=0.0)
    found = focal(label, logit).numpy()
    # float32 stores p to 6e-8, so -log p only to 6e-8 / p: a hundredth at a logit of 12.
    allowed = 1e-5 + 1.2e-7 * np.exp(np.abs(stored["logit"]))
    differences = np.abs(found - stored["each"])
    check("SigmoidFocalCrossEntropy, each", float((differences / allowed).max()), 1.0)
    check("SigmoidFocalCrossEntropy, mean", abs(float(found.mean()) - float(stored["mean"])), 1e-4)
    near = np.abs(stored["logit"]) < 5
    print(f"SigmoidFocalCrossEntropy, gamma 0: {len(found)} logits, largest difference {differences.max():.1e}")
    print(f"  (where the logit is below 5: {differences[near].max():.1e})")


def compare_prior(path: Path) -> None:
    """At the bias that training starts with, a background voxel costs what Lin et al. 2017 chose it for.

    FL = -alpha_t (1 - p_t)^gamma log p_t with p_t = 1 - prior, their gamma 2 and alpha 0.25 (of the nodule).
    """
    stored = np.load(path)
    prior, logit = float(stored["prior"]), tf.constant([[float(stored["logit"])]])
    for alpha, gamma, weight in ((None, 0.0, 1.0), (0.25, 2.0, 0.75 * prior**2)):
        focal = tfa.losses.SigmoidFocalCrossEntropy(from_logits=True, alpha=alpha, gamma=gamma)
        expected = -weight * np.log1p(-prior)
        difference = abs(float(focal(tf.zeros([1, 1]), logit)[0]) - expected) / expected
        check(f"the prior's loss, gamma {gamma}", difference, 1e-5)
        print(f"background at the prior {prior}, gamma {gamma}: {expected:.3e}, relative difference {difference:.1e}")


def compare_answers(folder: Path, tolerances: dict[str, float] | None = None) -> None:
    """Compare within `tolerances`, by default the export's for other machines: another release rounds differently."""
    (version,) = (path for path in folder.iterdir() if path.name.isdigit())
    tolerances = tolerances or json.loads((version / "assets.extra" / "contract.json").read_text())["tolerances"]
    loaded = tf.saved_model.load(str(version))
    for signature in ("serving_default", "roi"):
        feeds, expected = (np.load(folder / f"{signature}.{kind}.npz") for kind in ("feeds", "answer"))
        types = loaded.signatures[signature].structured_input_signature[1]
        asked = {name: tf.constant(feeds[name], types[name].dtype) for name in feeds.files}
        found = {name: tensor.numpy() for name, tensor in loaded.signatures[signature](**asked).items()}
        for name in ("probabilities", "mask"):
            difference = float(np.abs(found[name].reshape(expected[name].shape) - expected[name]).max())
            check(f"{folder.name} {signature} {name}", difference, tolerances[name])
            print(f"SavedModel {folder.name}, {signature}, {name}: largest difference {difference:.1e}")
        check_text(f"{folder.name} {signature} class_names", found["class_names"][0], expected["class_names"])
        check_text(f"{folder.name} {signature} warning", found["warning"].ravel(), expected["warning"])


def check(what: str, difference: float, allowed: float) -> None:
    # Also false for NaN.
    if not difference <= allowed:
        failures.append(f"{what}: {difference:.3g}, allowed {allowed:.3g}")


def check_text(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    texts = [text.decode() for text in found]
    if texts != list(expected):
        failures.append(f"{what}: {texts}, ours {list(expected)}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

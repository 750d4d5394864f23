"""What the DICOM objects of one prediction have in common: UIDs, tracking of nodules, finding, site and algorithm."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import SimpleITK as sitk  # noqa: N813
from pydicom.sr.codedict import codes

from ggn_tf import __version__
from ggn_tf.cases.dicom.segmentation import MAKER
from ggn_tf.cases.dicom.series_writer import uid
from ggn_tf.cases.geometry.grid import Vector
from ggn_tf.prediction.class_codes import ClassCode

if TYPE_CHECKING:
    # TensorFlow comes with it.
    from ggn_tf.prediction.nodules import CtPrediction, NodulePrediction

# 3D Slicer shows this code by its older name, Morphologically Altered Structure.
FINDING_CATEGORY = codes.SCT.MorphologicallyAbnormalStructure
FINDING = codes.SCT.Nodule
FINDING_SITE = codes.SCT.Lung
ALGORITHM_FAMILY = codes.cid7162.ArtificialIntelligence
# Longest text of a label or meaning in DICOM (LO): characters by the standard, bytes by dciodvfy.
_LONGEST_TEXT = 64


@dataclass(frozen=True)
class TrackedNodule:
    """A nodule as every object names it: tracking identifier and tracking UID."""

    name: str
    uid: str


@dataclass(frozen=True)
class Identity:
    """The names of the objects of one prediction.

    Attributes:
        model: The model, for the algorithm's parameters.
        nodules: In the order of the prediction.
        seed: What the UIDs of the objects are derived from.
    """

    model: str
    nodules: tuple[TrackedNodule, ...]
    seed: str

    def uid(self, kind: str) -> str:
        """The UID of an object or series of a kind: the same in a second run, so that an archive keeps one copy."""
        return uid(f"{self.seed}/{kind}")


def identify(prediction: "CtPrediction", class_codes: Mapping[str, ClassCode]) -> Identity:
    """Derive the UIDs of a prediction's objects.

    Those of the objects depend on the series, the model, the version of this program, the class codes, the warnings'
    codes, and of each nodule on its name, its given centre, how often the centre moved, whether the model found it, and
    the solid threshold; where the model's digest is not known, also on its output. The tracking UID of a nodule depends
    on the series, its given centre and the model.

    Args:
        prediction: The prediction about a DICOM series.
        class_codes: The codes of its classes that are not private.
    """
    source = f"{prediction.volume.series}/{prediction.model_sha256 or _served(prediction)}"
    nodules, known = [], Counter[str]()
    for number, nodule in enumerate(prediction.nodules, start=1):
        key = f"{source}/{_key(nodule.given_center_mm_lps)}"
        known[key] += 1
        nodules.append(TrackedNodule(dicom_text(nodule.name) or f"nodule {number}", uid(f"{key}/{known[key]}")))
    digest = prediction.model_sha256
    content = [
        (nodule.name, nodule.moves, nodule.mask is None, nodule.measurements and nodule.measurements.solid_hu)
        for nodule in prediction.nodules
    ]
    warnings = (prediction.warnings, *(nodule.warnings for nodule in prediction.nodules))
    warned = [[warning.code for warning in each] for each in warnings]
    outputs = [] if digest else [_output_digest(nodule) for nodule in prediction.nodules]
    tracking = [nodule.uid for nodule in nodules]
    seed = (source, __version__, sorted(class_codes.items()), tracking, content, warned, outputs)
    model = f"version {prediction.model_version}" + (f", SHA-256 {digest}" if digest else "")
    return Identity(model, tuple(nodules), f"{MAKER}/{seed}")


def dicom_text(text: str) -> str:
    """Text as a value of DICOM (LO): no control characters, no backslash, which separates values, and not too long."""
    printable = "".join(" " if unicodedata.category(letter).startswith("C") else letter for letter in text)
    return printable.replace("\\", "/").strip().encode()[:_LONGEST_TEXT].decode(errors="ignore").strip()


def _served(prediction: "CtPrediction") -> str:
    """A model behind a server, whose digest is not known."""
    return f"{prediction.source.get('model_name', '')}/{prediction.model_version}"


def _output_digest(nodule: "NodulePrediction") -> str:
    """SHA-256 of what the model predicts about a nodule."""
    values = (nodule.probabilities, nodule.spread, nodule.prediction_set, nodule.typicality)
    digest = hashlib.sha256(repr(values).encode())
    if nodule.mask is not None:
        digest.update(repr((nodule.mask.GetSize(), nodule.mask.GetOrigin())).encode())
        digest.update(sitk.GetArrayViewFromImage(nodule.mask).tobytes())
    return digest.hexdigest()


def _key(center_mm_lps: Vector) -> str:
    # 0 and -0 are one centre.
    return "/".join(f"{value + 0.0:.2f}" for value in (round(value, 2) for value in center_mm_lps))

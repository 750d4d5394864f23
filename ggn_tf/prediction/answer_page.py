"""The page of a prediction, answer.html: the nodules of a CT with pictures, probabilities, measures and warnings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ggn_tf import __version__
from ggn_tf.cases.measure_texts import MEASURE_TEXTS
from ggn_tf.evaluation.report.page import (
    UNKNOWN,
    Block,
    Cell,
    Label,
    Link,
    Number,
    Page,
    Prose,
    Section,
    Table,
    write_page,
)
from ggn_tf.evaluation.report.viewer import Viewer, region_of
from ggn_tf.prediction.patch_warnings import NO_DECISION
from ggn_tf.shown_text import one_line, printable

if TYPE_CHECKING:
    # TensorFlow comes with it.
    from ggn_tf.prediction.nodules import CtPrediction, NodulePrediction

# Markups may name thousands of nodules, and a browser keeps the voxels of all pictures in memory.
_MOST_PICTURES = 50
_NO_MASK = "There are no measurements: the model found no nodule here."
_TYPICALITY = "share of held-out nodules that are at least as far from those of the training"
_PATIENT_IMAGES = "The slices are of a patient's CT: handle this page as you would handle the CT."


@dataclass(frozen=True)
class ClassProbability:
    """The probability of one class.

    Attributes:
        probability: From 0 to 1; None where it is undefined.
        spread: Standard deviation over the members of an ensemble; None for a single model.
        in_set: Whether the class is in the prediction set; None where the model has none.
    """

    name: str
    probability: float | None
    spread: float | None = None
    in_set: bool | None = None


@dataclass(frozen=True)
class NoduleAnswer:
    """All that is known about a nodule, below its heading."""

    template: ClassVar[str] = "nodule.html"

    decision: str
    probabilities: Sequence[ClassProbability]
    viewer: Viewer | Prose
    facts: Table
    measures: Table | Prose


@dataclass(frozen=True)
class Preformatted:
    """A text whose lines stay as they are."""

    template: ClassVar[str] = "preformatted.html"

    text: str


def write_answer(prediction: "CtPrediction", result: Mapping[str, Any], written: date, path: Path) -> None:
    """Write the page.

    All but the pictures and the model card comes from `result`, the content of result.json. The page needs no other
    file and no network.
    """
    entries = result["nodules"]
    sections = [_nodule_section(entry, nodule) for entry, nodule in zip(entries, prediction.nodules, strict=True)]
    name = one_line(f"model {result.get('model_name') or Path(result.get('export', UNKNOWN)).name}")
    model = f"{name}, version {result['model_version']}"
    page = Page(
        title=f"Prediction for {len(entries)} nodule{'' if len(entries) == 1 else 's'}",
        subtitle=f"{model}; written on {written.isoformat()}. {_PATIENT_IMAGES}",
        blocks=[*_warnings(result["warnings"]), *_overview(entries)],
        sections=[*sections, *_model_sections(prediction, result)],
    )
    write_page(page, path, path.parent)


def _warnings(warnings: Sequence[Mapping[str, Any]]) -> list[Block]:
    return [Prose(one_line(warning["text"]), warning=True) for warning in warnings]


def _overview(entries: Sequence[Mapping[str, Any]]) -> list[Block]:
    """A table of several nodules; a sentence where there is none."""
    if not entries:
        return [Prose("The prediction contains no nodule: no location was given.", warning=True)]
    if len(entries) == 1:
        return []
    rows: list[list[Cell]] = [
        [
            Link(_title(entry), _anchor(entry)),
            _decision(entry),
            None if entry["decision"] is None else Number(_finite(entry["probabilities"][entry["decision"]])),
            _measure(entry, "mean_diameter_mm"),
            _measure(entry, "volume_mm3"),
            len(entry["warnings"]),
        ]
        for entry in entries
    ]
    return [Table(["nodule", "predicted class", "probability", "mean diameter", "volume", "warnings"], rows)]


def _nodule_section(entry: Mapping[str, Any], nodule: "NodulePrediction") -> Section:
    title = _title(entry)
    if entry["label"] > _MOST_PICTURES:
        viewer: Viewer | Prose = Prose(f"No pictures here: the page has those of the first {_MOST_PICTURES} nodules.")
    else:
        region = region_of(title, nodule.block, nodule.mask, nodule.center_mm_lps)
        viewer = Viewer(f"{_anchor(entry)}-viewer", [region])
    answer = NoduleAnswer(
        decision=_decision(entry),
        probabilities=_probabilities(entry),
        viewer=viewer,
        facts=_facts(entry),
        measures=Prose(_NO_MASK) if nodule.mask is None else _measures(entry),
    )
    return Section(_anchor(entry), title, [*_warnings(entry["warnings"]), answer])


def _title(entry: Mapping[str, Any]) -> str:
    return one_line(f"{entry['label']}: {entry['name']}")


def _decision(entry: Mapping[str, Any]) -> str:
    return one_line(entry["decision"] or NO_DECISION)


def _anchor(entry: Mapping[str, Any]) -> str:
    return f"nodule-{entry['label']}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _probabilities(entry: Mapping[str, Any]) -> list[ClassProbability]:
    spread, prediction_set = entry.get("spread"), entry.get("prediction_set")
    return [
        ClassProbability(
            one_line(name),
            _finite(probability),
            None if spread is None else spread[name],
            None if prediction_set is None else name in prediction_set,
        )
        for name, probability in entry["probabilities"].items()
    ]


def _facts(entry: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        ["centre", _point(entry["center_mm_lps"], "mm (LPS)")],
        ["as a voxel of the CT", _point(entry["center_index_xyz"], "(x, y, z, from 0)")],
    ]
    if entry["moves"]:
        rows.append(["given centre", _point(entry["given_center_mm_lps"], "mm (LPS)")])
        rows.append(["moved by recentring", f"{entry['moved_mm']:.1f} mm"])
    if entry.get("typicality") is not None:
        rows.append([Label("typicality", _TYPICALITY), Number(entry["typicality"])])
    return Table([], rows, "Further facts")


def _point(point: Sequence[float], frame: str) -> str:
    return f"{', '.join(f'{value:.1f}' for value in point)} {frame}"


def _measures(entry: Mapping[str, Any]) -> Table:
    caption = "Measures of the predicted mask on the CT's own voxels. None of them is a category or advice."
    rows: list[list[Cell]] = [
        [text.title, _measure(entry, field), text.used_by or "-"] for field, text in MEASURE_TEXTS.items()
    ]
    return Table(["measure", "value", "used by"], rows, caption)


def _measure(entry: Mapping[str, Any], field: str) -> str | None:
    return None if entry[field] is None else MEASURE_TEXTS[field].printed(entry[field])


def _model_sections(prediction: "CtPrediction", result: Mapping[str, Any]) -> list[Section]:
    classes = list(result["nodules"][0]["probabilities"]) if result["nodules"] else []
    facts = {
        **{name: result.get(key) for name, key in _SOURCES.items() if result.get(key) is not None},
        "version": result["model_version"],
        "SHA-256 of its list of checksums": prediction.model_sha256 or UNKNOWN,
        "task": ",".join(classes) or UNKNOWN,
        "classes": ", ".join(classes) or UNKNOWN,
        "page written by": f"ggn_tf {__version__}",
    }
    rows: list[list[Cell]] = [[name, one_line(str(value))] for name, value in facts.items()]
    card = prediction.model_card
    missing = "There is no model card here: it is in the export that a server loads, and a server does not send it."
    text = Prose(missing) if card is None else Preformatted(printable(card))
    return [Section("model", "Model", [Table([], rows)]), Section("card", "Model card", [text])]


_SOURCES = {"CT": "ct", "export": "export", "server": "server", "name on the server": "model_name"}

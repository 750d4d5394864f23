"""The model card in an export: what the model is, its intended use and its limits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ggn_tf.cases.recentring import MOST_MOVES
from ggn_tf.evaluation.report.model_card import optimism_warning, render_card, score_lines
from ggn_tf.evaluation.report.run_tables import UNCHECKED, extent_warnings
from ggn_tf.evaluation.statistics.run_scores import ExtentScore, StageScores, stage_document
from ggn_tf.runs.started_from import StartedFrom
from ggn_tf.serving.contract.export_contract import Difference, ExportContract, difference_of
from ggn_tf.serving.contract.wire import shape_text

_DIFFERENCES = {
    Difference.SEEDS: "The members were trained on the same data with different seeds. Such members were found to be "
    "better calibrated than folds (arXiv 2605.18329).",
    Difference.FOLDS: "The members were trained on different parts of one dataset (folds or splits). Members with "
    "different seeds on the same data were found to be better calibrated (arXiv 2605.18329). Where each nodule is in "
    "the test set of one member, as in a cross-validation, scores on this dataset are of single members.",
    Difference.DATASETS: "The members were trained on different datasets.",
}


@dataclass(frozen=True)
class Provenance:
    """The origin of exported weights; None where unknown, or for scores where the run was not evaluated.

    `start_from` has the sources of first weights other than the initial ones of a seed, of all members.
    """

    run: str | None = None
    model: str | None = None
    stage: str | None = None
    split: int | None = None
    seed: int | None = None
    precision: str | None = None
    select_on: str | None = None
    select_by: str | None = None
    dataset_fingerprint: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    scores: StageScores | None = None
    field_of_view: tuple[ExtentScore, ...] = ()
    start_from: tuple[StartedFrom, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The origin as JSON types."""
        scores = None if self.scores is None else stage_document(self.scores)
        return {**asdict(self), "scores": scores, "field_of_view": [asdict(score) for score in self.field_of_view]}


def model_card(contract: ExportContract, provenance: Provenance, version: int) -> str:
    """Write the card, as Markdown."""
    patch, versions = contract.protocol.patch, sorted(provenance.versions.items())
    # Where there are members, their table has these.
    of_one_run = [] if contract.members else ["run", "split", "seed"]
    origin = [
        *((name, getattr(provenance, name)) for name in (*of_one_run[:1], "model")),
        ("last stage", provenance.stage),
        *((name, getattr(provenance, name)) for name in (*of_one_run[1:], "precision")),
        *(("first weights", _first_weights(start)) for start in provenance.start_from),
        ("weights selected on", provenance.select_on),
        ("classifier selected by", provenance.select_by),
        ("dataset fingerprint", provenance.dataset_fingerprint),
        ("packages", ", ".join(f"{name} {version}" for name, version in versions) or None),
    ]
    return render_card(
        "export_card.md",
        contract=contract,
        version=version,
        members=contract.members,
        difference=_DIFFERENCES[difference_of(contract.members)] if contract.members else "",
        shape_text=shape_text,
        spacing=" x ".join(f"{value:g}" for value in patch.spacing_mm_zyx),
        extent=" x ".join(f"{(patch.size - 1) * value:g}" for value in patch.spacing_mm_zyx),
        most_moves=MOST_MOVES,
        shift_mm=f"{contract.protocol.training.largest_shift_mm:g}",
        outside_hu=f"{patch.outside_hu:g}",
        window_hu=" to ".join(f"{value:g}" for value in patch.window_hu),
        origin=origin,
        scores=None if provenance.scores is None else score_lines(provenance.scores),
        extent_warnings=extent_warnings(provenance.field_of_view),
        warning=optimism_warning(provenance.select_on),
    )


def _first_weights(start: StartedFrom) -> str:
    layers = {"initial weights": start.initialised, "frozen": start.frozen}
    others = "".join(f"; {name}: {', '.join(names)}" for name, names in layers.items() if names)
    note = "" if start.patients_checked else f"; {UNCHECKED}"
    return f"{start.kind} {start.name}, SHA-256 {start.sha256}, {len(start.taken)} layers{others}{note}"

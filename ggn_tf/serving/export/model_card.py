"""The model card in an export: what the model is, its intended use and its limits."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ggn_tf.evaluation.report.markdown import fact_lines, section
from ggn_tf.evaluation.report.model_card import heading, intended_use, limits, optimism_warning, score_lines
from ggn_tf.evaluation.statistics.run_scores import StageScores
from ggn_tf.evaluation.statistics.scores_file import stage_document
from ggn_tf.serving.contract.export_contract import ExportContract, TensorContract
from ggn_tf.serving.contract.names import SIGNATURE, SIGNATURE_ROI, shape_text


@dataclass(frozen=True)
class Provenance:
    """The origin of exported weights; None where unknown.

    Attributes:
        run: The run folder's name.
        model: For example `cascade`.
        stage: The last finished stage.
        split, seed, precision: Settings of the run.
        select_on: The set whose score selected the weights.
        dataset_fingerprint: Fingerprint of the dataset's content.
        versions: Versions of the packages at the start of the run, by name.
        scores: Test scores of the exported stage; None if the run was not evaluated.
    """

    run: str | None = None
    model: str | None = None
    stage: str | None = None
    split: int | None = None
    seed: int | None = None
    precision: str | None = None
    select_on: str | None = None
    dataset_fingerprint: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    scores: StageScores | None = None

    def to_dict(self) -> dict[str, Any]:
        """The origin as JSON types."""
        scores = None if self.scores is None else stage_document(self.scores)
        return {**asdict(self), "scores": scores}


def model_card(contract: ExportContract, provenance: Provenance, version: int) -> str:
    """Write the card.

    Args:
        contract: What the export takes and predicts.
        provenance: The origin of its weights.
        version: Number of the version directory.

    Returns:
        Markdown.
    """
    parts = (_purpose(contract, version), _inputs_and_outputs(contract), _origin(provenance), _scores(provenance))
    return "\n".join(line for part in parts for line in part) + "\n"


def _purpose(contract: ExportContract, version: int) -> list[str]:
    return [
        *heading(contract.task.class_names),
        "",
        f"Version {version}.",
        "",
        *intended_use(),
        "",
        "From a patch around the nodule's centre it predicts the class probabilities and a soft mask of the nodule.",
        "",
        *limits(),
    ]


def _inputs_and_outputs(contract: ExportContract) -> list[str]:
    patch = contract.protocol.patch
    low_hu, high_hu = patch.window_hu
    spacing = " x ".join(f"{value:g}" for value in patch.spacing_mm_zyx)
    region = " x ".join(f"{(patch.size - 1) * value:g}" for value in patch.spacing_mm_zyx)
    return [
        "## Inputs and outputs",
        "",
        f"Signature `{SIGNATURE}`, for a patch that is already cut:",
        "",
        *_table(contract.signatures[0].inputs),
        "",
        f"The patch has a grid of {spacing} mm along the CT axes nearest to S, P and L, is centred on the nodule",
        f"and contains {patch.outside_hu:g} outside the CT. The graph applies the window {low_hu:g} to {high_hu:g} HU.",
        "",
        f"Signature `{SIGNATURE_ROI}`, for a region of the original CT, from which the graph cuts the patch:",
        "",
        *_table(contract.signatures[1].inputs),
        "",
        f"The region should extend over {region} mm (z, y, x) around the centre; it may end where the CT ends.",
        "",
        "Outputs of both:",
        "",
        *_table(contract.outputs),
        "",
    ]


def _table(tensors: Sequence[TensorContract]) -> list[str]:
    rows = [f"| {tensor.name} | {tensor.dtype} | {shape_text(tensor.shape)} | {tensor.meaning} |" for tensor in tensors]
    return ["| tensor | type | shape | meaning |", "|---|---|---|---|", *rows]


def _origin(provenance: Provenance) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(provenance.versions.items()))
    facts = [
        ("run", provenance.run),
        ("model", provenance.model),
        ("last stage", provenance.stage),
        ("split", provenance.split),
        ("seed", provenance.seed),
        ("precision", provenance.precision),
        ("weights selected on", provenance.select_on),
        ("dataset fingerprint", provenance.dataset_fingerprint),
        ("packages", versions or None),
    ]
    return section("Origin", fact_lines(facts))


def _scores(provenance: Provenance) -> list[str]:
    if provenance.scores is None:
        return ["## Scores", "", "The run was not evaluated before it was exported."]
    lines = [f"- {line}" for line in score_lines(provenance.scores)]
    alarm = optimism_warning(provenance.select_on)
    return ["## Scores on the test set", "", *lines, *(["", *alarm] if alarm else [])]

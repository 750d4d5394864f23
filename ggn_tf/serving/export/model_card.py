"""The model card that travels in an export: what the model is, is for, and is not for."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ggn_tf.evaluation.report.markdown import fact_lines, section
from ggn_tf.evaluation.report.model_card import LIMITS, caution, heading, intended_use, score_lines
from ggn_tf.evaluation.statistics.run_scores import StageScores
from ggn_tf.evaluation.statistics.scores_file import stage_document
from ggn_tf.serving.contract.names import SIGNATURE, SIGNATURE_ROI, ExportContract, TensorContract


@dataclass(frozen=True)
class Provenance:
    """Where exported weights come from; what is not known stays None.

    Attributes:
        run: The run folder's name.
        model: For example `cascade`.
        stage: The last finished stage.
        split, seed, precision: As the run was begun.
        select_on: The set whose score selected the weights.
        dataset_fingerprint: Of the dataset's content.
        versions: Of the packages that the run was begun with.
        scores: The exported stage's scores on the test set; None where the run was not evaluated.
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
        """As JSON types."""
        scores = None if self.scores is None else stage_document(self.scores)
        return {**asdict(self), "scores": scores}


def model_card(contract: ExportContract, provenance: Provenance, version: int) -> str:
    """Write the card.

    Args:
        contract: What the export answers.
        provenance: Where its weights come from.
        version: Of the version directory.

    Returns:
        Markdown.
    """
    return (
        "\n".join([*_what_for(contract, version), *_wire(contract), *_origin(provenance), *_scores(provenance)]) + "\n"
    )


def _what_for(contract: ExportContract, version: int) -> list[str]:
    return [
        *heading(contract.task.class_names),
        "",
        f"Version {version}.",
        "",
        *intended_use(),
        "",
        "Given a patch around the nodule's centre it gives a probability for each class and a soft mask of the nodule.",
        "",
        *section("Limits", [f"- {limit}" for limit in LIMITS]),
    ]


def _wire(contract: ExportContract) -> list[str]:
    patch = contract.protocol.patch
    low_hu, high_hu = patch.window_hu
    spacing = " x ".join(f"{value:g}" for value in patch.spacing_mm_zyx)
    region = " x ".join(f"{(patch.size - 1) * value:g}" for value in patch.spacing_mm_zyx)
    return [
        "## What it takes and gives",
        "",
        f"Signature `{SIGNATURE}`, for a patch that is cut already:",
        "",
        *_table(contract.signatures[0].inputs),
        "",
        f"The patch lies on a grid of {spacing} mm (z, y, x) along the CT's axes, centred on the nodule,",
        f"{patch.outside_hu:g} where the CT does not reach. The graph applies the window {low_hu:g} to {high_hu:g} HU.",
        "",
        f"Signature `{SIGNATURE_ROI}`, for a region of the CT as it was scanned, from which the graph cuts the patch:",
        "",
        *_table(contract.signatures[1].inputs),
        "",
        f"The region should reach {region} mm (z, y, x) around the centre; it may end where the CT ends.",
        "",
        "Both answer:",
        "",
        *_table(contract.outputs),
        "",
    ]


def _table(tensors: Sequence[TensorContract]) -> list[str]:
    rows = [f"| {tensor.name} | {tensor.dtype} | {tensor.shape_text} | {tensor.meaning} |" for tensor in tensors]
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
    alarm = caution(provenance.select_on)
    return ["## Scores on the test set", "", *lines, *(["", *alarm] if alarm else [])]

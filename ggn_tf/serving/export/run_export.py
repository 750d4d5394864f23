"""What an export takes from a run: its last stage's model, and where the weights come from."""

import keras

from ggn_tf.errors import RunError
from ggn_tf.evaluation.statistics.run_scores import StageScores
from ggn_tf.evaluation.statistics.scores_file import SCORES_FILE, read_scores_file
from ggn_tf.models.names import RAW, REFERENCE
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import SEGMENT
from ggn_tf.serving.export.model_card import Provenance

# A caller is to see what was classified, and has no expert's mask to send.
_NOT_SERVED = {RAW: "gives no mask", REFERENCE: "wants the expert's mask beside the patch"}


def load_served_model(run: RunFolder) -> keras.Model:
    """The model of the last finished stage.

    Raises:
        RunError: The model does not segment and classify, no stage is finished, or only the first, whose classifier
            has never been trained.
    """
    model = run.description.model
    if model in _NOT_SERVED:
        raise RunError(
            "A run of this model cannot be served.",
            case=run.folder,
            found=f"model {model}, which {_NOT_SERVED[model]}",
            expected="a model that takes a patch, segments and classifies: cascade or multitask",
            remedy="Train one with: ggn-tf fit --model cascade",
        )
    finished = run.finished_stages()
    if finished and finished[-1] == SEGMENT.name:
        raise RunError(
            "The run cannot classify yet.",
            case=run.folder,
            found=f"finished: {finished[-1]}",
            expected="a stage that trains the classifier",
            remedy="Repeat the ggn-tf fit command that began the run, which run.json tells, with --stage joint.",
        )
    return run.load_model()


def provenance_of(run: RunFolder) -> Provenance:
    """Where a run's weights come from, and how they score where it was evaluated.

    Raises:
        RunError: Its scores.json cannot be read.
    """
    description = run.description
    stage = run.finished_stages()[-1]
    return Provenance(
        run=run.folder.resolve().name,
        model=description.model,
        stage=stage,
        split=description.split,
        seed=description.seed,
        precision=description.precision,
        select_on=description.select_on,
        dataset_fingerprint=description.dataset_fingerprint,
        versions=run.versions,
        scores=_scores(run, stage),
    )


def _scores(run: RunFolder, stage: str) -> StageScores | None:
    """The test scores of the exported stage; those of another stage say nothing about these weights."""
    file = run.folder / "evaluation" / SCORES_FILE
    if not file.exists():
        return None
    test = read_scores_file(file).scores.test
    return test.stages.get(stage) if test else None

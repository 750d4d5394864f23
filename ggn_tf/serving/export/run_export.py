"""What an export takes from a run: the model of its last stage, and the origin of the weights."""

import keras

from ggn_tf.errors import RunError
from ggn_tf.evaluation.statistics.run_scores import StageScores
from ggn_tf.evaluation.statistics.scores_file import SCORES_FILE, read_scores_file
from ggn_tf.models.names import RAW, REFERENCE
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import SEGMENT
from ggn_tf.serving.export.model_card import Provenance

# A caller must see what was classified, and has no expert's mask to send.
_NOT_SERVED = {RAW: "predicts no mask", REFERENCE: "needs the expert's mask beside the patch"}


def load_served_model(run: RunFolder) -> keras.Model:
    """The model of the last finished stage.

    Raises:
        RunError: The model does not both segment and classify, no stage is finished, or only the first, which does
            not train the classifier.
    """
    model = run.description.model
    if model in _NOT_SERVED:
        raise RunError(
            "The model of this run cannot be served.",
            case=run.folder,
            found=f"model {model}, which {_NOT_SERVED[model]}",
            expected="a model that takes a patch, segments and classifies: cascade or multitask",
            remedy="Train a cascade or a multitask model.",
            arguments=("model",),
        )
    finished = run.finished_stages()
    if finished and finished[-1] == SEGMENT.name:
        raise RunError(
            "The run has not trained its classifier yet.",
            case=run.folder,
            found=f"finished: {finished[-1]}",
            expected="a stage that trains the classifier",
            remedy="Resume the training, with the settings in run.json, for the stage joint.",
            arguments=("stage",),
        )
    return run.load_model()


def provenance_of(run: RunFolder) -> Provenance:
    """The origin of a run's weights, with their test scores if it was evaluated.

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
    """The test scores of the exported stage; those of other stages are of other weights."""
    file = run.folder / "evaluation" / SCORES_FILE
    if not file.exists():
        return None
    test = read_scores_file(file).scores.test
    return test.stages.get(stage) if test else None

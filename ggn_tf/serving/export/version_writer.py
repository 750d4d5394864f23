"""Write models as the next version directory of a model folder, with the origin of the weights."""

import errno
import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ggn_tf.errors import ExportError, RunError
from ggn_tf.evaluation.statistics.run_scores import SCORES_FILE, Evaluation, StageScores, read_scores_file
from ggn_tf.evaluation.statistics.set_thresholds import patients_needed
from ggn_tf.evaluation.uncertainty import Uncertainty
from ggn_tf.files import atomic_folder
from ggn_tf.models.fast.folding import fold
from ggn_tf.models.features import with_features
from ggn_tf.models.names import RAW, REFERENCE
from ggn_tf.models.systems import BUILDERS
from ggn_tf.protocol import Protocol
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import SEGMENT
from ggn_tf.serving.contract import wire
from ggn_tf.serving.contract.export_contract import ExportContract, Member, UncertaintyContract
from ggn_tf.serving.contract.messages import make_request
from ggn_tf.serving.contract.trust import Trust, sign
from ggn_tf.serving.contract.version_folders import entries, next_version, write_checksums
from ggn_tf.serving.export.export_card import Provenance, model_card
from ggn_tf.serving.export.golden_requests import sample_patches, write_golden, write_warmup
from ggn_tf.serving.export.graph import ServedModel
from ggn_tf.serving.runtime.predict_request import predict, warm_up
from ggn_tf.serving.runtime.servable import Servable, open_servable
from ggn_tf.tasks import Task

_ATTEMPTS = 10
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
_REPEATS = 5
# A graph is one protobuf message, below 2 GiB; besides weights it contains some MB.
_MOST_WEIGHTS_BYTES = 2**31 - 2**26
_Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class ExportCost:
    """What an export costs, measured before it gets its name.

    Attributes:
        patch_ms: Median time of one patch in this process, by the signature `serving_default`, ms.
    """

    size_bytes: int
    patch_ms: float


def export_model(
    model: keras.Model | Sequence[keras.Model],
    task: Task,
    protocol: Protocol,
    folder: Path,
    provenance: Provenance | None = None,
    key: Ed25519PrivateKey | None = None,
    *,
    members: Sequence[Member] = (),
    mirrored: bool = False,
    uncertainty: Uncertainty | None = None,
    on_measured: Callable[[ExportCost], None] = lambda cost: None,
) -> Path:
    """Write a model as the next version of a model folder: complete, loaded and warmed up once, or not at all.

    Until it is complete, the directory has a name that is not a number, so that no server loads it.

    Args:
        model: Takes a patch [N, S, S, S, 1] in [-1, 1] and returns `{"mask", "probabilities"}`; or several of such,
            whose mean is exported.
        task: Its classes are in the order of the probabilities.
        protocol: The patch's numbers.
        folder: The model folder.
        provenance: The origin of the weights.
        key: Signs the checksums.
        members: The runs of several models, in their order.
        mirrored: Whether the export predicts the mean over the eight mirrors of a patch.
        uncertainty: What prediction sets and typicality need, of models with a sub-model `classification`; None for an
            export without them.
        on_measured: Is called with size and latency before the directory gets its name.

    Returns:
        The version directory, for example MODELS/ggn/1.

    Raises:
        ExportError: A model's inputs or outputs are not those of the contract, or the folder cannot be written.
    """
    models = [model] if isinstance(model, keras.Model) else list(model)
    provenance = provenance or Provenance()
    contract = ExportContract(
        task,
        protocol,
        _precision(models[0]),
        provenance.to_dict(),
        tuple(members),
        mirrored=mirrored,
        uncertainty=None if uncertainty is None else _described(uncertainty),
    )
    names = [member.run for member in members] or [each.name for each in models]
    for name, each in zip(names, models, strict=True):
        _check_model(name, each, contract)
    for _ in range(_ATTEMPTS):
        version_folder = folder / str(next_version(folder))
        try:
            with atomic_folder(version_folder) as temporary:
                served = _served(models, contract, uncertainty)
                trainable = models[0] if len(models) == 1 and models[0].name in BUILDERS else None
                patch_ms = _write(served, trainable, contract, provenance, int(version_folder.name), temporary)
                if key is not None:
                    sign(temporary, key)
                on_measured(ExportCost(sum(entry.status.st_size for entry in entries(temporary)), patch_ms))
        except (OSError, tf.errors.OpError) as error:
            if isinstance(error, OSError) and error.errno in _TAKEN and version_folder.exists():
                continue
            raise ExportError(
                "The export cannot be written.",
                case=version_folder,
                found=_reason(error),
                expected="a folder that can be written to, with free space on the disk",
                remedy="Free space, or choose another folder. Nothing half-written was left behind.",
            ) from error
        return version_folder
    raise ExportError(
        "The export found no free version number.",
        case=folder,
        found=f"another export took the number {_ATTEMPTS} times",
        expected="few exports into one folder at a time",
        remedy="Repeat the export.",
    )


def _described(uncertainty: Uncertainty) -> UncertaintyContract:
    thresholds = uncertainty.thresholds
    return UncertaintyContract(
        thresholds.coverage,
        tuple(threshold.patients for threshold in thresholds.classes),
        patients_needed(thresholds.coverage),
        tuple(threshold.least_probability for threshold in thresholds.classes),
        tuple(len(distribution.held_out) for distribution in uncertainty.distributions),
    )


def _served(models: Sequence[keras.Model], contract: ExportContract, uncertainty: Uncertainty | None) -> ServedModel:
    folded = [fold(model if uncertainty is None else with_features(model)) for model in models]
    _refuse_large(folded)
    return ServedModel(folded, contract, () if uncertainty is None else uncertainty.distributions)


def _write(
    served: ServedModel,
    trainable: keras.Model | None,
    contract: ExportContract,
    provenance: Provenance,
    version: int,
    folder: Path,
) -> float:
    """Write all files but the signature, and return the median time of a patch, ms."""
    tf.saved_model.save(
        served,
        str(folder),
        signatures={
            wire.SIGNATURE: served.serve,
            wire.SIGNATURE_ROI: served.serve_roi,
            wire.SIGNATURE_RECENTERED: served.serve_recentered,
        },
    )
    extra = folder / wire.ASSETS_EXTRA
    extra.mkdir()
    (extra / wire.LABELS_FILE).write_text("\n".join(contract.task.class_names) + "\n", encoding="utf-8")
    (extra / wire.CONTRACT_FILE).write_text(json.dumps(contract.to_dict(), indent=2) + "\n", encoding="utf-8")
    (extra / wire.MODEL_CARD_FILE).write_text(model_card(contract, provenance, version), encoding="utf-8")
    if trainable is not None:
        trainable.save(extra / wire.WEIGHTS_FILE)
    write_warmup(folder, contract.protocol.patch)
    # It gets its checksums when it is complete. The library loads it faster, but does not know of hidden GPUs.
    trust, by_library = Trust(any_program=True), not tf.config.list_physical_devices("GPU")
    servable = open_servable(folder, wire.MODEL_NAME, version, trust=trust, by_library=by_library)
    try:
        warm_up(servable, folder)
        write_golden(folder, servable, contract.protocol.patch)
        patch_ms = _patch_ms(servable, contract)
    finally:
        servable.close()
    write_checksums(folder)
    Trust().check(folder)
    return patch_ms


def _refuse_large(models: Sequence[keras.Model]) -> None:
    total = sum(weight.numpy().nbytes for model in models for weight in model.weights)
    if total > _MOST_WEIGHTS_BYTES:
        raise ExportError(
            "The models are too large for one graph.",
            found=f"{len(models)} models with weights of {total / 1e6:.0f} MB",
            expected=f"at most {_MOST_WEIGHTS_BYTES / 1e6:.0f} MB",
            remedy="Export fewer runs.",
        )


def _patch_ms(servable: Servable, contract: ExportContract) -> float:
    request = make_request(sample_patches(contract.protocol.patch, 1, seed=0), wire.MODEL_NAME)
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        predict(servable, request)
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds)


def _reason(error: OSError | tf.errors.OpError) -> str:
    return re.sub(
        r"\{\{.*?\}\} | \[Op:\w+\]", "", error.message if isinstance(error, tf.errors.OpError) else str(error)
    )


def _precision(model: keras.Model) -> str:
    """What the network computes in, whatever the run was configured for."""
    types = {layer.compute_dtype for layer in model._flatten_layers()}
    return "bfloat16" if "bfloat16" in types else "float32"


def _check_model(name: str, model: keras.Model, contract: ExportContract) -> None:
    size = contract.protocol.patch.size
    patch: _Shape = (None, size, size, size, 1)
    expected = {"probabilities": (None, len(contract.task.classes)), "mask": patch}
    outputs = model.output if isinstance(model.output, dict) else {"": model.output}
    found = {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    inputs, precision = [tuple(tensor.shape) for tensor in model.inputs], _precision(model)
    if found != expected or inputs != [patch] or precision != contract.precision:
        raise ExportError(
            "The model cannot be served.",
            case=name,
            found=f"{precision}; input {' and '.join(map(wire.shape_text, inputs))}; outputs {_shapes_text(found)}",
            expected=f"{contract.precision}; input {wire.shape_text(patch)}; outputs {_shapes_text(expected)}",
            remedy="Export a model that segments and classifies, with the task and protocol it was trained with.",
        )


def _shapes_text(shapes: dict[str, _Shape]) -> str:
    return ", ".join(f"{name} {wire.shape_text(shape)}".strip() for name, shape in sorted(shapes.items()))


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
    """The origin of a run's weights, with test scores if it was evaluated; raises RunError where these are damaged."""
    description = run.description
    stage, file = run.finished_stages()[-1], run.folder / "evaluation" / SCORES_FILE
    evaluation = read_scores_file(file) if file.exists() else None
    return Provenance(
        run=run.folder.resolve().name,
        model=description.model,
        stage=stage,
        split=description.split,
        seed=description.seed,
        precision=description.precision,
        select_on=description.select_on,
        select_by=description.protocol.training.select_by,
        dataset_fingerprint=description.dataset_fingerprint,
        versions=run.versions,
        scores=None if evaluation is None else _test_scores(evaluation, stage),
        field_of_view=tuple(score for score in evaluation.extent if score.set_name == "test") if evaluation else (),
        start_from=() if description.start_from is None else (description.start_from,),
    )


def _test_scores(evaluation: Evaluation, stage: str) -> StageScores | None:
    """The test scores of the exported stage; those of other stages are of other weights."""
    test = evaluation.scores.test
    return test.stages.get(stage) if test else None

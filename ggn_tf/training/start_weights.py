"""Start a run from existing weights instead of its seed's: layers are taken by name."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from ggn_tf.dataset.records import Dataset, patch_digests
from ggn_tf.errors import GgnError, RunError
from ggn_tf.files import atomic_file, sha256
from ggn_tf.models.named_layers import HEAD, configured_layers, first_blocks, layer_name, named_layers, part_of
from ggn_tf.models.systems import BUILDERS
from ggn_tf.protocol import Protocol
from ggn_tf.runs.model_file import UNREADABLE, check_model_file, read_model_config
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import START, RunFolder, open_run_dataset, read_run_split
from ggn_tf.runs.stages import STAGES
from ggn_tf.runs.started_from import UNTRAINED, SourceKind, StartedFrom, TrainedOn
from ggn_tf.tasks import Task
from ggn_tf.training.initial_model import initial_model

# Weights are float32; the file has its own structure beside them.
_BYTES_OF_A_WEIGHT, _STRUCTURE_BYTES = 4, 2**21


@dataclass(frozen=True)
class Source:
    """Weights that a run can start from.

    Attributes:
        kind: A run, an export, or a `.keras` file.
        path: The folder or file that was named.
        file: The `.keras` file with the weights.
        task: The task that they were trained for; None where it is not known.
        protocol: The numbers that they were trained with; None where they are not known.
        dataset_fingerprint: Fingerprint of the dataset that they were trained on; None where it is not known.
        parts: The parts of the network that were trained; None for all.
        trained_on: Of whom they have learned, as far as known.
        patients_known: Whether that is all of them.
    """

    kind: SourceKind
    path: Path
    file: Path
    task: Task | None = None
    protocol: Protocol | None = None
    dataset_fingerprint: str | None = None
    parts: tuple[str, ...] | None = None
    trained_on: TrainedOn = UNTRAINED
    patients_known: bool = False


@dataclass(frozen=True)
class StartWeights:
    """The weights that a run takes, with their record, and of whom their source has learned."""

    record: StartedFrom
    weights: Mapping[str, Sequence[np.ndarray]]
    trained_on: TrainedOn

    def model(self, description: RunDescription) -> keras.Model:
        """Build the run's model with the weights that were taken, and the initial ones of its seed for the rest."""
        model = initial_model(description)
        layers = named_layers(model)
        for name, weights in self.weights.items():
            layers[name].set_weights(weights)
        return model


def run_source(folder: Path, dataset: Dataset) -> Source:
    """The weights of a run's last finished stage.

    Args:
        folder: The run.
        dataset: The dataset of the run that is to start; where it is also the source's, it is not searched elsewhere.

    Raises:
        RunError: There is no run, it has not finished a stage, or a file of it is damaged.
        DatasetError, SplitError: The dataset that it was trained on is there, but damaged.
    """
    run = RunFolder.open(folder)
    file, description = run.model_file(), run.description
    earlier, start = run.source_cases(), description.start_from
    finished = [stage for stage in STAGES[description.model] if stage.name in run.finished_stages()]
    trained_on = _trained_on(run, dataset)
    taken = () if start is None else map(part_of, start.taken)
    return Source(
        "run",
        folder,
        file,
        description.task,
        description.protocol,
        description.dataset_fingerprint,
        (*(part for stage in finished for part in stage.trains), *taken),
        (trained_on or UNTRAINED).joined(earlier),
        trained_on is not None and (start is None or start.patients_checked),
    )


def _trained_on(run: RunFolder, dataset: Dataset) -> TrainedOn | None:
    """None where the run's dataset is no longer there."""
    if dataset.fingerprint != run.description.dataset_fingerprint:
        if not run.dataset.is_dir():
            return None
        dataset = open_run_dataset(run)
    split = read_run_split(run, dataset)
    trained, selecting = (_cases_of(dataset, ids) for ids in (split.train, getattr(split, run.description.select_on)))
    only = TrainedOn(selecting.patients, selecting.patches, (*selecting.patients, *selecting.patches))
    return trained.joined(only)


def _cases_of(dataset: Dataset, ids: Sequence[str]) -> TrainedOn:
    patients = {case.patient_id for case in dataset.select(ids)}
    return TrainedOn(tuple(patients), tuple(patch_digests(dataset, stored=False, case_ids=ids).values()))


def start_weights(
    source: Source,
    description: RunDescription,
    dataset: Dataset,
    test_cases: Sequence[str],
    validation_cases: Sequence[str],
    freeze: int = 0,
) -> StartWeights:
    """Read a source's weights, and take every layer that the run's model has by the same name.

    The last layer of the classifier is taken only where the classes are the same; the names of a `.keras` file's
    classes are not known, so that their number decides.

    Args:
        source: The weights.
        description: The run that is to start from them.
        dataset: The run's dataset.
        test_cases: The ids of the cases of its test set.
        validation_cases: Those of its validation set.
        freeze: Number of convolution blocks to keep fixed, from the input of each part whose weights are taken.

    Raises:
        RunError: The file is not a network of ggn-tf or is damaged, its patch or its layers are of another size, it has
            no layer of the run's model, the source has learned of a patient of the test set, or a patient of the
            validation set is in its training set.
        GgnError: There are not so many blocks to freeze.
    """
    _refuse_patients(source, dataset, "test", test_cases, source.trained_on)
    # Whom the source's own validation set contained may select weights again.
    _refuse_patients(source, dataset, "validation", validation_cases, source.trained_on.training_sets())
    _check_numbers(source, description)
    donor = _read_network(source, description.protocol)
    wanted = named_layers(initial_model(description))
    taken = _taken(source, donor, wanted, description)
    record = StartedFrom(
        kind=source.kind,
        name=source.path.resolve().name,
        sha256=sha256(source.file),
        model=donor.name,
        task=None if source.task is None else str(source.task),
        dataset_fingerprint=source.dataset_fingerprint,
        patients_checked=source.patients_known,
        freeze=freeze,
        taken={name: hash_weights(weights) for name, weights in taken.items()},
        initialised=tuple(name for name in wanted if name not in taken),
        frozen=_frozen(taken, freeze),
    )
    return StartWeights(record, taken, source.trained_on)


def may_be_source(path: Path, record: StartedFrom) -> bool:
    """Whether the weights of a record may be from this path.

    They are not where the name differs, or where a run or a `.keras` file with other weights is there. What is gone,
    damaged or an export may be the source.
    """
    if path.resolve().name != record.name:
        return False
    try:
        if (path / "run.json").is_file():
            # A later stage may have been finished since.
            digests = {entry.get("sha256") for entry in RunFolder.open(path).ledger.entries()}
        else:
            digests = {sha256(path)} if path.is_file() else set()
    except (RunError, OSError):
        return True
    return not digests or record.sha256 in digests


def hash_weights(weights: Sequence[np.ndarray]) -> str:
    """SHA-256 of a layer's weights, in the layer's order."""
    return hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).hexdigest()


def keep_start(run: RunFolder, start: StartWeights) -> None:
    """Store the weights that a run starts from in its folder: from then on it does not need their source."""
    with atomic_file(run.folder / START) as temporary:
        start.model(run.description).save(temporary)


def stored_start(run: RunFolder) -> keras.Model:
    """Build the run's model with the weights that `keep_start` has stored.

    Raises:
        RunError: They are missing or damaged, or not those that were taken.
    """
    file, model, record = run.folder / START, initial_model(run.description), run.description.start_from
    try:
        _load_weights(model, file)
        layers = named_layers(model)
        changed = (
            [name for name, digest in record.taken.items() if hash_weights(layers[name].get_weights()) != digest]
            if record
            else []
        )
        if changed:
            raise ValueError(f"other weights in {', '.join(changed[:5])}")
    except UNREADABLE as error:
        raise RunError(
            "The weights that the run started from cannot be read.",
            case=file,
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            expected="the file that the training wrote",
            remedy="Restore the file from a copy of the run. Or delete it and repeat the run's own command, which "
            "takes the weights from their source again.",
        ) from error
    return model


def _load_weights(model: keras.Model, file: Path) -> None:
    check_model_file(file, _BYTES_OF_A_WEIGHT * model.count_params() + _STRUCTURE_BYTES)
    with warnings.catch_warnings():
        # Keras only warns of layers that it does not find.
        warnings.simplefilter("error", UserWarning)
        try:
            model.load_weights(file)
        except UserWarning as warning:
            raise ValueError(str(warning)) from warning


def _taken(
    source: Source, donor: keras.Model, wanted: Mapping[str, keras.layers.Layer], description: RunDescription
) -> dict[str, list[np.ndarray]]:
    layers = {name: layer.get_weights() for name, layer in named_layers(donor).items()}
    if source.parts is not None and donor.name not in source.parts:
        layers = {name: weights for name, weights in layers.items() if part_of(name) in source.parts}
    other_classes = source.task is not None and source.task.class_names != description.task.class_names
    taken = {
        name: layers[name]
        for name, layer in wanted.items()
        if name in layers
        and not (name.endswith(f"/{HEAD}") and (other_classes or layers[name][-1].shape != layer.weights[-1].shape))
    }
    if not taken:
        raise _refusal(
            source,
            "The model shares no trained layer with the source of its weights.",
            f"model {donor.name}, trained: {', '.join(dict.fromkeys(map(part_of, layers)))}",
            f"layers of the model {description.model}: {', '.join(dict.fromkeys(map(part_of, wanted)))}",
            "Name another source, or train another model.",
            ("start_from", "model"),
        )
    return taken


def _frozen(taken: Iterable[str], freeze: int) -> tuple[str, ...]:
    names = list(taken)
    blocks = sum(name.rsplit("/", 1)[-1].startswith("conv_") for name in names if part_of(name) == part_of(names[0]))
    if not 0 <= freeze <= blocks:
        raise GgnError(
            "There are not so many convolution blocks to freeze.",
            found=freeze,
            expected=f"at most {blocks}, the blocks of {part_of(names[0])} that were taken",
            remedy="Freeze fewer blocks.",
            arguments=("freeze",),
        )
    return first_blocks(names, freeze)


def _read_network(source: Source, protocol: Protocol) -> keras.Model:
    """Build the source's network ourselves and read its weights alone: a `.keras` file can name any code to run."""
    file = source.file
    try:
        config = read_model_config(file)["config"]
        layers = {layer_name(config["name"], path): inner for path, inner in configured_layers(config)}
        sizes = {tuple(config["layers"][0]["config"]["batch_shape"])}
        classes = next((int(inner["units"]) for name, inner in layers.items() if name.endswith(f"/{HEAD}")), 0)
        kind = str(config["name"])
        # Each class has as many weights as the layer before it has units, of two bytes at least.
        if kind not in BUILDERS or not 0 < 2 * classes * protocol.cnn.fc_units[-1] <= file.stat().st_size:
            raise ValueError(f"a Keras model {kind[:100]!r} with {classes} classes")
    except UNREADABLE as error:
        raise _unreadable(source, error) from error
    if sizes != {(None, *[protocol.patch.size] * 3, 1)}:
        found = ", ".join(" x ".join(map(str, size[1:-1])) for size in sizes)
        raise _other_patch(source, f"patches of {found} voxels", f"{' x '.join([str(protocol.patch.size)] * 3)} voxels")
    model = BUILDERS[kind](classes, protocol)
    try:
        if layers.keys() != named_layers(model).keys():
            raise ValueError(f"other layers: {', '.join(sorted(layers.keys() ^ named_layers(model).keys())[:5])}")
        _load_weights(model, file)
        if not all(np.isfinite(weight).all() for weight in model.get_weights()):
            raise ValueError("weights that are not finite numbers")
    except UNREADABLE as error:
        raise _unreadable(source, error) from error
    return model


def _check_numbers(source: Source, description: RunDescription) -> None:
    if source.protocol is None:
        return
    theirs, ours = source.protocol, description.protocol
    for name in ("size", "spacing_mm_zyx", "window_hu", "outside_hu"):
        found, expected = (getattr(protocol.patch, name) for protocol in (theirs, ours))
        if found != expected:
            raise _other_patch(source, f"{name} {found}", f"{name} {expected}")


def _refuse_patients(source: Source, dataset: Dataset, name: str, case_ids: Sequence[str], known: TrainedOn) -> None:
    cases = dataset.select(case_ids)
    seen = sorted({case.patient_id for case in cases} & set(known.patients))
    if seen:
        found = f"{len(seen)} patients, for example {seen[0]}"
    else:
        digests = patch_digests(dataset, stored=False, case_ids=case_ids) if known.patches else {}
        copies = [case for case, digest in digests.items() if digest in set(known.patches)]
        if not copies:
            return
        found = f"{len(copies)} identical patches under other ids, for example {copies[0]}"
    selected = ", nor in the set that selected its weights" if name == "test" else ""
    raise _refusal(
        source,
        f"The source of the weights was trained on patients of the {name} set: their scores would be optimistic.",
        found,
        f"{name} patients that are not in its training set{selected}",
        f"Train on a split in which they are not in the {name} set, or name a source that was not trained on them.",
        ("split", "splits", "start_from"),
    )


def _other_patch(source: Source, found: str, expected: str) -> RunError:
    return _refusal(
        source,
        "The source of the weights was trained on other patches.",
        found,
        expected,
        "Name a source that was trained on patches like those of the dataset.",
    )


def _unreadable(source: Source, error: BaseException) -> RunError:
    return _refusal(
        source,
        "The weights cannot be read from this file, or are those of another network.",
        f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        "a whole .keras file that ggn-tf wrote, of a network of the same size",
        "Name a run, an export, or a .keras file of ggn-tf.",
    )


def _refusal(
    source: Source, what: str, found: str, expected: str, remedy: str, arguments: Sequence[str] = ("start_from",)
) -> RunError:
    return RunError(what, case=source.path, found=found, expected=expected, remedy=remedy, arguments=arguments)

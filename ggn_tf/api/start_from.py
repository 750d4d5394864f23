"""The source of a run's first weights: a run, an export, or a `.keras` file."""

from pathlib import Path

from ggn_tf.dataset.records import Dataset
from ggn_tf.errors import RunError
from ggn_tf.serving.contract import wire
from ggn_tf.serving.contract.export_contract import read_contract
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.contract.version_folders import find_version, list_versions
from ggn_tf.training.start_weights import Source, run_source


def open_source(path: Path, dataset: Dataset) -> Source:
    """Find the weights at a path: the folder of a run or of an export, or a `.keras` file.

    Args:
        path: The folder or file.
        dataset: The dataset of the run that is to start from them.

    Raises:
        RunError, ExportError, DatasetError, SplitError: There are none, or they are damaged.
    """
    if (path / "run.json").is_file():
        return run_source(path, dataset)
    versions = [path, *list_versions(path).values()] if path.is_dir() else []
    if any((folder / wire.ASSETS_EXTRA).is_dir() for folder in versions):
        return _export_source(path)
    if path.is_file():
        return Source("file", path, path)
    raise RunError(
        "There are no weights to start from.",
        case=path,
        found="a folder with neither a run nor an export" if path.is_dir() else "no regular file",
        expected="the folder of one run, the folder of an export, or a .keras file",
        remedy="Name one of these. Of several runs, such as those of a cross-validation, name one.",
        arguments=("start_from",),
    )


def _export_source(path: Path) -> Source:
    _, folder = find_version(path)
    Trust().check(folder)
    contract = read_contract(folder)
    file = folder / wire.ASSETS_EXTRA / wire.WEIGHTS_FILE
    if not file.is_file():
        raise RunError(
            "The export does not contain the weights of one network that can be trained.",
            case=folder,
            found=f"no {wire.ASSETS_EXTRA}/{wire.WEIGHTS_FILE}",
            expected="an export of one run by this version of ggn-tf",
            remedy="Name the run, or export it again.",
            arguments=("start_from",),
        )
    fingerprint = contract.provenance.get("dataset_fingerprint")
    known = fingerprint if isinstance(fingerprint, str) else None
    return Source("export", path, file, contract.task, contract.protocol, known)

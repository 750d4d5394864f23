"""The dataset that a run was trained on."""

from pathlib import Path

from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.errors import RunError
from ggn_tf.runs.run_folder import RunFolder


def open_run_dataset(run: RunFolder, moved: Path | None = None) -> Dataset:
    """Open the dataset that a run was trained on.

    Args:
        run: The run.
        moved: Where the dataset is now; None for the path in `run.json`.

    Raises:
        RunError: There is no dataset, or it is another one.
        DatasetError: The dataset is damaged.
    """
    folder = moved or run.dataset
    if not folder.is_dir():
        raise RunError(
            "The run's dataset was not found.",
            case=run.folder,
            found=f"no folder {folder}",
            expected="the dataset that the run was trained on",
            remedy="Name the folder where it is now.",
            arguments=("own_dataset",),
        )
    dataset = open_dataset(folder, run.description.protocol.patch)
    if dataset.fingerprint != run.description.dataset_fingerprint:
        raise RunError(
            "The dataset is not the one that the run was trained on.",
            case=folder,
            found=f"fingerprint {dataset.fingerprint}",
            expected=f"fingerprint {run.description.dataset_fingerprint}",
            remedy="Name the run's own dataset. Another site's dataset is for external validation.",
            arguments=("own_dataset", "dataset"),
        )
    return dataset

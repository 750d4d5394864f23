"""The radiomics baseline of a study (the paper's Table 6)."""

from dataclasses import dataclass

from ggn_tf.dataset.radiomics import read_radiomics
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import RadiomicsError, RunError
from ggn_tf.evaluation.radiomics_file import load_radiomics, save_radiomics
from ggn_tf.evaluation.radiomics_svm import fit_radiomics
from ggn_tf.evaluation.statistics.predictions_table import write_predictions
from ggn_tf.studies.item import WorkerChannel, WorkFolder
from ggn_tf.tasks import Task


@dataclass(frozen=True)
class Radiomics:
    """Fit the support vector machine on one task and split. The seed only draws its folds, so one repeat is enough.

    Attributes:
        name: Name of its predictions table and of its file.
        task: The classes that it predicts.
        split: Number of the split.
        seed: Seed of the folds.
    """

    name: str
    task: Task
    split: int
    seed: int

    @property
    def needs(self) -> tuple[str, ...]:
        """No other items."""
        return ()

    @property
    def cost(self) -> float:
        """Expected duration in epochs of joint training."""
        return 1.0

    def is_done(self, folder: WorkFolder) -> bool:
        """Whether the predictions table exists, with these settings; an unreadable fit is repeated."""
        if not folder.predictions(self.name).exists():
            return False
        try:
            fitted = load_radiomics(folder.fitted(self.name))
        except RadiomicsError:
            return False
        found = (fitted.seed, fitted.dataset_fingerprint, fitted.settings)
        expected = (self.seed, folder.dataset.fingerprint, read_radiomics(folder.dataset).settings)
        if found != expected:
            raise RunError(
                "The study contains a radiomics baseline with other settings.",
                case=folder.fitted(self.name),
                found=_settings(*found),
                expected=_settings(*expected),
                remedy="Choose another folder for this study.",
                arguments=("folder",),
            )
        return True

    def run(self, folder: WorkFolder, channel: WorkerChannel) -> None:
        """Fit, store the fit, and write the predictions last."""
        channel.report(0.0, "fitting")
        fitted, frame = fit_radiomics(folder.dataset, read_split(folder.dataset, self.split), self.task, self.seed)
        folder.fitted(self.name).parent.mkdir(parents=True, exist_ok=True)
        save_radiomics(fitted, folder.fitted(self.name))
        write_predictions(frame, folder.predictions(self.name))


def _settings(seed: int, fingerprint: str, measured_with: object) -> str:
    return f"seed {seed}, dataset {fingerprint[:12]}, measured with {measured_with}"

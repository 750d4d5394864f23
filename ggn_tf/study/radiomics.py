"""The radiomics baseline of a study (the paper's Table 6)."""

from dataclasses import dataclass

from ggn_tf.dataset.radiomics import read_radiomics
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import RadiomicsError, RunError
from ggn_tf.evaluation.radiomics_file import load_radiomics, save_radiomics
from ggn_tf.evaluation.radiomics_svm import fit_radiomics
from ggn_tf.evaluation.statistics.predictions_table import write_predictions
from ggn_tf.study.item import WorkerChannel, WorkFolder
from ggn_tf.tasks import Task


@dataclass(frozen=True)
class Radiomics:
    """Fit the support vector machine on one task and split; the seed draws its folds alone, so once is enough.

    Attributes:
        name: Of its table and of its file.
        task: What it tells apart.
        split: Number of the split.
        seed: Of the folds.
    """

    name: str
    task: Task
    split: int
    seed: int

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    @property
    def cost(self) -> float:
        """In epochs of joint training."""
        return 1.0

    def is_done(self, place: WorkFolder) -> bool:
        """Whether the table is there, and of these settings; what cannot be read back is soon fitted anew."""
        if not place.predictions(self.name).exists():
            return False
        try:
            fitted = load_radiomics(place.fitted(self.name))
        except RadiomicsError:
            return False
        found = (fitted.seed, fitted.dataset_fingerprint, fitted.settings)
        expected = (self.seed, place.dataset.fingerprint, read_radiomics(place.dataset).settings)
        if found != expected:
            raise RunError(
                "The study holds a radiomics baseline with other settings.",
                case=place.fitted(self.name),
                found=f"seed {found[0]}, dataset {found[1][:12]}, measured with {found[2]}",
                expected=f"seed {expected[0]}, dataset {expected[1][:12]}, measured with {expected[2]}",
                remedy="Name another folder with -o.",
            )
        return True

    def run(self, place: WorkFolder, line: WorkerChannel) -> None:
        """Fit, store, and write the predictions last."""
        line.tell(0.0, "fitting")
        fitted, frame = fit_radiomics(place.dataset, read_split(place.dataset, self.split), self.task, self.seed)
        place.fitted(self.name).parent.mkdir(parents=True, exist_ok=True)
        save_radiomics(fitted, place.fitted(self.name))
        write_predictions(frame, place.predictions(self.name))

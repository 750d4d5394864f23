"""The system of the paper's Table 4: the classifier of the reference masks on the masks of the U-Net."""

from dataclasses import dataclass

from ggn_tf.dataset.splits import read_split
from ggn_tf.evaluation.run_predictions import predict_transfer
from ggn_tf.evaluation.statistics.predictions_table import write_predictions
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.studies.item import WorkerChannel, WorkFolder
from ggn_tf.tasks import Task


@dataclass(frozen=True)
class Transfer:
    """Predict with two finished trainings.

    Attributes:
        name: Name of its predictions table.
        task: The classes that it predicts.
        split: Number of the split.
        repeat: Number of the repeat.
        classifier: The training of the model `reference`.
        segmenter: A training with a finished stage `segment`.
    """

    name: str
    task: Task
    split: int
    repeat: int
    classifier: str
    segmenter: str

    @property
    def needs(self) -> tuple[str, ...]:
        """Both trainings."""
        return (self.classifier, self.segmenter)

    @property
    def cost(self) -> float:
        """Expected duration in epochs of joint training."""
        return 0.5

    def is_done(self, folder: WorkFolder) -> bool:
        """Whether the predictions table exists; the trainings check that it has these settings."""
        return folder.predictions(self.name).exists()

    def run(self, folder: WorkFolder, channel: WorkerChannel) -> None:
        """Predict and write the predictions."""
        channel.report(0.0, "predicting")
        classifier, segmenter = (RunFolder.open(folder.run(name)) for name in self.needs)
        split = read_split(folder.dataset, self.split)
        frame = predict_transfer(classifier, segmenter, folder.dataset, split, repeat=self.repeat)
        write_predictions(frame, folder.predictions(self.name))

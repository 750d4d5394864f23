"""The system of the paper's Table 4: the classifier of the reference masks on the U-Net's masks."""

from dataclasses import dataclass

from ggn_tf.dataset.splits import read_split
from ggn_tf.evaluation.run_predictions import predict_transfer
from ggn_tf.evaluation.statistics.predictions_table import write_predictions
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.study.item import WorkerChannel, WorkFolder
from ggn_tf.tasks import Task


@dataclass(frozen=True)
class Transfer:
    """Predict with two finished trainings.

    Attributes:
        name: Of its table.
        task: What the classifier tells apart.
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
        """In epochs of joint training."""
        return 0.5

    def is_done(self, place: WorkFolder) -> bool:
        """Whether the table is there; the trainings say whether it is of these settings."""
        return place.predictions(self.name).exists()

    def run(self, place: WorkFolder, line: WorkerChannel) -> None:
        """Predict."""
        line.tell(0.0, "predicting")
        classifier, segmenter = (RunFolder.open(place.run(name)) for name in self.needs)
        split = read_split(place.dataset, self.split)
        frame = predict_transfer(classifier, segmenter, place.dataset, split, repeat=self.repeat)
        write_predictions(frame, place.predictions(self.name))

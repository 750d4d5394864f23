"""A run folder made in code: every stage finished with random weights."""

from pathlib import Path

from ggn_tf.dataset.records import open_dataset
from ggn_tf.models.systems import build_cascade
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.tasks import Task
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_protocol import SIZE, tiny_protocol


def write_untrained_run(
    folder: Path,
    task: str = "AAH+AIS,MIA+IAC",
    stages: tuple[str, ...] = ("segment", "classify", "joint"),
    select_on: str = "validation",
) -> RunFolder:
    """Write `folder`/dataset (30 nodules of 15 patients) and `folder`/run."""
    protocol = tiny_protocol(prior=0.5)
    if not (folder / "dataset").exists():
        write_synthetic_dataset(folder / "dataset", 30, nodules_per_patient=2, size=SIZE)
    dataset = open_dataset(folder / "dataset", protocol.patch)
    parsed = Task.parse(task)
    description = RunDescription(
        task=parsed,
        model="cascade",
        split=1,
        seed=0,
        precision="float32",
        select_on=select_on,
        protocol=protocol,
        dataset_fingerprint=dataset.fingerprint,
    )
    run = RunFolder.create(folder / "run", description, dataset.folder, {"ggn-tf": "1.0"}, "ggn-tf fit")
    for seed, stage in enumerate(stages):
        model = build_cascade(len(parsed.classes), protocol, seed=seed)
        run.finish_stage(model, {"stage": stage, "epochs": 2, "best_epoch": 1, "ended": "2 epochs"})
    return run

"""The runs that a study's report shows in detail: for every task the cascade of the first split and repeat."""

from collections.abc import Callable, Sequence

from ggn_tf.evaluation.report_inputs import collect_report_inputs
from ggn_tf.evaluation.statistics.paper_systems import JOINT
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.studies.grid import StudyDesign, table_name
from ggn_tf.studies.item import WorkFolder
from ggn_tf.studies.page import Example
from ggn_tf.studies.results import TaskResults

# A page of four tasks then contains some two megabytes of slices.
NODULES = 12


def collect_examples(
    design: StudyDesign,
    results: Sequence[TaskResults],
    folder: WorkFolder,
    gallery: int = NODULES,
    announce: Callable[[str], None] = lambda line: None,
) -> dict[tuple[str, int], Example]:
    """Predict with reference masks and draw the gallery for one run per task.

    Args:
        design: What was compared.
        results: From `collect_results`.
        folder: The study's folder.
        gallery: Maximum number of nodules per task.
        announce: Called with a line at every step.

    Returns:
        The run of each task and its split; empty for a study without a cascade.

    Raises:
        RunError: A run's model cannot be read.
        DatasetError: A patch is damaged.
    """
    examples = {}
    split, repeat = design.splits[0], 1
    for result in results:
        frame = result.predictions
        rows = frame[(frame["model"] == JOINT.model) & (frame["split"] == split) & (frame["repeat"] == repeat)]
        if rows.empty:
            continue
        announce(f"report: task {result.task}")
        run = RunFolder.open(folder.run(table_name(JOINT.model, result.task, split, repeat)))
        examples[str(result.task), split] = Example(
            rows, collect_report_inputs(run, folder.dataset, rows, gallery, announce)
        )
    return examples

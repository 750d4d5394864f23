"""The runs of a study that its report looks into: for every task the cascade of the first split and repeat."""

from collections.abc import Callable, Sequence

from ggn_tf.evaluation.report_inputs import collect_report_inputs
from ggn_tf.evaluation.statistics.paper_systems import JOINT
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.study.grid import StudyDesign, table_name
from ggn_tf.study.item import WorkFolder
from ggn_tf.study.page import Example
from ggn_tf.study.results import TaskResults

# A page of four tasks then holds some two megabytes of slices.
NODULES = 12


def collect_examples(
    question: StudyDesign,
    results: Sequence[TaskResults],
    place: WorkFolder,
    gallery: int = NODULES,
    announce: Callable[[str], None] = lambda line: None,
) -> dict[tuple[str, int], Example]:
    """Ask the models of one run a task for masks, evidence and answers with reference masks.

    Args:
        question: What was asked.
        results: From `gather`.
        place: The study's.
        gallery: Nodules a task, at most.
        announce: Told of every step.

    Returns:
        For each task and its split the run; nothing where the study has no cascade.

    Raises:
        RunError: A run's model cannot be read.
        DatasetError: A patch is damaged.
    """
    examples = {}
    split, repeat = question.splits[0], 1
    for result in results:
        frame = result.predictions
        own = frame[(frame["model"] == JOINT.model) & (frame["split"] == split) & (frame["repeat"] == repeat)]
        if own.empty:
            continue
        announce(f"report: task {result.task}")
        run = RunFolder.open(place.run(table_name(JOINT.model, result.task, split, repeat)))
        inputs = collect_report_inputs(run, place.dataset, own, gallery, announce)
        examples[str(result.task), split] = Example(own, inputs)
    return examples

"""The sections on the predictions of one task and split, in the order of reading."""

from ggn_tf.evaluation.report.blocks import Section
from ggn_tf.evaluation.report.budget import budget_section
from ggn_tf.evaluation.report.calibration import calibration_section, decision_section
from ggn_tf.evaluation.report.classification import confusion_section, roc_section
from ggn_tf.evaluation.report.failures import failures_section
from ggn_tf.evaluation.report.gallery import gallery_section
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.report.segmentation import segmentation_section
from ggn_tf.evaluation.report.subgroups import subgroups_section
from ggn_tf.evaluation.report_inputs import ReportInputs


def analysis_sections(data: ReportData, inputs: ReportInputs) -> list[Section]:
    """The sections of a run, or of one task and split of a study; those that do not apply are left out."""
    sections = [
        confusion_section(data),
        roc_section(data),
        calibration_section(data),
        decision_section(data),
        segmentation_section(data),
        budget_section(data, inputs.reference),
        subgroups_section(data),
        failures_section(data, shown_cases={nodule.case_id for nodule in inputs.slides}),
        gallery_section(inputs.slides, data),
    ]
    return [section for section in sections if section is not None]

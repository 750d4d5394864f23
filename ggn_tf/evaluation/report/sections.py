"""Every section that predictions of one task and split can have, in the order of reading."""

from ggn_tf.evaluation.report.blocks import Section
from ggn_tf.evaluation.report.budget import budget_section
from ggn_tf.evaluation.report.calibration import calibration_section, decision_section
from ggn_tf.evaluation.report.classification import confusion_section, roc_section
from ggn_tf.evaluation.report.failures import failures_section
from ggn_tf.evaluation.report.gallery import gallery_section
from ggn_tf.evaluation.report.report_data import Evidence
from ggn_tf.evaluation.report.segmentation import segmentation_section
from ggn_tf.evaluation.report.subgroups import subgroups_section
from ggn_tf.evaluation.report_inputs import Extras


def evidence_sections(evidence: Evidence, extras: Extras) -> list[Section]:
    """The sections of a run, or of a study's task and split; what the predictions have no part in is left out."""
    sections = [
        confusion_section(evidence),
        roc_section(evidence),
        calibration_section(evidence),
        decision_section(evidence),
        segmentation_section(evidence),
        budget_section(evidence, extras.reference),
        subgroups_section(evidence),
        failures_section(evidence, shown_cases={each.case_id for each in extras.slides}),
        gallery_section(extras.slides, evidence),
    ]
    return [section for section in sections if section is not None]

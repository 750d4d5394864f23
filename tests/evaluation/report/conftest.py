import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.report_inputs import ReportInputs
from tests.support.slides import make_records, make_slides


@pytest.fixture(scope="session")
def cascade(drawn_frame) -> pd.DataFrame:
    """Predictions of a cascade: 40 nodules of the test set and 30 of the validation set at all three stages."""
    parts = []
    for set_name, cases in (("validation", 30), ("test", 40)):
        frozen = drawn_frame(cases=cases, set_name=set_name, seed=1).assign(stage="classify")
        joint = drawn_frame(cases=cases, set_name=set_name, seed=2)
        joint = joint.assign(label=frozen["label"], patient=frozen["patient"])
        parts += [frozen.assign(**{"stage": "segment", "p_AAH+AIS": np.nan, "p_MIA+IAC": np.nan}), frozen, joint]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="session")
def inputs(cascade) -> ReportInputs:
    """The nodules' records, predictions with reference masks, and three nodules of the gallery."""
    test = cascade[(cascade["set"] == "test") & (cascade["stage"] == "joint")]
    nodules = make_records(list(cascade["case"].unique()))
    return ReportInputs(nodules, reference=test.assign(dice=1.0), slides=make_slides(list(test["case"][:3])))

import dataclasses

import pytest

from ggn_tf.cases.volumes import Volume, open_volume
from ggn_tf.prediction.class_codes import ClassCode
from ggn_tf.prediction.dicom_headers import identify
from ggn_tf.prediction.nodules import CtPrediction
from ggn_tf.prediction.patch_warnings import PredictionWarning
from tests.support.chest import CENTER, lung_grid, lung_with_balls, write_dicom
from tests.support.dicom_predictions import predicted

SECOND = (5.0, -17.0, 81.0)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return open_volume(write_dicom(lung_with_balls(lung_grid()), tmp_path_factory.mktemp("ct") / "dicom"))


@pytest.fixture(scope="module")
def prediction(volume: Volume) -> CtPrediction:
    return predicted(volume, (CENTER, 6.0), (SECOND, 0.0))


def named(prediction: CtPrediction, *names: str) -> CtPrediction:
    nodules = (dataclasses.replace(item, name=name) for item, name in zip(prediction.nodules, names, strict=True))
    return dataclasses.replace(prediction, nodules=tuple(nodules))


def test_a_second_run_gives_the_same_uids(prediction: CtPrediction) -> None:
    one, other = identify(prediction, {}), identify(dataclasses.replace(prediction), {})
    assert one == other and one.uid("planar report") == other.uid("planar report")
    uids = [one.uid("planar report"), one.uid("segmentation"), *(nodule.uid for nodule in one.nodules)]
    assert len(set(uids)) == 4
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": "d2"},
        {"model_sha256": None, "source": {"model_name": "other"}},
        {"volume": "other"},
        {"nodules": "moved"},
    ],
)
def test_another_model_series_or_centre_gives_other_uids(prediction: CtPrediction, change: dict) -> None:
    if "volume" in change:
        (item, *rest) = prediction.volume.stack.slices
        stack = dataclasses.replace(prediction.volume.stack, slices=(dataclasses.replace(item, series="1.2"), *rest))
        change = {"volume": dataclasses.replace(prediction.volume, stack=stack)}
    if "nodules" in change:
        first, second = prediction.nodules
        moved = dataclasses.replace(first, given_center_mm_lps=(CENTER[0] + 0.5, *CENTER[1:]))
        change = {"nodules": (moved, second)}
    one, other = identify(prediction, {}), identify(dataclasses.replace(prediction, **change), {})
    assert one.uid("segmentation") != other.uid("segmentation")
    assert one.nodules[0].uid != other.nodules[0].uid


def test_names_and_codes_change_the_objects_and_not_the_tracking(prediction: CtPrediction) -> None:
    one = identify(prediction, {})
    renamed = identify(named(prediction, "left", "right"), {})
    coded = identify(prediction, {"MIA": ClassCode("8256/3", "ICDO3", "MIA")})
    assert len({identity.uid("planar report") for identity in (one, renamed, coded)}) == 3
    for other in (renamed, coded):
        assert [nodule.uid for nodule in other.nodules] == [nodule.uid for nodule in one.nodules]


@pytest.mark.parametrize("change", ["threshold", "warning", "warning about all"])
def test_another_threshold_or_warning_gives_other_objects_of_the_same_nodules(
    prediction: CtPrediction, change: str
) -> None:
    first, *rest = prediction.nodules
    warning = PredictionWarning("other", "Text.")
    if change == "threshold":
        measured = first.measurements._replace(solid_hu=first.measurements.solid_hu + 50)
        first = dataclasses.replace(first, measurements=measured)
    elif change == "warning":
        first = dataclasses.replace(first, warnings=(*first.warnings, warning))
    about_all = (warning,) if change == "warning about all" else ()
    changed = dataclasses.replace(prediction, nodules=(first, *rest), warnings=about_all)
    one, other = identify(prediction, {}), identify(changed, {})
    assert one.uid("planar report") != other.uid("planar report")
    assert one.nodules == other.nodules


@pytest.mark.parametrize("change", ["probabilities", "mask", "spread", "prediction_set", "typicality"])
def test_another_output_of_a_server_gives_other_objects_of_the_same_nodules(
    prediction: CtPrediction, change: str
) -> None:
    first, *rest = prediction.nodules
    values = {
        "probabilities": {"AAH+AIS": 0.25, "MIA": 0.5, "IAC": 0.25},
        "mask": first.mask * 0,
        "spread": dict.fromkeys(first.probabilities, 0.1),
        "prediction_set": ("MIA",),
        "typicality": 0.5,
    }
    served = dataclasses.replace(prediction, model_sha256=None)
    changed = dataclasses.replace(served, nodules=(dataclasses.replace(first, **{change: values[change]}), *rest))
    one, other = identify(served, {}), identify(changed, {})
    assert one.uid("segmentation") != other.uid("segmentation")
    assert one.nodules == other.nodules
    assert identify(dataclasses.replace(served), {}) == one


def test_a_nodule_that_is_given_twice_is_tracked_as_two(prediction: CtPrediction) -> None:
    first = prediction.nodules[0]
    one, other = identify(dataclasses.replace(prediction, nodules=(first, first)), {}).nodules
    assert one.uid != other.uid


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("left\nupper\\lobe", "left upper/lobe"),
        ("", "nodule 1"),
        ("\x07", "nodule 1"),
        ("左肺", "左肺"),
        ("ü" * 40, "ü" * 32),
        ("n" * 100, "n" * 64),
    ],
)
def test_a_name_becomes_a_text_of_dicom(prediction: CtPrediction, name: str, text: str) -> None:
    assert identify(named(prediction, name, "F-2"), {}).nodules[0].name == text

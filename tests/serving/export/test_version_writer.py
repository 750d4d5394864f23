import hashlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.errors import ExportError
from ggn_tf.evaluation.report.run_tables import UNCHECKED
from ggn_tf.evaluation.statistics.run_scores import Estimate, StageScores
from ggn_tf.models.systems import build_raw, build_reference
from ggn_tf.runs.started_from import StartedFrom
from ggn_tf.serving.contract.export_contract import read_contract
from ggn_tf.serving.contract.messages import read_golden
from ggn_tf.serving.contract.tensors import decode
from ggn_tf.serving.contract.version_folders import find_version, list_versions, next_version
from ggn_tf.serving.export import version_writer as export_module
from ggn_tf.serving.export.export_card import Provenance
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.tasks import INDOLENT_INVASIVE, THREE_CLASSES
from tests.support.small_model import build_small_model


@pytest.fixture(scope="module")
def in_a_session(exported):
    """A session with the version's graph, and the meta graph."""
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        return session, tf.compat.v1.saved_model.load(session, ["serve"], str(exported / "1"))


@pytest.fixture(scope="module")
def local(exported):
    with LocalModel(exported) as model:
        yield model


REGION = {
    "hu": ("float32", [-1, -1, -1, -1]),
    "spacing_mm": ("float64", [-1, 3]),
    "center_index": ("float64", [-1, 3]),
}
INPUTS = {
    "serving_default": {"hu": ("float32", [-1, 32, 32, 32, 1])},
    "roi": REGION,
    "roi_recentered": REGION,
}
COMMON = {
    "probabilities": ("float32", [-1, 3]),
    "mask": ("float32", [-1, 32, 32, 32, 1]),
    "class_names": ("string", [-1, 3]),
    "warning": ("string", [-1]),
}
CENTERS = {"center_index": ("float64", [-1, 3]), "moved_mm": ("float64", [-1])}
OUTPUTS = {"serving_default": COMMON, "roi": COMMON, "roi_recentered": {**COMMON, **CENTERS}}


def described(tensors):
    return {
        name: (tf.dtypes.as_dtype(tensor.dtype).name, [dim.size for dim in tensor.tensor_shape.dim])
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("name", INPUTS)
def test_a_signature_has_the_names_types_and_shapes_of_the_contract(name, in_a_session):
    signature = in_a_session[1].signature_def[name]
    assert (described(signature.inputs), described(signature.outputs)) == (INPUTS[name], OUTPUTS[name])


def test_no_training_signature_comes_along(in_a_session):
    assert set(in_a_session[1].signature_def) == {*INPUTS, "__saved_model_init_op"}


def test_the_saved_model_predicts_like_the_keras_file(local, tiny_model, patches, tmp_path, tiny):
    tiny_model.save(tmp_path / "model.keras")
    kept = keras.saving.load_model(tmp_path / "model.keras")
    expected = kept(normalise_hu(patches, tiny.patch.window_hu), training=False)
    prediction = local.predict(patches)
    np.testing.assert_allclose(prediction.probabilities, expected["probabilities"], atol=1e-5)
    np.testing.assert_allclose(prediction.mask, expected["mask"], atol=1e-5)


def test_a_model_in_bfloat16_predicts_in_float32(tiny, patches, tmp_path):
    model = build_small_model("mixed_bfloat16")
    export_model(model, THREE_CLASSES, tiny, tmp_path)
    expected = model(normalise_hu(patches, tiny.patch.window_hu), training=False)
    with LocalModel(tmp_path) as served:
        prediction = served.predict(patches)
        assert served.contract.precision == "bfloat16"
    assert prediction.probabilities.dtype == prediction.mask.dtype == np.float32
    np.testing.assert_allclose(prediction.probabilities, expected["probabilities"], atol=0.02)
    np.testing.assert_allclose(prediction.mask, expected["mask"], atol=0.02)


def test_different_patches_get_different_predictions(local, patches):
    prediction = local.predict(patches)
    assert np.ptp(prediction.probabilities, axis=0).max() > 1e-4
    assert np.ptp(prediction.mask) > 1e-2


def test_the_window_is_inside_the_graph(local):
    def flat(hu):
        return np.full((1, 32, 32, 32, 1), hu, np.float32)

    low, lower, high, higher = (local.predict(flat(hu)).probabilities for hu in (-1024, -3000, 400, 3000))
    np.testing.assert_array_equal(low, lower)
    np.testing.assert_array_equal(high, higher)
    assert not np.array_equal(low, high)


def test_class_names_lead_with_the_batch(in_a_session, patches):
    session, meta_graph = in_a_session
    signature = meta_graph.signature_def["serving_default"]
    names = session.run(signature.outputs["class_names"].name, {signature.inputs["hu"].name: patches})
    assert names.tolist() == [[b"AAH+AIS", b"MIA", b"IAC"]] * 3


def test_versions_count_up_from_the_largest(tmp_path):
    (tmp_path / "00000041").mkdir()
    (tmp_path / "notes").mkdir()
    assert next_version(tmp_path) == 42


def test_a_new_folder_begins_with_version_1(tmp_path):
    assert next_version(tmp_path / "nothing yet") == 1


def test_a_name_that_is_no_number_is_no_version(tmp_path):
    for name in ("1", "00000123", ".2-abc", "-3", "4.5", "v6", "١"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").write_text("a file", encoding="utf-8")
    assert list_versions(tmp_path) == {1: tmp_path / "1", 123: tmp_path / "00000123"}


def test_an_export_that_dies_leaves_nothing(small_model, tmp_path, monkeypatch, tiny):
    def die(*_, **__):
        seen.extend(path.name for path in tmp_path.iterdir())
        raise KeyboardInterrupt

    seen: list[str] = []
    monkeypatch.setattr(export_module, "write_golden", die)
    with pytest.raises(KeyboardInterrupt):
        export_model(small_model, THREE_CLASSES, tiny, tmp_path)
    assert len(seen) == 1 and not seen[0].isdigit()
    assert list(tmp_path.iterdir()) == []


def test_a_number_taken_in_the_meantime_is_skipped(small_model, tmp_path, monkeypatch, tiny):
    numbers = iter([1, 2])
    monkeypatch.setattr(export_module, "next_version", lambda _: next(numbers))
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_text("another export was first", encoding="utf-8")
    assert export_model(small_model, THREE_CLASSES, tiny, tmp_path).name == "2"


def test_a_folder_that_cannot_be_created_is_an_export_error(tiny_model, tmp_path, tiny):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ExportError, match="file"):
        export_model(tiny_model, THREE_CLASSES, tiny, tmp_path / "file" / "ggn")


def test_a_task_with_other_classes_is_refused(tiny_model, tmp_path, tiny):
    with pytest.raises(ExportError) as caught:
        export_model(tiny_model, INDOLENT_INVASIVE, tiny, tmp_path)
    assert "probabilities [N,3]" in caught.value.found
    assert "probabilities [N,2]" in caught.value.expected


def test_a_model_without_a_mask_is_refused(tmp_path, tiny):
    with pytest.raises(ExportError, match="outputs probabilities \\[N,3\\]") as caught:
        export_model(build_raw(3, tiny), THREE_CLASSES, tiny, tmp_path)
    assert "mask [N,32,32,32,1]" in caught.value.expected


def test_a_model_that_wants_the_experts_mask_is_refused(tmp_path, tiny):
    with pytest.raises(ExportError) as caught:
        export_model(build_reference(3, tiny), THREE_CLASSES, tiny, tmp_path)
    assert "input [N,32,32,32,1] and [N,32,32,32,1]; outputs probabilities [N,3]" in caught.value.found


def test_the_contract_travels_and_reads_back(exported, tiny):
    contract = read_contract(exported / "1")
    assert (contract.task, contract.protocol) == (THREE_CLASSES, tiny)


@pytest.fixture
def stored(exported):
    return json.loads((exported / "1" / "assets.extra" / "contract.json").read_text(encoding="utf-8"))


def test_another_program_reads_names_types_and_shapes(stored):
    def read(tensors):
        return {
            tensor["name"]: (tensor["dtype"], [-1 if size is None else size for size in tensor["shape"]])
            for tensor in tensors
        }

    assert stored["class_names"] == ["AAH+AIS", "MIA", "IAC"]
    for name, signature in stored["signatures"].items():
        assert (read(signature["inputs"]), read(signature["outputs"])) == (INPUTS[name], OUTPUTS[name])
    assert set(stored["signatures"]) == set(INPUTS)


def test_another_program_reads_where_the_mask_lies(stored):
    assert stored["patch_grid"] == {
        "size_zyx": [32, 32, 32],
        "spacing_mm_zyx": [1.0, 0.7, 0.7],
        "region_index_zyx": "center_index + (i - 15.5) * spacing_mm_zyx / spacing_mm",
        "region_mm_zyx": [31.0, 21.7, 21.7],
        "outside_hu": -1024.0,
    }


def test_the_protocols_hash_is_that_of_its_json(stored):
    text = json.dumps(stored["protocol"], sort_keys=True, separators=(",", ":"))
    assert stored["protocol_sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_a_contract_whose_protocol_was_changed_is_refused(stored, tmp_path):
    stored["protocol"]["patch"]["spacing_mm_zyx"] = [1.0, 0.6, 0.6]
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "contract.json").write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(ExportError, match="protocol_sha256"):
        read_contract(tmp_path)


def test_labels_are_in_the_order_of_the_outputs(exported):
    assert (exported / "1" / "assets.extra" / "labels.txt").read_text(encoding="utf-8") == "AAH+AIS\nMIA\nIAC\n"


def golden(folder, signature):
    """Requests and responses as arrays."""
    for request, response in read_golden(folder / "1"):
        if request.model_spec.signature_name == signature:
            parts = (
                {name: decode(tensor) for name, tensor in side.items()} for side in (request.inputs, response.outputs)
            )
            yield tuple(parts)


def test_golden_predictions_are_the_keras_models(exported, tiny_model, tiny):
    pairs = list(golden(exported, "serving_default"))
    assert [len(sent["hu"]) for sent, _ in pairs] == [1, 1, 2]
    for sent, outputs in pairs:
        expected = tiny_model(normalise_hu(sent["hu"], tiny.patch.window_hu), training=False)
        np.testing.assert_allclose(outputs["probabilities"], expected["probabilities"], atol=1e-5)
        np.testing.assert_allclose(outputs["mask"], expected["mask"], atol=1e-5)


def test_one_golden_region_ends_within_its_patch(exported):
    pairs = list(golden(exported, "roi"))
    assert [len(sent["hu"]) for sent, _ in pairs] == [1, 2]
    outside = [b"partly_outside_ct" in warning for _, outputs in pairs for warning in outputs["warning"]]
    assert outside == [False, False, True]


def test_golden_regions_are_recentered(exported):
    ((sent, outputs),) = golden(exported, "roi_recentered")
    assert len(sent["hu"]) == 2
    distances_mm = np.linalg.norm((outputs["center_index"] - sent["center_index"]) * sent["spacing_mm"], axis=1)
    np.testing.assert_allclose(outputs["moved_mm"], distances_mm)


def test_the_model_card_says_what_it_is_not(exported):
    card = (exported / "1" / "assets.extra" / "model_card.md").read_text(encoding="utf-8")
    assert "Not a medical device" in card
    assert "The run was not evaluated" in card
    assert "dataset fingerprint: not recorded" in card


def test_the_model_card_contains_origin_and_scores(small_model, tmp_path, tiny):
    scores = StageScores(accuracy=Estimate(0.75, 0.5, 0.875), auc=Estimate(None))
    start = StartedFrom(
        "run", "texture", "0f" * 32, "cascade", None, None, patients_checked=False, freeze=0,
        taken={"segmentation/conv_1": "ab"}, initialised=("classification/probabilities",), frozen=(),
    )  # fmt: skip
    origin = Provenance(run="first", dataset_fingerprint="abc123", select_on="test", scores=scores, start_from=(start,))
    folder = export_model(small_model, THREE_CLASSES, tiny, tmp_path, origin)
    card = (folder / "assets.extra" / "model_card.md").read_text(encoding="utf-8")
    assert "- dataset fingerprint: abc123" in card
    assert "- accuracy: 0.750 [0.500, 0.875]" in card
    assert f"- first weights: run texture, SHA-256 {start.sha256}, 1 layers; initial weights: classific" in card
    assert UNCHECKED in card
    assert "- auc: undefined" in card
    assert "optimistic" in card
    assert read_contract(folder).provenance["dataset_fingerprint"] == "abc123"


def test_the_newest_version_is_found_by_number(tmp_path):
    for name in ("9", "10"):
        (tmp_path / name).mkdir()
    assert find_version(tmp_path) == (10, tmp_path / "10")


@pytest.mark.parametrize(
    ("content", "found"), [((), "an empty folder"), (("train.py",), "train.py"), (None, "no such folder")]
)
def test_a_folder_without_an_export_is_reported_with_its_contents(content, found, tmp_path):
    folder = tmp_path / "folder"
    if content is not None:
        folder.mkdir()
        for name in content:
            (folder / name).write_text("", encoding="utf-8")
    with pytest.raises(ExportError) as caught:
        LocalModel(folder)
    assert caught.value.found == found


def test_a_foreign_saved_model_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"))
    with pytest.raises(ExportError, match="contract.json"):
        LocalModel(tmp_path)

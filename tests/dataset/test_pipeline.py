import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch, CaseStream, Part, normalise_hu
from ggn_tf.dataset.records import Dataset, open_dataset, read_patches
from ggn_tf.errors import DatasetError, TaskError
from ggn_tf.protocol import AugmentationProtocol, PatchProtocol
from ggn_tf.tasks import INDOLENT_INVASIVE, Task
from tests.support.processes import Process
from tests.support.synthetic import write_synthetic_dataset

AUGMENTATION = AugmentationProtocol()
NONE = AugmentationProtocol(flip_probability=0.0, noise_sigma=0.0)


def ids(dataset: Dataset) -> list[str]:
    return [case.case_id for case in dataset.cases]


def arrays(batches: tf.data.Dataset) -> list[Batch]:
    return [Batch(*(part.numpy() for part in batch)) for batch in batches]


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for name in Batch._fields:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture(scope="module", params=[True, False], ids=["kept", "from-disk"])
def stream(request: pytest.FixtureRequest, synthetic: Dataset) -> CaseStream:
    return CaseStream(synthetic, ids(synthetic), INDOLENT_INVASIVE, cache=request.param)


@pytest.mark.parametrize(("hu", "normalised"), [(-1024, -1), (400, 1), (-312, 0), (-3000, -1), (3000, 1), (44, 0.5)])
def test_equation_5_with_clipping(hu: float, normalised: float) -> None:
    assert normalise_hu(tf.constant([hu], tf.float32), (-1024.0, 400.0)).numpy() == pytest.approx([normalised])


def test_in_order_yields_what_is_on_disk(stream: CaseStream, synthetic: Dataset) -> None:
    batches = arrays(stream.in_order(10))
    assert [len(batch.label) for batch in batches] == [10, 10, 4]
    hu, mask = read_patches(synthetic, ids(synthetic))
    expected = (np.clip(hu, -1024, 400) + 1024) / 1424 * 2 - 1
    np.testing.assert_allclose(np.concatenate([batch.patch for batch in batches]), expected, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([batch.mask for batch in batches]), mask)


def test_labels_are_the_classes_of_the_task(stream: CaseStream, synthetic: Dataset) -> None:
    expected = [{"AAH": 0, "AIS": 0, "MIA": 1, "IAC": 1}[case.label] for case in synthetic.cases]
    assert np.concatenate([batch.label for batch in arrays(stream.in_order(7))]).tolist() == expected
    assert stream.labels.tolist() == expected


def test_shapes_and_types(stream: CaseStream) -> None:
    patch, mask, label = stream.training_epoch(5, 0, 0, AUGMENTATION).element_spec
    assert patch.shape.as_list() == mask.shape.as_list() == [None, 8, 8, 8, 1]
    assert (patch.dtype, mask.dtype, label.dtype) == (tf.float32, tf.float32, tf.int32)


def test_an_epoch_contains_every_case_once(stream: CaseStream, synthetic: Dataset) -> None:
    batches = arrays(stream.training_epoch(5, 0, 0, AUGMENTATION))
    assert [len(batch.label) for batch in batches] == [5, 5, 5, 5, 4]
    assert len(batches) == len(stream.batch_sizes(5))
    volumes = read_patches(synthetic, ids(synthetic))[1].sum(axis=(1, 2, 3, 4))
    seen = np.concatenate([batch.mask for batch in batches]).sum(axis=(1, 2, 3, 4))
    np.testing.assert_array_equal(np.sort(seen), np.sort(volumes))


def test_an_epoch_is_a_function_of_seed_and_epoch(stream: CaseStream) -> None:
    first = arrays(stream.training_epoch(5, 3, 7, AUGMENTATION))
    arrays(stream.training_epoch(5, 3, 8, AUGMENTATION))
    assert_same(arrays(stream.training_epoch(5, 3, 7, AUGMENTATION)), first)


@pytest.mark.parametrize(("seed", "epoch"), [(3, 8), (4, 7)])
def test_another_seed_or_epoch_shuffles_and_augments_otherwise(stream: CaseStream, seed: int, epoch: int) -> None:
    first, second = (arrays(stream.training_epoch(24, *key, AUGMENTATION))[0] for key in ((3, 7), (seed, epoch)))
    assert first.label.tolist() != second.label.tolist()
    assert not np.isclose(np.sort(first.patch, axis=None), np.sort(second.patch, axis=None), atol=1e-7).all()


def test_a_resumed_epoch_continues_with_the_same_batches(stream: CaseStream) -> None:
    whole = arrays(stream.training_epoch(5, 3, 7, AUGMENTATION))
    for skip in (3, 5):
        assert_same(arrays(stream.training_epoch(5, 3, 7, AUGMENTATION, skip=skip)), whole[skip:])


def test_kept_cases_and_cases_from_disk_give_the_same_batches(synthetic: Dataset) -> None:
    kept, located = (CaseStream(synthetic, ids(synthetic), INDOLENT_INVASIVE, cache=cache) for cache in (True, False))
    first, second = (arrays(stream.training_epoch(5, 3, 7, AUGMENTATION)) for stream in (kept, located))
    assert_same(first, second)


def test_workers_see_together_what_one_sees(stream: CaseStream) -> None:
    workers, whole = 5, arrays(stream.training_epoch(5, 3, 7, AUGMENTATION))
    parts = [arrays(stream.training_epoch(5, 3, 7, AUGMENTATION, part=Part(k, workers))) for k in range(workers)]
    for batch, shares in zip(whole, zip(*parts, strict=True), strict=True):
        if len(batch.label) < workers:
            # Fewer cases than workers: each worker sees all of them, and averages over all workers are the batch's.
            assert_same(list(shares), [batch] * workers)
        else:
            joined = Batch(*(np.concatenate(pieces) for pieces in zip(*shares, strict=True)))
            assert_same([joined], [batch])


def test_geometry_is_shared_by_patch_and_mask(synthetic: Dataset) -> None:
    stream = CaseStream(synthetic, ids(synthetic), INDOLENT_INVASIVE)
    batch = arrays(stream.training_epoch(24, 0, 0, AugmentationProtocol(flip_probability=1.0, noise_sigma=0.0)))[0]
    inside = (batch.patch * batch.mask).sum(axis=(1, 2, 3, 4)) / batch.mask.sum(axis=(1, 2, 3, 4))
    still = arrays(stream.in_order(24))[0]
    expected = (still.patch * still.mask).sum(axis=(1, 2, 3, 4)) / still.mask.sum(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(np.sort(inside), np.sort(expected), atol=1e-5)


def test_datasets_of_several_patch_sizes_are_read_in_one_process(tmp_path: Path) -> None:
    for size in (8, 16, 24):
        dataset = write_synthetic_dataset(tmp_path / str(size), cases=6, size=size)
        epoch = CaseStream(dataset, ids(dataset), INDOLENT_INVASIVE).training_epoch(4, 0, 0, AugmentationProtocol())
        assert [batch.patch.shape[1:4] for batch in arrays(epoch)] == [(size,) * 3] * 2


def test_cases_that_the_task_leaves_out_are_not_in_the_stream(synthetic: Dataset) -> None:
    stream = CaseStream(synthetic, ids(synthetic), Task.parse("AIS,MIA"))
    assert stream.case_ids == tuple(case.case_id for case in synthetic.cases if case.label in ("AIS", "MIA"))
    assert len(stream) == 12


def test_a_task_with_unknown_labels_is_refused(synthetic: Dataset) -> None:
    with pytest.raises(TaskError, match="labels that no nodule has"):
        CaseStream(synthetic, ids(synthetic), Task.parse("AAH,benign"))


def test_no_case_left_is_refused(synthetic: Dataset) -> None:
    only = [case.case_id for case in synthetic.cases if case.label == "IAC"]
    with pytest.raises(DatasetError, match=r"No case is left for the task\.(?s:.*)6 cases, none with a label of"):
        CaseStream(synthetic, only, Task.parse("AIS,MIA"))


def test_an_unknown_case_is_refused(synthetic: Dataset) -> None:
    with pytest.raises(DatasetError, match="case-9999"):
        CaseStream(synthetic, ["case-9999"], INDOLENT_INVASIVE)


@pytest.mark.parametrize("cache", [True, False])
def test_a_corrupt_shard_is_named_before_training(tmp_path: Path, cache: bool) -> None:
    dataset = write_synthetic_dataset(tmp_path / "dataset", size=8)
    shard = sorted(dataset.folder.glob("*.tfrecord"))[1]
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DatasetError, match=r"cannot be read(?s:.*)patches-00001-of-00002"):
        CaseStream(dataset, ids(dataset), INDOLENT_INVASIVE, cache=cache)


def compare_devices(folder: Path) -> None:
    """Batches on a second device are those on the host."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    dataset = open_dataset(folder, PatchProtocol(size=8))
    stream = CaseStream(dataset, ids(dataset), INDOLENT_INVASIVE)
    host = list(stream.training_epoch(5, 1, 2, AUGMENTATION))
    there = list(stream.training_epoch(5, 1, 2, AUGMENTATION, device="/CPU:1"))
    assert len(host) == len(there) == 5
    for batches, device in ((host, "CPU:0"), (there, "CPU:1")):
        assert all(part.device.endswith(device) for batch in batches for part in batch)
    assert_same(arrays(there), arrays(host))


@pytest.mark.nightly
def test_batches_are_augmented_on_the_device(synthetic: Dataset) -> None:
    assert Process(compare_devices, synthetic.folder).wait() == 0


@pytest.fixture(scope="module")
def with_margin(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("margin") / "dataset"
    write_synthetic_dataset(folder, 24, size=8, margin_mm=2.0)
    return open_dataset(folder, PatchProtocol(size=8))


def test_a_margin_is_not_part_of_an_unshifted_patch(with_margin: Dataset) -> None:
    hu, mask = read_patches(with_margin, ids(with_margin))
    assert hu.shape == (24, 8, 8, 8, 1)
    for cache, shifted in itertools.product((True, False), repeat=2):
        stream = CaseStream(with_margin, ids(with_margin), INDOLENT_INVASIVE, cache=cache, shifted=shifted)
        (batch,) = arrays(stream.in_order(24))
        np.testing.assert_array_equal(batch.mask, mask)
        np.testing.assert_array_equal(batch.patch, normalise_hu(tf.constant(hu), (-1024.0, 400.0)))


def test_shifts_differ_by_epoch_and_not_by_worker_or_cache(with_margin: Dataset) -> None:
    kept, located = (
        CaseStream(with_margin, ids(with_margin), INDOLENT_INVASIVE, cache=cache, shifted=True)
        for cache in (True, False)
    )
    whole = arrays(kept.training_epoch(5, 3, 7, AUGMENTATION, shift_mm=2.0))
    assert_same(arrays(located.training_epoch(5, 3, 7, AUGMENTATION, shift_mm=2.0)), whole)
    parts = [arrays(kept.training_epoch(5, 3, 7, AUGMENTATION, shift_mm=2.0, part=Part(k, 2))) for k in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate([first.mask, second.mask]), batch.mask)
    # The order, flips and noise are those of an unshifted epoch; the masks' positions are not.
    still = arrays(kept.training_epoch(5, 3, 7, AUGMENTATION))
    assert [batch.label.tolist() for batch in still] == [batch.label.tolist() for batch in whole]
    assert np.mean([np.any(one.mask != other.mask) for one, other in zip(still, whole, strict=True)]) == 1


def test_a_stream_without_a_task_keeps_every_case(synthetic: Dataset) -> None:
    assert CaseStream(synthetic, ids(synthetic), None).case_ids == tuple(ids(synthetic))

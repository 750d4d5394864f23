import dataclasses

import pytest

from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import digest_of, read_split
from ggn_tf.errors import DatasetError, GgnError, TaskError
from ggn_tf.models.systems import BUILDERS
from ggn_tf.runs.stages import STAGES
from ggn_tf.studies.design import items_of
from ggn_tf.studies.training import EPOCH_COST, Training
from ggn_tf.tasks import INDOLENT_INVASIVE, Task
from tests.support.tiny_protocol import tiny_protocol
from tests.support.tiny_study import THREE_TASKS, tiny_design


def names(dataset: Dataset, **changes) -> list[str]:
    return [item.name for item in items_of(tiny_design(**changes), dataset)]


def test_one_split_and_repeat_is_a_training_of_every_system(dataset: Dataset):
    suffix = "AAH+AIS_MIA+IAC-split1-repeat1"
    assert names(dataset) == [
        f"{system}-{suffix}" for system in ("unet", "raw", "reference", "multitask", "cascade", "transfer")
    ]


def test_every_stage_of_every_model_has_a_cost():
    assert set(EPOCH_COST) == {(model, stage.name) for model, stages in STAGES.items() for stage in stages}


def test_every_model_has_its_builder_under_its_own_name():
    assert {model: BUILDERS[model](2, tiny_protocol()).name for model in STAGES} == {model: model for model in STAGES}


def test_tasks_with_the_same_nodules_share_one_unet(dataset: Dataset):
    assert [name for name in names(dataset, tasks=THREE_TASKS, models=("cascade",)) if name.startswith("unet")] == [
        "unet-AAH+AIS_MIA_IAC-split1-repeat1",
        "unet-AIS_MIA-split1-repeat1",
    ]


def test_every_split_and_repeat_has_a_unet_of_its_own(dataset: Dataset):
    created = names(dataset, models=("cascade",), splits=(1, 2), repeats=2)
    assert [name for name in created if name.startswith("unet")] == [
        f"unet-AAH+AIS_MIA+IAC-split{split}-repeat{repeat}" for repeat in (1, 2) for split in (1, 2)
    ]


def test_each_comes_after_what_it_needs(dataset: Dataset):
    items = items_of(tiny_design(tasks=THREE_TASKS, splits=(1, 2), joint_weights=(0.5, 1.0)), dataset)
    order = [item.name for item in items]
    assert all(order.index(need) < order.index(item.name) for item in items for need in item.needs)
    assert len(set(order)) == len(order)


def test_lambda_varies_on_the_second_task_and_the_first_split(dataset: Dataset):
    created = names(dataset, tasks=THREE_TASKS, models=("cascade",), splits=(1, 2), joint_weights=(0.5, 1.0, 1.5))
    assert [name for name in created if "lambda" in name] == [
        "cascade-lambda0.5-AAH+AIS_MIA+IAC-split1-repeat1",
        "cascade-lambda1.5-AAH+AIS_MIA+IAC-split1-repeat1",
    ]


def test_repeats_have_seeds_of_their_own(dataset: Dataset):
    items = items_of(tiny_design(models=("raw",), repeats=3), dataset)
    assert [item.description.seed for item in items if isinstance(item, Training)] == [7, 8, 9]


def test_table_4_alone_trains_what_it_needs(dataset: Dataset):
    assert [name.split("-")[0] for name in names(dataset, models=("transfer",))] == ["unet", "reference", "transfer"]


def test_a_task_that_the_dataset_does_not_hold_is_refused(dataset: Dataset):
    with pytest.raises(TaskError, match="labels that no nodule has"):
        names(dataset, tasks=(INDOLENT_INVASIVE, Task.parse("1+2,4+5")))


def test_radiomics_needs_a_dataset_with_features(dataset: Dataset):
    with pytest.raises(DatasetError, match="radiomic"):
        names(dataset, models=("radiomics",))


ABLATIONS = ("background-air", "background-0hu", "frozen-unet", "binary-masks")


def ablated(dataset: Dataset, *ablations: str, models: tuple[str, ...] = ("reference", "cascade", "transfer")) -> dict:
    design = dataclasses.replace(tiny_design(models=models), ablations=ablations)
    return {item.name.split("-AAH")[0]: item for item in items_of(design, dataset)}


def test_ablations_add_systems_and_change_no_other(dataset: Dataset):
    plain, more = ablated(dataset), ablated(dataset, *ABLATIONS)
    added = [name for name in more if name not in plain]
    assert added == [
        "reference-air",
        "cascade-air",
        "reference-0hu",
        "cascade-0hu",
        "cascade-frozen",
        "transfer-binary",
    ]
    assert {name: more[name] for name in plain} == plain


def test_an_ablation_differs_from_its_base_in_one_number(dataset: Dataset):
    items = ablated(dataset, *ABLATIONS)
    protocol = items["cascade"].description.protocol
    for name, background in (("air", -1.0), ("0hu", 2 * 1024 / 1424 - 1)):
        for model in ("reference", "cascade"):
            changed = items[f"{model}-{name}"].description
            assert changed.protocol.masking.background == pytest.approx(background)
            same = dataclasses.replace(changed.protocol, masking=protocol.masking)
            assert dataclasses.replace(changed, protocol=same) == items[model].description
    frozen = items["cascade-frozen"]
    training = dataclasses.replace(frozen.description.protocol.training, joint_trains_unet=True)
    same = dataclasses.replace(frozen.description.protocol, training=training)
    assert dataclasses.replace(frozen.description, protocol=same) == items["cascade"].description
    assert [donor.split("-")[0] for _, donor in frozen.reused] == ["cascade", "cascade"]
    assert items["transfer-binary"].binary and not items["transfer"].binary


def test_an_ablation_of_models_that_the_study_lacks_is_refused(dataset: Dataset):
    with pytest.raises(GgnError) as caught:
        ablated(dataset, "binary-masks", models=("raw", "cascade"))
    assert (caught.value.found, caught.value.expected) == ("raw, cascade", "transfer")


def test_the_users_own_splits_replace_the_datasets(dataset: Dataset):
    own = dataclasses.replace(read_split(dataset, 2), number=4)
    (item,) = items_of(tiny_design(models=("raw",), splits=(4,)), dataset, {4: own})
    assert (item.description.split, item.description.split_digest) == (4, digest_of(own))

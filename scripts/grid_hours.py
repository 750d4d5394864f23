"""Machine hours and storage of the paper's whole experiment and of a cross-validation: the table of docs/scale.md.

python scripts/grid_hours.py

Calculated, not run: the measured time of a joint step on two cores (docs/performance.md), the relative costs of the
other stages, and every stage as long as it may be, without early stopping. Sixteen cores are eight trainings at a time
on two cores each. A GPU is its published peak rate, of which a tenth is assumed to be reached.
"""

from dataclasses import dataclass

from ggn_tf.evaluation.statistics.paper_systems import FROZEN, JOINT, MULTITASK, RAW, REFERENCE
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.models.names import CASCADE
from ggn_tf.protocol import TABLE_5_JOINT_WEIGHTS, SplitProtocol, TrainingProtocol
from ggn_tf.runs.stages import SEGMENT
from ggn_tf.studies.training import EPOCH_COST
from ggn_tf.tasks import PAPER_TASKS

NODULES = (740, 10_000, 100_000)
# bfloat16, batch 24, two cores of a Xeon with AMX: docs/performance.md.
STEP_S = 0.558
PARALLEL = 8
# Voxels and channels of the convolutions (3^3; in, out) of the U-Net and the CNN; twice the multiplications, and three
# times the forward pass for a training step.
CNN = ((32, 1, 16), (32, 16, 16), (16, 16, 32), (16, 32, 32), (8, 32, 64), (8, 64, 64), (4, 64, 256), (4, 256, 256))
UNET_UP = ((8, 320, 64), (8, 64, 64), (16, 96, 32), (16, 32, 32), (32, 48, 16), (32, 16, 16))
# NVIDIA's data sheet of the A100: bfloat16 on tensor cores, dense.
GPU_PEAK_FLOPS = 312e12
REACHED = 0.1
PATCH_BYTES = 753e3
# Files that stay of a training: weights in float32 of each of its stages, and of the final model.
WEIGHTS_BYTES = {"cnn": 27e6, "cascade": 40e6}


@dataclass(frozen=True)
class Grid:
    """Trainings: their epochs in epochs of joint training, the nodules in each, their number and their files."""

    name: str
    joint_epochs: float
    training_part: float
    trainings: int
    stored_bytes: float


def paper_grid() -> Grid:
    """The study with its defaults: 4 tasks, 2 splits, 5 repeats; the U-Net is shared by the tasks."""
    training, cells, unets = TrainingProtocol(), len(PAPER_TASKS) * 2 * 5, 2 * 5
    lambdas = (len(TABLE_5_JOINT_WEIGHTS) - 1) * 5
    segment = EPOCH_COST[System(CASCADE, SEGMENT.name)] * training.segment.max_epochs
    alone = sum(EPOCH_COST[system] for system in (RAW, REFERENCE, FROZEN, MULTITASK)) * training.classify.max_epochs
    joint = EPOCH_COST[JOINT] * training.joint.max_epochs
    stored = cells * (2 * 2 * WEIGHTS_BYTES["cnn"] + (2 + 4) * WEIGHTS_BYTES["cascade"])
    stored += (2 * unets + 4 * lambdas) * WEIGHTS_BYTES["cascade"]
    split = SplitProtocol()
    part = (1 - split.test_fraction) * (1 - split.validation_fraction)
    epochs = cells * (alone + joint) + unets * segment + lambdas * joint
    return Grid("the paper's experiment", epochs, part, 4 * cells + unets + lambdas, stored)


def folds_grid() -> Grid:
    """A cross-validation of the cascade with five folds."""
    training = TrainingProtocol()
    epochs = sum(
        EPOCH_COST[System(CASCADE, name)] * getattr(training, name).max_epochs
        for name in ("segment", "classify", "joint")
    )
    part = 0.8 * (1 - SplitProtocol().validation_fraction)
    return Grid("five folds", 5 * epochs, part, 5, 5 * 4 * WEIGHTS_BYTES["cascade"])


def step_flops(batch: int = 24) -> float:
    """Operations of a joint training step."""
    products = sum(size**3 * 27 * before * after for size, before, after in (*CNN, *UNET_UP, *CNN))
    return 3 * 2 * products * batch


def rows() -> list[str]:
    """The lines of the table, in Markdown."""
    gpu_s = step_flops() / (GPU_PEAK_FLOPS * REACHED)
    lines = []
    for grid in (paper_grid(), folds_grid()):
        for nodules in NODULES:
            steps = grid.joint_epochs * -(-nodules * grid.training_part // TrainingProtocol().batch_size)
            hours = steps * STEP_S / 3600
            cells = (
                grid.name,
                f"{nodules:,}",
                str(grid.trainings),
                _hours(hours),
                _hours(hours / min(PARALLEL, grid.trainings)),
                _hours(steps * gpu_s / 3600),
                f"{grid.stored_bytes / 1e9:.1f} GB",
                f"{nodules * PATCH_BYTES / 1e9:.1f} GB",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours < 10 else f"{hours:,.0f}"


if __name__ == "__main__":
    print(*rows(), sep="\n")

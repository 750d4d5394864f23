"""What `fit` is going to do, for a person to read before the first step."""

from typing import TYPE_CHECKING, Any

from ggn_tf.machine import gpus

if TYPE_CHECKING:
    from ggn_tf.dataset.records import Dataset
    from ggn_tf.runs.run_description import RunDescription
    from ggn_tf.runs.run_folder import RunFolder
    from ggn_tf.runs.stages import Stage
    from ggn_tf.training.trainer import Plan


def banner(
    run: "RunFolder", dataset: "Dataset", plan: "Plan", precision_reason: str, conditions: dict[str, Any]
) -> str:
    """The whole plan, for a person to read before the first step."""
    asked = run.description
    names = asked.task.class_names
    optimistic = "" if asked.select_on == "validation" else ": the paper's way; scores on it are optimistic"
    lines = [
        ("dataset", f"{dataset.folder}, {len(dataset.cases)} nodules, fingerprint {dataset.fingerprint[:12]}"),
        ("task", str(asked.task)),
        ("model", f"{asked.model}, split {asked.split}, seed {asked.seed}"),
        ("device", _device()),
        *([("replicas", f"{conditions['replicas']} devices share every batch")] if conditions["replicas"] > 1 else []),
        ("precision", f"{asked.precision}: {precision_reason}"),
        ("select on", asked.select_on + optimistic),
        ("run", str(run.folder)),
        ("exact", f"{'to the bit' if conditions['bit_for_bit'] else 'no'}: {conditions['why']}"),
        *_differences(run, conditions),
    ]
    for name, counts in plan.class_counts.items():
        classes = ", ".join(f"{count} {label}" for count, label in zip(counts, names, strict=True))
        lines.append((name, f"{sum(counts)} nodules: {classes}"))
    finished = run.finished_stages()
    lines += [
        (stage.name, "finished" if stage.name in finished else _stage_plan(stage, asked)) for stage in plan.stages
    ]
    return "\n".join(f"{name:<11}{text}" for name, text in lines)


def _device() -> str:
    return (
        ", ".join(str(gpu["device_name"]) for gpu in gpus())
        or "CPU: TensorFlow finds no GPU (the extra [gpu] brings what it needs for NVIDIA's)"
    )


def _differences(run: "RunFolder", conditions: dict[str, Any]) -> list[tuple[str, str]]:
    """What makes a run that goes on differ from one that never stopped."""
    from ggn_tf.runs.package_versions import package_versions
    from ggn_tf.runs.reproducibility import differences

    now = package_versions()
    changed = [f"{name} {old} -> {now.get(name)}" for name, old in run.versions.items() if now.get(name) != old]
    changed += differences(run.conditions, conditions)
    return (
        [("note", f"begun under other conditions, so not the same to the bit: {', '.join(changed)}")] if changed else []
    )


def _stage_plan(stage: "Stage", asked: "RunDescription") -> str:
    numbers = stage.numbers(asked.protocol.training)
    return (
        f"up to {numbers.max_epochs} epochs from learning rate {numbers.learning_rate:g}, trains "
        f"{' and '.join(stage.trains)}, keeps the best {asked.select_on} {stage.monitored}"
    )

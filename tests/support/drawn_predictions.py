from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

MakeFrame = Callable[..., pd.DataFrame]

# Fig. 4 of the paper: the task AAH+AIS, MIA, IAC on split 1; element (i, j) counts class i taken for class j.
FIG_4 = {
    "a": [[26, 43, 0], [18, 77, 6], [3, 30, 22]],
    "b": [[39, 28, 2], [21, 68, 12], [7, 22, 26]],
    "c": [[32, 34, 3], [14, 73, 14], [5, 25, 25]],
    "d": [[27, 41, 1], [12, 78, 11], [4, 24, 27]],
    "e": [[41, 26, 2], [22, 67, 12], [7, 27, 21]],
}
THREE = ("AAH+AIS", "MIA", "IAC")
TWO = ("AAH+AIS", "MIA+IAC")


def _make_frame(
    classes: Sequence[str],
    label: Sequence[int],
    probabilities: np.ndarray | None = None,
    *,
    dice: Sequence[float] | None = None,
    patients: Sequence[str] | None = None,
    stage: str = "joint",
    set_name: str = "test",
) -> pd.DataFrame:
    cases = len(label)
    chance = np.full((cases, len(classes)), np.nan) if probabilities is None else probabilities
    return pd.DataFrame(
        {
            "case": [f"{set_name}{i:04d}" for i in range(cases)],
            "patient": patients if patients is not None else [f"{set_name}-p{i:04d}" for i in range(cases)],
            "split": 1,
            "set": set_name,
            "model": "cascade",
            "stage": stage,
            "repeat": 1,
            "label": [classes[i] for i in label],
            **{f"p_{name}": chance[:, i] for i, name in enumerate(classes)},
            "dice": np.full(cases, 0.5) if dice is None else dice,
        }
    )


@pytest.fixture
def make_frame() -> MakeFrame:
    return _make_frame


@pytest.fixture(scope="session")
def figure_4() -> Callable[[str], pd.DataFrame]:
    """Predictions that have one of the paper's confusion matrices."""

    def frame(model: str) -> pd.DataFrame:
        pairs = [(i, j) for i in range(3) for j in range(3) for _ in range(FIG_4[model][i][j])]
        sure = np.array([0.1, 0.1, 0.1]) + 0.7 * np.eye(3)[[j for _, j in pairs]]
        return _make_frame(THREE, [i for i, _ in pairs], sure)

    return frame


@pytest.fixture(scope="session")
def drawn_frame() -> Callable[..., pd.DataFrame]:
    """A frame of random predictions that are better than chance, several nodules a patient."""

    def frame(classes: Sequence[str] = TWO, cases: int = 60, seed: int = 0, **options: object) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        label = rng.integers(0, len(classes), cases)
        logits = rng.normal(size=(cases, len(classes))) + 1.2 * np.eye(len(classes))[label]
        chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        patients = [f"p{i}" for i in rng.integers(0, cases * 2 // 3, cases)]
        dice = rng.beta(8, 2, cases)
        return _make_frame(classes, label, chance, dice=dice, patients=patients, **options)

    return frame


@pytest.fixture(scope="session")
def drawn_study() -> Callable[..., pd.DataFrame]:
    """Predictions of several systems and repeats on the same nodules, several a patient; later systems are better."""

    def frame(
        systems: Sequence[tuple[str, str]] = (("raw", "classify"), ("cascade", "joint")),
        repeats: int = 3,
        classes: Sequence[str] = TWO,
        cases: int = 60,
        seed: int = 0,
        splits: Sequence[int] = (1,),
        gain: float = 0.6,
    ) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        parts = []
        for split in splits:
            label = rng.integers(0, len(classes), cases)
            patients = [f"p{i}" for i in rng.integers(0, cases * 2 // 3, cases)]
            shared = rng.normal(size=(cases, len(classes)))
            for rank, (model, stage) in enumerate(systems):
                for repeat in range(1, repeats + 1):
                    logits = (
                        shared + 0.5 * rng.normal(size=shared.shape) + (0.6 + gain * rank) * np.eye(len(classes))[label]
                    )
                    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                    dice = np.full(cases, np.nan) if model == "raw" else rng.beta(8, 2, cases)
                    rows = _make_frame(classes, label, chance, dice=dice, patients=patients, stage=stage)
                    parts.append(rows.assign(model=model, repeat=repeat, split=split))
        return pd.concat(parts, ignore_index=True)

    return frame

"""A run as `scores.json` describes it."""

from typing import Any

RUN: dict[str, Any] = {
    "task": "AAH+AIS,MIA+IAC",
    "model": "cascade",
    "split": 1,
    "seed": 3,
    "precision": "float32",
    "select_on": "validation",
    "dataset": "ggn740",
    "dataset_fingerprint": "0f1e2d",
    "versions": {"ggn-tf": "1.0.0", "tensorflow": "2.21.0"},
    "stages": [
        {"stage": "segment", "epochs": 150, "best_epoch": 144, "ended": "150 epochs"},
        {"stage": "joint", "epochs": 71, "best_epoch": 21, "ended": "50 epochs without a better score"},
    ],
}

"""Classify pulmonary ground-glass nodules on chest CT, helped by their own 3D segmentation (Wang et al. 2021).

The names in `__all__` are the public Python API; everything else is internal. Each is imported when it is first used,
so `import ggn_tf` loads neither TensorFlow nor SimpleITK nor NumPy.

```python
import ggn_tf

dataset = ggn_tf.prepare("cases.csv", "dataset")
run = ggn_tf.fit(dataset, task="AAH+AIS,MIA+IAC", run="runs/a")
evaluation = ggn_tf.evaluate(run)
ggn_tf.export(run, "models/ggn")
with ggn_tf.load("models/ggn") as model:
    prediction = model.predict("ct/", [ggn_tf.Point(-31.5, 12, -104)])
```
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from ggn_tf.api.arguments import Progress
    from ggn_tf.api.crossval import Crossval, CrossvalPlan, crossval
    from ggn_tf.api.evaluate import Evaluation, evaluate
    from ggn_tf.api.export import export
    from ggn_tf.api.fit import Run, TrainingPlan, TrainingProgress, fit
    from ggn_tf.api.follow import follow
    from ggn_tf.api.load import Model, load
    from ggn_tf.api.prepare import PreparedDataset, prepare
    from ggn_tf.api.serve import Server, serve
    from ggn_tf.api.study import Study, StudyPlan, StudyProgress, study
    from ggn_tf.errors import GgnError
    from ggn_tf.prediction.dicom_points import read_dicom_points
    from ggn_tf.prediction.follow_up import FollowUp
    from ggn_tf.prediction.locations import Mask, Point, Voxel, read_points
    from ggn_tf.prediction.nodules import CtPrediction, NodulePrediction
    from ggn_tf.protocol import Protocol

_NAMES = {
    "ggn_tf.api.crossval": ("Crossval", "CrossvalPlan", "crossval"),
    "ggn_tf.api.evaluate": ("Evaluation", "evaluate"),
    "ggn_tf.api.export": ("export",),
    "ggn_tf.api.fit": ("Run", "TrainingPlan", "TrainingProgress", "fit"),
    "ggn_tf.api.follow": ("follow",),
    "ggn_tf.api.load": ("Model", "load"),
    "ggn_tf.api.prepare": ("PreparedDataset", "prepare"),
    "ggn_tf.api.arguments": ("Progress",),
    "ggn_tf.api.serve": ("Server", "serve"),
    "ggn_tf.api.study": ("Study", "StudyPlan", "StudyProgress", "study"),
    "ggn_tf.errors": ("GgnError",),
    "ggn_tf.prediction.dicom_points": ("read_dicom_points",),
    "ggn_tf.prediction.follow_up": ("FollowUp",),
    "ggn_tf.prediction.locations": ("Mask", "Point", "Voxel", "read_points"),
    "ggn_tf.prediction.nodules": ("CtPrediction", "NodulePrediction"),
    "ggn_tf.protocol": ("Protocol",),
}
# These read settings for Keras. The second needs TensorFlow alone, and imports it here: in a thread of the server, it
# would make another thread's `import keras` fail.
_WITH_KERAS = tuple(f"ggn_tf.api.{name}" for name in ("crossval", "evaluate", "export", "fit", "study"))
_WITH_TENSORFLOW = ("ggn_tf.api.serve",)
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Crossval",
    "CrossvalPlan",
    "CtPrediction",
    "Evaluation",
    "FollowUp",
    "GgnError",
    "Mask",
    "Model",
    "NodulePrediction",
    "Point",
    "PreparedDataset",
    "Progress",
    "Protocol",
    "Run",
    "Server",
    "Study",
    "StudyPlan",
    "StudyProgress",
    "TrainingPlan",
    "TrainingProgress",
    "Voxel",
    "__version__",
    "crossval",
    "evaluate",
    "export",
    "fit",
    "follow",
    "load",
    "prepare",
    "read_dicom_points",
    "read_points",
    "serve",
    "study",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    if home in _WITH_KERAS or home in _WITH_TENSORFLOW:
        imports = importlib.import_module("ggn_tf.tensorflow_import")
        (imports.import_keras if home in _WITH_KERAS else imports.import_tensorflow)()
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

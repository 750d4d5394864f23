"""What this machine and its Python packages are, and whether the product can work on them."""

import importlib
import shutil
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from ggn_tf.machine import gpus, memory_bytes, processor_count, processor_flags, processor_name
from ggn_tf.serving.server.tensorflow_model_server import PROGRAM

_PYTHON = ((3, 11), (3, 14))
_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "neon", "asimd")
_ROOM_GIB = 2.0
_MEMORY_GIB = 4.0
_INSTALL = "pip install -c constraints.txt -e ."


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        what: What is wrong.
        remedy: What to do.
        fatal: Whether the product cannot work with it.
    """

    what: str
    remedy: str
    fatal: bool = True


@dataclass
class Installation:
    """What was found: facts by name, and problems."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def examine(folder: Path) -> Installation:
    """Look at Python, packages, processor, memory, disk, GPU, TensorBoard and TensorFlow Serving.

    Args:
        folder: Where datasets and runs would be written.
    """
    found = Installation()
    for look in (_python, _packages, _machine, lambda found: _disk(found, folder), _tensorflow, _tensorboard, _serving):
        look(found)
    return found


def missing_requirements(requirements: list[str]) -> list[Problem]:
    """Those of a package's requirements that are not there, or in another version.

    Args:
        requirements: As in a wheel's metadata; those of extras are left out.
    """
    problems = []
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            present = version(wanted.name)
        except PackageNotFoundError:
            problems.append(Problem(f"{wanted.name} is not installed ({wanted.specifier} is wanted)", _INSTALL))
            continue
        if not wanted.specifier.contains(present, prereleases=True):
            problems.append(Problem(f"{wanted.name} is {present}, {wanted.specifier} is wanted", _INSTALL))
    return problems


def _python(found: Installation) -> None:
    found.facts["python"] = sys.version.split()[0]
    least, below = _PYTHON
    if not least <= sys.version_info[:2] < below:
        found.problems.append(
            Problem(
                f"Python is {found.facts['python']}, from 3.11 to 3.13 is wanted", "Make a virtual environment of one."
            )
        )


def _packages(found: Installation) -> None:
    names = ("ggn-tf", "tensorflow", "keras", "numpy", "SimpleITK", "scikit-learn", "tensorboard", "grpcio")
    found.facts["packages"] = {name: _version(name) for name in names}
    found.problems += missing_requirements(requires("ggn-tf") or [])


def _machine(found: Installation) -> None:
    found.facts["processor"] = processor_name()
    found.facts["features"] = [feature for feature in _FEATURES if feature in processor_flags()]
    found.facts["cores"] = processor_count()
    found.facts["memory_gib"] = round((memory_bytes() or 0) / 1024**3, 1)
    if found.facts["memory_gib"] < _MEMORY_GIB:
        remedy = "Train with a smaller --batch-size, or on a machine with more memory."
        found.problems.append(Problem(f"Memory is {found.facts['memory_gib']} GiB", remedy, fatal=False))


def _disk(found: Installation, folder: Path) -> None:
    room = shutil.disk_usage(folder).free / 1024**3
    found.facts["disk_free_gib"] = round(room, 1)
    if room < _ROOM_GIB:
        what = f"{room:.1f} GiB are free here; a run takes up to 1 GiB, with its checkpoints"
        found.problems.append(Problem(what, "Free some, or work in another folder.", fatal=False))


def _tensorflow(found: Installation) -> None:
    try:
        from ggn_tf.training.precision import resolve_precision

        found_gpus = gpus()
        precision, why = resolve_precision("auto")
    except Exception as error:
        # Whatever a broken installation raises: telling it is what this is for.
        found.problems.append(Problem(f"TensorFlow does not start: {type(error).__name__}: {error}", _INSTALL))
        return
    found.facts["gpus"] = [str(gpu["device_name"]) for gpu in found_gpus]
    found.facts["precision"] = {"auto": precision, "why": why}
    if not found_gpus and shutil.which("nvidia-smi"):
        remedy = 'pip install -c constraints.txt -e ".[gpu]"'
        found.problems.append(Problem("There is an NVIDIA driver, but TensorFlow finds no GPU", remedy, fatal=False))


def _tensorboard(found: Installation) -> None:
    try:
        importlib.import_module("tensorboard.plugins.hparams.api")
        works = True
    except Exception as error:
        works = False
        found.problems.append(Problem(f"TensorBoard does not start: {type(error).__name__}: {error}", _INSTALL))
    plugin = find_spec("tensorboard_plugin_profile") is not None or find_spec("xprof") is not None
    found.facts["tensorboard"] = {"works": works, "profile_plugin": plugin}


def _serving(found: Installation) -> None:
    stubs, tensorflow = _version("tensorflow-serving-api"), _version("tensorflow")
    try:
        importlib.import_module("tensorflow_serving.apis.prediction_service_pb2_grpc")
        works = True
    except Exception as error:
        works = False
        found.problems.append(
            Problem(f"TensorFlow Serving's stubs do not load: {type(error).__name__}: {error}", _INSTALL)
        )
    same = (stubs or "").split(".")[:2] == (tensorflow or "").split(".")[:2]
    if works and not same:
        what = f"tensorflow-serving-api {stubs} beside tensorflow {tensorflow}: their minor versions differ"
        found.problems.append(Problem(what, _INSTALL, fatal=False))
    found.facts["serving"] = {"api": stubs, "same_as_tensorflow": same, "real_server": shutil.which(PROGRAM)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

"""What this machine and its Python packages are, and whether the product can work on them."""

import importlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from ggn_tf.machine import gpus, memory_bytes, processor_count, processor_flags, processor_name
from ggn_tf.server_names import PROGRAM

_PYTHON = ((3, 11), (3, 14))
_PACKAGES = ("ggn-tf", "tensorflow", "keras", "numpy", "SimpleITK", "scikit-learn", "tensorboard", "grpcio")
_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "neon", "asimd")
_LEAST_DISK_GIB = 2.0
_LEAST_MEMORY_GIB = 4.0
_INSTALL = "pip install -c constraints.txt -e ."


@dataclass(frozen=True)
class InstallationProblem:
    """A requirement that is not met.

    Attributes:
        fatal: Whether the product cannot work with it.
    """

    what: str
    remedy: str
    fatal: bool = True


@dataclass
class Installation:
    """What was found: facts by name, and problems."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[InstallationProblem] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """Whether the product can work here."""
        return not any(problem.fatal for problem in self.problems)

    def add(self, what: str, remedy: str = _INSTALL, *, fatal: bool = True) -> None:
        """Record a problem."""
        self.problems.append(InstallationProblem(what, remedy, fatal))

    def can_import(self, module: str, name: str) -> bool:
        """Whether a module can be imported; a failure is recorded under the name."""
        try:
            importlib.import_module(module)
        except Exception as error:
            # A broken installation raises anything.
            self.add(f"{name}: {type(error).__name__}: {error}")
            return False
        return True


def examine(folder: Path) -> Installation:
    """Examine Python, packages, processor, memory, disk, GPU, TensorBoard and TensorFlow Serving."""
    found = Installation()
    _python(found)
    found.facts["packages"] = {name: _version(name) for name in _PACKAGES}
    _requirements(found)
    _machine(found)
    _disk(found, folder)
    _tensorflow(found)
    _tensorboard(found)
    _serving(found)
    return found


def _requirements(found: Installation) -> None:
    try:
        found.problems += missing_requirements(requires("ggn-tf") or [])
    except PackageNotFoundError:
        found.add("ggn-tf itself is not installed: its requirements are unknown")


def missing_requirements(requirements: Sequence[str]) -> list[InstallationProblem]:
    """The requirements of a package that are not installed, or in another version.

    Those of extras are left out.
    """
    problems = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        installed = _version(requirement.name)
        if installed is None:
            what = f"{requirement.name} is not installed ({requirement.specifier} is required)"
            problems.append(InstallationProblem(what, _INSTALL))
        elif not requirement.specifier.contains(installed, prereleases=True):
            what = f"{requirement.name} is {installed}, {requirement.specifier} is required"
            problems.append(InstallationProblem(what, _INSTALL))
    return problems


def _python(found: Installation) -> None:
    found.facts["python"] = sys.version.split()[0]
    least, below = _PYTHON
    if not least <= sys.version_info[:2] < below:
        what = f"Python is {found.facts['python']}; 3.11 to 3.13 is required"
        found.add(what, "Create a virtual environment with one of these versions.")


def _machine(found: Installation) -> None:
    memory_gib = round((memory_bytes() or 0) / 1024**3, 1)
    found.facts |= {
        "processor": processor_name(),
        "features": [feature for feature in _FEATURES if feature in processor_flags()],
        "cores": processor_count(),
        "memory_gib": memory_gib,
    }
    if memory_gib < _LEAST_MEMORY_GIB:
        remedy = "Train with smaller batches, or on a machine with more memory."
        found.add(f"Memory is {memory_gib} GiB", remedy, fatal=False)


def _disk(found: Installation, folder: Path) -> None:
    free_gib = shutil.disk_usage(folder).free / 1024**3
    found.facts["disk_free_gib"] = round(free_gib, 1)
    if free_gib < _LEAST_DISK_GIB:
        what = f"{free_gib:.1f} GiB are free here; a run takes up to 1 GiB, with its checkpoints"
        found.add(what, "Free some space, or work in another folder.", fatal=False)


def _tensorflow(found: Installation) -> None:
    try:
        from ggn_tf.machine import resolve_precision

        names = [str(gpu["device_name"]) for gpu in gpus()]
        precision, why = resolve_precision("auto")
    except Exception as error:
        # A broken installation raises anything.
        found.add(f"TensorFlow does not start: {type(error).__name__}: {error}")
        return
    found.facts |= {"gpus": names, "precision": {"auto": precision, "why": why}}
    if not names and shutil.which("nvidia-smi"):
        remedy = 'pip install -c constraints.txt -e ".[gpu]"'
        found.add("There is an NVIDIA driver, but TensorFlow finds no GPU", remedy, fatal=False)


def _tensorboard(found: Installation) -> None:
    works = found.can_import("tensorboard.plugins.hparams.api", "TensorBoard does not start")
    plugin = find_spec("tensorboard_plugin_profile") is not None or find_spec("xprof") is not None
    found.facts["tensorboard"] = {"works": works, "profile_plugin": plugin}


def _serving(found: Installation) -> None:
    stubs, tensorflow = _version("tensorflow-serving-api"), _version("tensorflow")
    module = "tensorflow_serving.apis.prediction_service_pb2_grpc"
    works = found.can_import(module, "TensorFlow Serving's stubs cannot be imported")
    same = (stubs or "").split(".")[:2] == (tensorflow or "").split(".")[:2]
    if works and not same:
        what = f"tensorflow-serving-api {stubs} beside tensorflow {tensorflow}: their minor versions differ"
        found.add(what, fatal=False)
    found.facts["serving"] = {"api": stubs, "same_as_tensorflow": same, "real_server": shutil.which(PROGRAM)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

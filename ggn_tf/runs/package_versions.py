"""The versions of the packages that decide a run's numbers."""

import sys
from importlib.metadata import version

_PACKAGES = ("ggn-tf", "tensorflow", "keras", "numpy", "scikit-learn", "SimpleITK")


def package_versions() -> dict[str, str]:
    """Name and version of Python and of every package that a run's numbers may depend on."""
    return {"python": sys.version.split()[0], **{name: version(name) for name in _PACKAGES}}

"""The lists of packages with digests are those of setup.cfg and constraints.txt."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of digests of each package."""
    text = (ROOT / "scripts/locked" / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = {}
    for line in lines:
        requirement = Requirement(line.split(" --hash=", 1)[0])
        (version,) = requirement.specifier
        assert version.operator == "=="
        found[canonicalize_name(requirement.name)] = (
            version.version,
            len(re.findall("--hash=sha256:[0-9a-f]{64}", line)),
        )
    return found


@pytest.mark.parametrize(("name", "extras"), [("product", ()), ("test", ("test", "docs"))])
def test_every_requirement_is_locked_with_its_digests(name: str, extras: tuple[str, ...]) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
    requirements = [
        Requirement(line) for text in lines for line in text.splitlines() if line and not line.startswith("#")
    ]
    packages = locked(name)
    assert min(digests for _, digests in packages.values()) >= 1
    for requirement in requirements:
        assert requirement.specifier.contains(packages[canonicalize_name(requirement.name)][0])


def test_locked_versions_are_those_of_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines[1:])}
    # What this system and Python do not need has no constraint.
    found = {name: version for name, (version, _) in locked("test").items() if name in pinned}
    assert found == {name: pinned[name] for name in found}
    assert len(found) > 100

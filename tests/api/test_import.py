import pkgutil
import subprocess
import sys

import pytest

import ggn_tf

HEAVY = {"tensorflow", "keras", "numpy", "pandas", "SimpleITK"}
HELP = "from ggn_tf.cli import main; main(['--help'], standalone_mode=False)"


@pytest.mark.parametrize(
    ("program", "unneeded"),
    [("import ggn_tf; dir(ggn_tf)", {"click", "ggn_tf.api"}), (HELP, {"rich", "cattrs", "asyncio", "grpc", "pydicom"})],
)
def test_the_import_and_the_help_of_every_command_load_no_package_that_they_do_not_need(
    program: str, unneeded: set[str]
) -> None:
    command = [sys.executable, "-c", f"import sys; {program}; print(*sys.modules, file=sys.stderr)"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stderr.split()
    assert "ggn_tf" in loaded and not (HEAVY | unneeded) & set(loaded)


def test_every_public_name_exists_and_is_documented() -> None:
    names = [name for name in ggn_tf.__all__ if name != "__version__"]
    assert all(getattr(ggn_tf, name).__doc__ for name in names)
    assert set(ggn_tf.__all__) <= set(dir(ggn_tf))


def test_no_submodule_has_the_name_of_a_public_function() -> None:
    # Importing a submodule sets its name in the package, in place of the function.
    submodules = {module.name for module in pkgutil.iter_modules(ggn_tf.__path__)}
    assert not submodules & set(ggn_tf.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = ggn_tf.train  # type: ignore[attr-defined]


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "ggn_tf", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"ggn-tf, version {ggn_tf.__version__}\n"

"""README.md and docs/: the code runs, the site builds, and what the pages list is complete."""

import ast
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import ggn_tf
from ggn_tf.cli import main
from ggn_tf.protocol import PROTOCOLS
from tests.support.case_files import read_rows
from tests.support.tiny_protocol import tiny_protocol

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"<!-- runnable: (bash|python) -->\n```\w*\n(.*?)```", re.DOTALL)
_TUTORIAL = (("--nodules 40", "--nodules 12"),)
# The run of the tutorial is finished: to ask for it again trains nothing.
_TRAINED = "epochs=(2, 2, 1), learning_rates=(1e-3, 1e-3, 1e-4), batch_size=24"
_API = (("epochs=(1, 1, 1)", _TRAINED), ('"api/run"', '"runs/first"'))
# README's example is for a table and a CT of the reader's.
_README = (
    ('"cases.csv"', '"ct/cases.csv"'),
    ('run="runs/first"', f'run="runs/first", {_TRAINED}'),
    ('"dataset")', '"readme/dataset", jobs=1)'),
    ("ggn_tf.evaluate(run)", "ggn_tf.evaluate(run, replicates=50, gallery=0)"),
    ('"models/ggn"', '"readme/models/ggn"'),
    ('"P009/dicom", [ggn_tf.Point(-62.5, -110, -187)]', "CT, [ggn_tf.Mask(MASK)]"),
)


def _blocks(page: Path, language: str, changes: tuple[tuple[str, str], ...] = ()) -> list[str]:
    """The page's code in a language, with changes for the test."""
    text = page.read_text(encoding="utf-8")
    for written, for_test in changes:
        assert written in text
        text = text.replace(written, for_test)
    return [code for found, code in _BLOCK.findall(text) if found == language]


def _follow(folder: Path, blocks: list[str]) -> None:
    """Bash expands the commands, this process runs them: starting TensorFlow for each would take most of the time."""
    shown, settings = folder / "shown", ""
    for block in blocks:
        settings += "".join(f"{line}\n" for line in block.splitlines() if re.match(r"[A-Z]+=", line))
        record = f"{settings}ggn-tf() {{ printf '%s\\0' \"$@\" '' >> {shown}; }}\n"
        subprocess.run(["bash", "-euo", "pipefail", "-c", record + block], cwd=folder, check=True)
        for command in shown.read_text(encoding="utf-8").removesuffix("\0\0").split("\0\0"):
            done = CliRunner().invoke(main, command.split("\0"), catch_exceptions=False)
            assert done.exit_code == 0, f"{command}\n{done.output}"
        shown.unlink()


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory, in which the tutorial was followed with a tiny network."""
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # The hashes decide the splits: with so few nodules, not every salt leaves each class in the validation set.
        (folder / "salt").write_text("00" * 32 + "\n", encoding="ascii")
        patch.setenv("GGN_TF_SALT_FILE", str(folder / "salt"))
        patch.setitem(PROTOCOLS, "paper", lambda: tiny_protocol(size=32))
        _follow(folder, _blocks(DOCS / "tutorial.md", "bash", _TUTORIAL))
        yield folder


@pytest.mark.slow
def test_the_tutorial_can_be_followed(walked: Path) -> None:
    assert (walked / "runs/first/evaluation/report.html").is_file()
    assert (walked / "prediction/result.json").is_file()


@pytest.mark.slow
def test_the_examples_of_the_python_api_run(walked: Path) -> None:
    names: dict[str, object] = {}
    for code in _blocks(DOCS / "python-api.md", "python", _API):
        exec(compile(code, "python-api.md", "exec"), names)
    assert (walked / "api/prediction/result.json").is_file()


@pytest.mark.slow
def test_the_example_of_the_readme_runs(walked: Path) -> None:
    (code,) = _blocks(ROOT / "README.md", "python", _README)
    row = read_rows(walked / "ct/cases.csv")[0]
    names = {"CT": walked / "ct" / row["image"], "MASK": walked / "ct" / row["mask"]}
    exec(compile(code, "README.md", "exec"), names)
    assert set(names["nodule"].probabilities) == {"AAH+AIS", "MIA+IAC"}


_NOTEBOOK = (("NODULES = 40", "NODULES = 12"), ("EPOCHS = (20, 20, 20)", "EPOCHS = (1, 1, 1)"))


def _code_cells(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.nightly
def test_the_notebook_runs(walked: Path) -> None:
    code = "\n".join(_code_cells(DOCS / "workflow.ipynb"))
    for written, for_test in _NOTEBOOK:
        assert written in code
        code = code.replace(written, for_test)
    names: dict[str, object] = {}
    exec(compile(code, "workflow.ipynb", "exec"), names)
    assert (walked / "notebook/run/evaluation/report.html").is_file()
    assert set(names["served"].probabilities) == {"AAH+AIS", "MIA+IAC"}


def test_the_notebook_has_no_outputs_and_its_links_lead_to_files() -> None:
    notebook = json.loads((DOCS / "workflow.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for target in re.findall(r"\]\(([^)#\s]+)\)", json.dumps(notebook)):
        assert (DOCS / target).exists(), target


def test_every_runnable_block_is_tested() -> None:
    pages = {
        page.name
        for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
        if _BLOCK.search(page.read_text(encoding="utf-8"))
    }
    assert pages == {"README.md", "python-api.md", "tutorial.md"}


def test_commands_and_options_in_the_pages_exist() -> None:
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in main.list_commands(context)}
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for name, rest in re.findall(r"^\s*(?:`)?ggn-tf ([a-z][a-z-]+)(.*)$", text, re.MULTILINE):
            assert name in commands, (page.name, name)
            known = {option for param in commands[name].params for option in (*param.opts, *param.secondary_opts)}
            for option in re.findall(r"(?<= )--[a-z][\w-]*", re.split(r" -- |#|`", rest)[0]):
                assert option in known | {"--help"}, (page.name, name, option)


def test_links_lead_to_files() -> None:
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "serving").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), (page.name, target)


def test_the_tests_of_other_programs_inputs_exist() -> None:
    tests = ROOT / "tests"
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (tests / "README.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    assert [(file, name) for file, name in named if f"\ndef {name}(" not in (tests / file).read_text("utf-8")] == []


def test_the_readme_fits_on_two_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 85


def test_the_reference_lists_every_public_name() -> None:
    listed = re.findall(r"^::: ggn_tf\.(\w+)$", (DOCS / "reference/api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(set(ggn_tf.__all__) - {"__version__"})


def test_the_release_has_one_version() -> None:
    released = re.findall(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    (cited,) = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert ggn_tf.__version__.removesuffix(".dev0") >= released[0] == cited


# What must be looked at when TensorFlow, Keras, scikit-learn or matplotlib change.
_FRAGILE = re.compile(
    r"\braw_ops\.|\bcompat\.v1\.|\bexperimental[_.]|tensorflow\.python|keras\.src|RendererAgg|sklearn\.[\w.]*\._\w+"
)
_OWN = {"self", "cls", "os", "super"}
_NAMEDTUPLE = {"_asdict", "_fields", "_make", "_replace"}


def _is_fragile(path: Path) -> bool:
    source = path.read_text(encoding="utf-8")
    if _FRAGILE.search(source):
        return True
    own = set(re.findall(r"(?:def |self\.|cls\.)(_[a-z]\w*)", source))
    return any(
        isinstance(node, ast.Attribute)
        and re.match(r"_[a-z]", node.attr)
        and node.attr not in own | _NAMEDTUPLE
        and not (isinstance(node.value, ast.Name) and node.value.id in _OWN)
        for node in ast.walk(ast.parse(source))
    )


def test_fragile_interfaces_are_listed_with_their_modules() -> None:
    listed = set(
        re.findall(r"^\| `(ggn_tf/[\w/]+\.py)` \|", (DOCS / "upgrading-tensorflow.md").read_text("utf-8"), re.MULTILINE)
    )
    used = {str(path.relative_to(ROOT)) for path in (ROOT / "ggn_tf").rglob("*.py") if _is_fragile(path)}
    assert listed == used


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(script|img|link|iframe)[^>]+(src|href)=\"(https?:)?//", text), page.name


def test_hours_of_a_grid_are_those_that_the_script_calculates() -> None:
    rows = runpy.run_path(str(ROOT / "scripts" / "grid_hours.py"))["rows"]()
    assert "\n".join(rows) in (DOCS / "scale.md").read_text(encoding="utf-8")

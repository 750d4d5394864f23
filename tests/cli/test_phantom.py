from click.testing import CliRunner

from ggn_tf.cli import main
from tests.support.case_files import read_table


def test_the_command_writes_a_table_of_the_nodules_asked_for(tmp_path):
    out = tmp_path / "phantom"
    result = CliRunner().invoke(main, ["phantom", str(out), "--nodules", "4", "--format", "nifti"])
    assert (result.exit_code, result.stdout) == (0, f"4 nodules: {out / 'cases.csv'}\n")
    assert len(read_table(out / "cases.csv")) == 4


def test_a_full_folder_ends_with_one_block_and_exit_code_1(tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    result = CliRunner().invoke(main, ["phantom", str(tmp_path)])
    assert result.exit_code == 1
    assert "error: The phantom's folder is not empty." in result.stderr
    assert "Traceback" not in result.output


def test_too_few_nodules_are_a_usage_error(tmp_path):
    result = CliRunner().invoke(main, ["phantom", str(tmp_path / "out"), "--nodules", "3"])
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()

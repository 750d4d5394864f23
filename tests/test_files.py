from pathlib import Path

import pytest

from ggn_tf.files import atomic_file, atomic_folder


def test_a_file_takes_its_name_only_when_whole(tmp_path: Path):
    target = tmp_path / "deep" / "a.json"
    with atomic_file(target) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "new" and [path.name for path in target.parent.iterdir()] == ["a.json"]


def test_an_error_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path):
    target = tmp_path / "a.json"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert target.read_text(encoding="utf-8") == "old" and len(list(tmp_path.iterdir())) == 1


def test_an_error_leaves_no_folder(tmp_path: Path):
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "set") as temporary:
        (temporary / "shard").write_text("half", encoding="utf-8")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_never_replaced(tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "shard").write_text("kept", encoding="utf-8")
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "set"):
        pass
    assert (tmp_path / "set" / "shard").read_text(encoding="utf-8") == "kept"

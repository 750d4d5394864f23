from pathlib import Path
from types import SimpleNamespace

import pytest

from ggn_tf.monailabel.server import MonaiLabelOptions, MonaiLabelServer
from ggn_tf.serving.runtime.servable import Servable, StatusError


def test_the_contract_of_a_served_version_outlives_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ggn_tf.monailabel.server.read_contract", lambda folder: SimpleNamespace(folder=folder.name))
    server = MonaiLabelServer(SimpleNamespace(folder=tmp_path), MonaiLabelOptions(port=0))
    served, other = Servable("ggn", 3, None, {}), Servable("ggn", 3, None, {})
    (tmp_path / "3").mkdir()
    contract = server._contract(served)
    (tmp_path / "3").rmdir()
    assert server._contract(served) is contract
    with pytest.raises(StatusError) as caught:
        server._contract(other)
    assert caught.value.message == "Model ggn, version 3, is not served here."

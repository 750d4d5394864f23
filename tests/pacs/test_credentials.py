import json
from pathlib import Path

import pytest

from ggn_tf.errors import PacsError
from ggn_tf.pacs.credentials import PacsCredentials, read_credentials, refuse_unsafe_url

TOKEN = {"GGN_TF_PACS_TOKEN": "secret"}


def written(path: Path, document: object, mode: int = 0o600) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    path.chmod(mode)
    return path


def test_credentials_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    user = {"GGN_TF_PACS_USER": "me", "GGN_TF_PACS_PASSWORD": "secret"}
    assert read_credentials(environment={}) == PacsCredentials()
    assert read_credentials(environment=TOKEN).token == "secret"
    assert read_credentials(environment=user).user == ("me", "secret")
    file = written(tmp_path / "c.json", {"user": "you", "password": "other"})
    assert read_credentials(file, environment=user).user == ("you", "other")


def test_they_are_not_shown() -> None:
    assert "secret" not in repr(read_credentials(environment=TOKEN))


@pytest.mark.parametrize(
    "environment",
    [
        {"GGN_TF_PACS_USER": "me"},
        {"GGN_TF_PACS_PASSWORD": "secret"},
        {**TOKEN, "GGN_TF_PACS_USER": "me", "GGN_TF_PACS_PASSWORD": "secret"},
        {"GGN_TF_PACS_TOKEN": "secret\r\nHost: elsewhere"},
        {"GGN_TF_PACS_TOKEN": "secret\u5c71"},
        {"GGN_TF_PACS_TOKEN": "secret\u00fc"},
    ],
)
def test_incomplete_credentials_are_refused_without_repeating_them(environment: dict[str, str]) -> None:
    with pytest.raises(PacsError) as caught:
        read_credentials(environment=environment)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("document", ["secret", {}, {"token": 1}, {"tokens": "secret"}, {"user": "me"}, ["secret"]])
def test_a_file_without_credentials_is_refused_without_repeating_it(tmp_path: Path, document: object) -> None:
    with pytest.raises(PacsError) as caught:
        read_credentials(written(tmp_path / "c.json", document), environment={})
    assert "secret" not in str(caught.value)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PacsError, match="Others") as caught:
        read_credentials(written(tmp_path / "c.json", {"token": "t"}, 0o640), environment={})
    assert "chmod 600" in str(caught.value.remedy)


@pytest.mark.parametrize("argument", ["authorities", "certificate", "key"])
def test_a_missing_file_for_tls_is_refused(tmp_path: Path, argument: str) -> None:
    with pytest.raises(PacsError, match="TLS"):
        read_credentials(**{argument: tmp_path / "missing.pem"}, environment={})


@pytest.mark.parametrize(
    "url",
    [
        "http://pacs.example.org/dicom-web",
        "https://me:secret@pacs.example.org/dicom-web",
        "https://pacs.example.org/dicom-web?token=secret",
        "https://pacs.example.org:x/dicom-web?token=secret",
        "me:secret@pacs.example.org/dicom-web",
        "me:secret@pacs.example.org:8042",
        "https://me:1/secret@pacs.example.org/dicom-web",
        "//me:secret@[pacs.example.org",
        "ftp://pacs.example.org",
        "https://[::1]/dicom-web",
        "https://pacs.example.org:x/",
        "https://",
        "pacs.example.org",
        "",
    ],
)
def test_an_unsafe_address_is_refused(url: str) -> None:
    with pytest.raises(PacsError) as caught:
        refuse_unsafe_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://pacs.example.org/dicom-web", "http://127.0.0.1:8042/dicom-web"])
def test_a_safe_address_is_taken(url: str) -> None:
    refuse_unsafe_url(url)

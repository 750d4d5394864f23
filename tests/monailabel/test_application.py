"""The protocol as MONAI Label's client 0.8.5 speaks it, with a model that takes everything denser than lung."""

import email
import email.message
import email.policy
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from werkzeug.test import Client, TestResponse

from ggn_tf.cases.dicom.repair import STRICT
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.recentring import WARNING_MM
from ggn_tf.errors import VolumeError
from ggn_tf.monailabel.application import Application
from ggn_tf.monailabel.sessions import SessionLimits, Sessions
from ggn_tf.prediction.ct_patches import read_patches
from ggn_tf.prediction.locations import Voxel
from ggn_tf.prediction.nodules import CtPrediction, predict_nodules
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.contract.messages import Prediction
from tests.support.chest import distance_mm, lung_grid, lung_with_balls, write_dicom, write_nifti
from tests.support.threshold_model import THRESHOLD_HU

# Columns along S, rows along R and slices along A, turned by 7 degrees: no axis is where a wrong order would leave it.
_TURN = np.array([[np.cos(0.12), -np.sin(0.12), 0], [np.sin(0.12), np.cos(0.12), 0], [0, 0, 1]])
OBLIQUE = (_TURN @ np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float)).ravel().tolist()
GRID = lung_grid((0.7, 0.9, 1.3), tuple(OBLIQUE))
BALLS = [(22, 38, 45), (40, 15, 20)]
HOST = "http://localhost:8000"


def predict(ct: Path, series: str | None, nodules: Sequence[Voxel]) -> CtPrediction:
    patch = PatchProtocol()

    def by_threshold(hu: np.ndarray) -> Prediction:
        return Prediction(np.tile(np.float32([0.75, 0.25]), (len(hu), 1)), np.float32(hu > THRESHOLD_HU), ("A", "B"), 3)

    return predict_nodules(
        *read_patches(ct, series, nodules, patch, STRICT, WARNING_MM),
        by_threshold,
        {"export": "/secret"},
        recenter=patch,
    )


def ball_on(grid: Grid, index: Sequence[int]) -> np.ndarray:
    return distance_mm(grid, grid.point_of(index).tolist()) <= 6


@pytest.fixture(scope="module")
def cts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A CT for each ball."""
    folder = tmp_path_factory.mktemp("cts")
    images = [lung_with_balls(GRID, [(GRID.point_of(ball).tolist(), 6.0)]) for ball in BALLS]
    return [write_nifti(image, folder / f"{number}.nii.gz") for number, image in enumerate(images)]


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path, SessionLimits(upload_bytes=1 << 20))


@pytest.fixture
def client(sessions: Sessions) -> Client:
    return Client(Application("ggn", sessions, predict, origins=["http://ohif.example:3000/"]))


def form(fields: dict[str, str], files: dict[str, tuple[str, bytes]] | None = None) -> tuple[bytes, str]:
    """A body and its type, byte for byte as `MONAILabelUtils.encode_multipart_formdata` makes it."""
    limit, lines = "----------lImIt_of_THE_fIle_eW_$", []
    for key, value in fields.items():
        lines += ["--" + limit, f'Content-Disposition: form-data; name="{key}"', "", value]
    for key, (filename, content) in (files or {}).items():
        disposition = f'Content-Disposition: form-data; name="{key}"; filename="{filename}"'
        lines += ["--" + limit, disposition, "Content-Type: application/octet-stream", "", content]
    body = b"".join(
        (line if isinstance(line, bytes) else line.encode()) + b"\r\n" for line in [*lines, f"--{limit}--", ""]
    )
    return body, f"multipart/form-data; boundary={limit}"


def send(client: Client, method: str, path: str, body: tuple[bytes, str], **headers: str) -> TestResponse:
    return client.open(path, HOST, method=method, data=body[0], content_type=body[1], headers=headers)


def create(client: Client, ct: Path) -> str:
    response = send(client, "PUT", "/session/", form({}, {"files": (ct.name, ct.read_bytes())}))
    assert response.status_code == 200, response.json
    assert set(response.json) == {"session_id", "session_info"}
    return str(response.json["session_id"])


def infer(client: Client, session: str, params: dict[str, Any], image: str = "volume", query: str = "") -> TestResponse:
    path = f"/infer/ggn?image={image}" + (f"&session_id={session}" if session else "") + query
    return send(client, "POST", path, form({"params": json.dumps({**params, "client_id": None})}))


def parts(response: TestResponse) -> tuple[dict[str, Any], str, bytes]:
    """The document, and the file's name and content."""
    assert response.status_code == 200, response.json
    head = f"Content-Type: {response.content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.data, policy=email.policy.HTTP)
    document, file = message.iter_parts()  # type: ignore[attr-defined]
    name = file.get_filename()
    content = file.get_payload(decode=True)
    assert document.get_param("name", header="content-disposition") == "params"
    return json.loads(document.get_payload(decode=True)), name, content


def mask_of(response: TestResponse, folder: Path) -> tuple[dict[str, Any], sitk.Image]:
    document, name, content = parts(response)
    (folder / name).write_bytes(content)
    return document, sitk.ReadImage(str(folder / name))


def test_the_plug_ins_find_a_model_for_clicks(client: Client) -> None:
    info = client.get("/info/", HOST).json
    assert info["labels"] == ["nodule"]
    assert info["models"]["ggn"]["type"] == "deepgrow" and info["models"]["ggn"]["dimension"] == 3
    assert not info.get("config")
    # 3D Slicer asks whether a training runs, and takes anything but 200 for no.
    assert client.get("/train/?check_if_running=true", HOST).status_code == 404


@pytest.mark.parametrize(
    ("form_of_mask", "suffix", "kind"),
    [
        ({}, ".nii.gz", sitk.sitkUInt8),
        ({"result_extension": ".nrrd", "result_dtype": "uint8"}, ".nrrd", sitk.sitkUInt8),  # 3D Slicer
        ({"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": False}, ".nrrd", sitk.sitkUInt16),
    ],
)
def test_a_click_on_an_oblique_ct_gets_its_nodule_on_the_grid_of_the_file(
    form_of_mask: dict[str, Any], suffix: str, kind: int, client: Client, cts: list[Path], tmp_path: Path
) -> None:
    session = create(client, cts[0])
    clicked = infer(client, session, {"foreground": [[24, 37, 44]], "background": [], **form_of_mask})
    document, mask = mask_of(clicked, tmp_path)
    ct = sitk.ReadImage(str(cts[0]))
    assert parts(clicked)[1].endswith(suffix) and mask.GetPixelID() == kind
    assert mask.GetSize() == ct.GetSize()
    for written, own in ((mask.GetOrigin(), ct.GetOrigin()), (mask.GetDirection(), ct.GetDirection())):
        np.testing.assert_allclose(written, own, atol=1e-5)
    found, ball = sitk.GetArrayFromImage(mask), ball_on(GRID, BALLS[0])
    assert set(np.unique(found)) == {0, 1}
    assert 2 * np.sum(found * ball) / (found.sum() + ball.sum()) > 0.95
    (nodule,) = document["nodules"]
    assert nodule["probabilities"] == {"A": 0.75, "B": 0.25} and nodule["decision"] == "A"
    np.testing.assert_allclose(nodule["center_index_xyz"], BALLS[0], atol=0.1)
    assert nodule["longest_diameter_mm"] == pytest.approx(12, abs=1.5)
    assert document["label_names"] == {"nodule": 1} and document["model_version"] == 3
    assert document["warnings"] == [] and "secret" not in json.dumps(document)


def test_mask_and_document_can_be_had_alone(client: Client, cts: list[Path]) -> None:
    session = create(client, cts[0])
    click = {"foreground": [list(BALLS[0])], "result_extension": ".nrrd"}
    alone = infer(client, session, click, query="&output=image")
    assert alone.content_type == "application/octet-stream" and alone.data.startswith(b"NRRD")
    assert alone.data == parts(infer(client, session, click))[2]
    assert infer(client, session, click, query="&output=json").json == parts(infer(client, session, click))[0]


def test_several_clicks_have_one_label_and_an_entry_each(client: Client, tmp_path: Path) -> None:
    image = lung_with_balls(GRID, [(GRID.point_of(ball).tolist(), 6.0) for ball in BALLS])
    session = create(client, write_nifti(image, tmp_path / "both.nii"))
    clicks = {"foreground": [list(ball) for ball in BALLS], "background": [[1, 2, 3]]}
    document, mask = mask_of(infer(client, session, clicks), tmp_path)
    np.testing.assert_allclose([item["center_index_xyz"] for item in document["nodules"]], BALLS, atol=0.1)
    found = sitk.GetArrayFromImage(mask)
    assert set(np.unique(found)) == {0, 1} and all(found[ball[::-1]] for ball in BALLS)
    assert [warning["code"] for warning in document["warnings"]] == ["background_ignored"]


def test_two_clients_have_their_own_cts(client: Client, cts: list[Path]) -> None:
    names = [create(client, ct) for ct in cts]
    for name, ball in zip(names, BALLS, strict=True):
        nodule = parts(infer(client, name, {"foreground": [list(ball)]}))[0]["nodules"][0]
        np.testing.assert_allclose(nodule["center_index_xyz"], ball, atol=0.1)
    assert client.delete(f"/session/{names[0]}", base_url=HOST).status_code == 200
    assert client.get(f"/session/{names[0]}", HOST).status_code == 404
    assert client.get(f"/session/{names[1]}", HOST).json["expiry"] == 3600


def test_a_ct_sent_with_the_click_is_not_kept(client: Client, cts: list[Path], sessions: Sessions) -> None:
    body = form({"params": json.dumps({"foreground": [list(BALLS[0])]})}, {"file": (str(cts[0]), cts[0].read_bytes())})
    document, _, _ = parts(send(client, "POST", "/infer/ggn?image=x", body))
    np.testing.assert_allclose(document["nodules"][0]["center_index_xyz"], BALLS[0], atol=0.1)
    assert list(sessions.folder.iterdir()) == []


def test_ohif_names_a_series_and_gets_its_slices_in_its_own_order(sessions: Sessions, tmp_path: Path) -> None:
    # Cornerstone orders slices by their position along the normal; series and clicks are from head to feet here.
    grid = lung_grid((0.7, 0.9, 1.3), (1, 0, 0, 0, -1, 0, 0, 0, -1))
    folder = write_dicom(lung_with_balls(grid, [(grid.point_of(BALLS[0]).tolist(), 6.0)]), tmp_path / "images")
    slices = [pydicom.dcmread(file, stop_before_pixels=True) for file in folder.iterdir()]
    normal = np.cross(slices[0].ImageOrientationPatient[:3], slices[0].ImageOrientationPatient[3:])
    heights = sorted(float(np.dot(item.ImagePositionPatient, normal)) for item in slices)
    nodule_mm = float(np.dot(grid.point_of(BALLS[0]), normal))
    client = Client(Application("ggn", sessions, predict, images=folder))
    k = int(np.argmin(np.abs(np.subtract(heights, nodule_mm))))
    click = {"foreground": [[BALLS[0][0], BALLS[0][1], k]], "result_extension": ".nrrd", "result_compress": False}
    response = infer(client, "", click, image=slices[0].SeriesInstanceUID)
    _, mask = mask_of(response, tmp_path)
    levels = np.flatnonzero(sitk.GetArrayFromImage(mask).any(axis=(1, 2)))
    np.testing.assert_allclose([heights[level] for level in levels], nodule_mm, atol=6.7)
    assert len(levels) == 9
    # The older plug-in decodes the answer as text.
    assert max(parts(response)[2]) < 128
    refused = infer(client, "", click, image="1.2.3")
    assert refused.status_code == 400
    assert "Found" not in refused.text and slices[0].SeriesInstanceUID not in refused.text


def test_errors_about_stored_images_show_no_path_and_no_other_series(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(ct: Path, series: str | None, _: Sequence[Voxel]) -> CtPrediction:
        raise VolumeError(f"There is no series {series} in {ct}.", found="1.2.840", expected="1.2.841", remedy="None.")

    monkeypatch.chdir(tmp_path)
    client = Client(Application("ggn", sessions, fail, images=Path("secret/folder")))
    response = infer(client, "", {"foreground": [[1, 2, 3]]}, image="1.2.3")
    assert response.json == {"detail": "There is no series 1.2.3 in (path) None."}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"foreground": []},
        {"foreground": [[1, 2]]},
        {"foreground": [[1, 2, True]]},
        {"foreground": [["1", 2, 3]]},
        {"foreground": [[1, 2, 1e300]]},
        {"foreground": [[64, 2, 3]]},
        {"foreground": [[-1, 2, 3]]},
        {"foreground": [[1, 2, 3]] * 65},
        {"foreground": {"0": [1, 2, 3]}},
        {"foreground": [[22, 38, 45]], "result_extension": "/../x.nrrd"},
        {"foreground": [[22, 38, 45]], "result_extension": [".nrrd"]},
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, Any], client: Client, cts: list[Path]) -> None:
    response = infer(client, create(client, cts[0]), params)
    assert response.status_code == 400 and set(response.json) == {"detail"}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"foreground": [[NaN, 1, 2]]}', "[" * 100_000])
def test_parameters_that_are_no_object_are_refused(text: str, client: Client, cts: list[Path]) -> None:
    path = f"/infer/ggn?image=x&session_id={create(client, cts[0])}"
    assert send(client, "POST", path, form({"params": text})).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/infer/other?image=x", 404),
        ("POST", "/infer/ggn?image=../../etc/passwd", 404),
        ("POST", "/infer/ggn?image=/etc/passwd", 404),
        ("POST", "/infer/ggn?image=1.2.3", 404),
        ("POST", "/infer/ggn", 404),
        ("POST", "/infer/ggn?image=x&session_id=..", 404),
        ("POST", "/infer/ggn?image=x&output=dicom_seg", 400),
        ("GET", "/session/..%2f..", 404),
        ("DELETE", "/session/%2e%2e", 404),
        ("GET", "/datastore/?image=x", 404),
        ("POST", "/info/", 405),
    ],
)
def test_what_is_not_there_is_not_found(method: str, path: str, status: int, client: Client) -> None:
    body = form({"params": json.dumps({"foreground": [[1, 2, 3]]})})
    assert send(client, method, path, body).status_code == status


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({}, 400),
        ({"files": ("ct.exe", b"0")}, 415),
        ({"files": ("a.nii", b"0"), "file": ("b.nii", b"0")}, 400),
        ({f"files{number}": ("a.nii", b"") for number in range(9)}, 400),
    ],
)
def test_an_upload_must_be_one_ct(
    files: dict[str, tuple[str, bytes]], status: int, client: Client, sessions: Sessions
) -> None:
    assert send(client, "PUT", "/session/", form({"client_id": "a"}, files)).status_code == status
    assert list(sessions.folder.iterdir()) == []


def test_damaged_and_large_uploads_are_refused_and_leave_nothing(client: Client, sessions: Sessions) -> None:
    body, kind = form({}, {"files": ("../../evil.nii.gz", b"not a CT")})
    cut = (body[:-30], kind)
    assert send(client, "PUT", "/session/", cut).status_code == 400
    assert send(client, "PUT", "/session/", (body, "multipart/form-data")).status_code == 400
    assert send(client, "PUT", "/session/", (body, "application/octet-stream")).status_code == 415
    large = form({}, {"files": ("a.nii", bytes(1 << 20))})
    assert send(client, "PUT", "/session/", large).status_code == 413
    assert send(client, "PUT", "/session/", form({"params": "x" * 300_000})).status_code == 413
    assert list(sessions.folder.iterdir()) == []
    session = send(client, "PUT", "/session/", (body, kind)).json["session_id"]
    assert [path.name for path in (sessions.folder / session).iterdir()] == ["ct.nii.gz"]
    response = infer(client, session, {"foreground": [[1, 2, 3]]})
    assert response.status_code == 400
    assert str(sessions.folder) not in response.text and "Traceback" not in response.text


def test_pages_of_other_origins_and_other_names_of_the_machine_are_refused(client: Client, cts: list[Path]) -> None:
    own, foreign = "http://ohif.example:3000", "http://elsewhere.example"
    answered = client.get("/info/", HOST, headers={"Origin": own})
    assert answered.status_code == 200 and answered.headers["Access-Control-Allow-Origin"] == own
    body = form({}, {"files": ("a.nii", cts[0].read_bytes())})
    assert send(client, "PUT", "/session/", body, Origin=foreign).status_code == 403
    assert "Access-Control-Allow-Origin" not in client.get("/info/", HOST).headers
    assert client.options("/infer/ggn", base_url=HOST, headers={"Origin": own}).status_code == 200
    # A name that its owner lets lead to 127.0.0.1, for pages that then are of the server's origin.
    for name, status in (("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("rebound.example:8000", 403)):
        assert client.get("/info/", f"http://{name}").status_code == status


def test_errors_of_the_program_are_not_shown(
    sessions: Sessions, cts: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> CtPrediction:
        raise RuntimeError(f"at {cts[0]}")

    client = Client(Application("ggn", sessions, fail))
    response = infer(client, create(client, cts[0]), {"foreground": [[1, 2, 3]]})
    assert response.status_code == 500
    assert response.json == {"detail": "The server cannot process this request."}
    shown = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert shown == ["a request failed: RuntimeError"]

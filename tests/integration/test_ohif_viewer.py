"""The real OHIF with a real Orthanc: it shows our SEG and SR where the nodule is, and saves a length that marks it.

With GGN_TF_SCREENSHOTS=docs/images, the pictures of the documentation are written.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy import ndimage

from ggn_tf.cli import main
from ggn_tf.pacs.credentials import PacsCredentials
from ggn_tf.pacs.dicomweb import DicomWeb
from tests.support.chest import CENTER, lung_grid, lung_with_balls, write_dicom
from tests.support.dicom_segmentations import frames_of
from tests.support.threshold_model import export_threshold_model

pytest.importorskip("pynetdicom", reason="needs the extra pacs")
pytest.importorskip("dicomweb_client.web", reason="needs the extra pacs")
pytest.importorskip("selenium", reason="needs the extra test")
from tests.support.ohif import Viewer, opened_viewer
from tests.support.orthanc import PASSWORD, USER, Orthanc, running_orthanc

pytestmark = pytest.mark.slow
# Of `lung_grid`: pixels of a slice, their size, and how far the window reaches.
COLUMNS, ROWS, PIXEL_MM = 64, 60, 0.8
WINDOW = {"0028|1050": "-600", "0028|1051": "1000"}


@dataclass(frozen=True)
class Answered:
    """A study in the archive with our SEG and SR.

    Attributes:
        slices: The CT's headers by InstanceNumber.
        folder: Our objects, as they were sent.
        nodule: The nodule in result.json.
    """

    orthanc: Orthanc
    export: Path
    slices: dict[int, pydicom.Dataset]
    folder: Path
    nodule: dict[str, Any]

    @property
    def study(self) -> str:
        return str(self.slices[1].StudyInstanceUID)

    def height_mm(self, number: int) -> float:
        return float(self.slices[number].ImagePositionPatient[2])

    def number_of(self, uid: str) -> int:
        return next(number for number, item in self.slices.items() if item.SOPInstanceUID == uid)


def predict(orthanc: Orthanc, study: str, export: Path, *options: object) -> dict[str, Any]:
    arguments = ("predict", "--pacs", orthanc.web, "--study", study, "--export", export, "--json", *options)
    account = {"GGN_TF_PACS_USER": USER, "GGN_TF_PACS_PASSWORD": PASSWORD}
    result = CliRunner().invoke(main, [*map(str, arguments)], env=account)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answered]:
    folder = tmp_path_factory.mktemp("ohif")
    ct = write_dicom(lung_with_balls(lung_grid())[:, :, 24:48], folder / "ct", WINDOW)
    slices = {int(item.InstanceNumber): item for item in map(pydicom.dcmread, ct.iterdir())}
    (folder / "orthanc").mkdir()
    with running_orthanc(folder / "orthanc") as orthanc:
        archive = DicomWeb(orthanc.web, PacsCredentials(user=(USER, PASSWORD)), 30.0)
        archive.send(slices[1].StudyInstanceUID, [*ct.iterdir()])
        archive.close()
        export = export_threshold_model(folder / "ggn")
        given = ("--center-mm", *CENTER, "--send", "-o", folder / "answer")
        (nodule,) = predict(orthanc, slices[1].StudyInstanceUID, export, *given)["nodules"]
        yield Answered(orthanc, export, slices, folder / "answer", nodule)


@pytest.fixture(scope="module")
def viewer(answered: Answered) -> Iterator[Viewer]:
    with opened_viewer(answered.orthanc, answered.study) as opened:
        yield opened


def scale(viewer: Viewer) -> float:
    """Pixels of the screen per pixel of the CT: a slice fills the viewport's height."""
    return min(viewer.pixels().shape[0] / ROWS, viewer.pixels().shape[1] / COLUMNS)


def projected(viewer: Viewer, inside: np.ndarray) -> np.ndarray:
    """A mask of a slice, [row, column] bool, on the pixels of the viewport, whose middle is that of the slice."""
    shape = viewer.pixels().shape[:2]
    at = np.indices(shape).transpose(1, 2, 0) + 0.5 - np.array(shape) / 2
    rows, columns = np.floor(at / scale(viewer) + np.array(inside.shape) / 2).astype(int).transpose(2, 0, 1)
    within = (rows >= 0) & (rows < ROWS) & (columns >= 0) & (columns < COLUMNS)
    return within & inside[rows.clip(0, ROWS - 1), columns.clip(0, COLUMNS - 1)]


def save_picture(viewer: Viewer, name: str) -> None:
    if folder := os.environ.get("GGN_TF_SCREENSHOTS"):
        viewer.page.save_screenshot(f"{folder}/{name}.png")
        Image.open(f"{folder}/{name}.png").convert("P", palette=Image.Palette.ADAPTIVE).save(f"{folder}/{name}.png")


def test_the_segmentation_covers_the_nodule(viewer: Viewer, answered: Answered) -> None:
    frames = {
        answered.number_of(frame.source): frame.inside for frame in frames_of(answered.folder / "nodule_mask.seg.dcm")
    }
    numbers = [min(frames), max(frames, key=lambda number: frames[number].sum()), min(frames) - 1]
    before = []
    for number in numbers:
        viewer.scroll_to(number)
        before.append(viewer.pixels())
    viewer.show("SEG", lambda: viewer.all("[data-cy=yes-hydrate-btn]"))
    viewer.one("[data-cy=yes-hydrate-btn]").click()
    # OHIF leaves the last slice, which has no mask, for one that has.
    viewer.wait(lambda: viewer.shown_instance() in frames)
    middle = (slice(120, -120), slice(120, -120))
    for number, plain in zip(numbers, before, strict=True):
        viewer.scroll_to(number)
        changed = (np.abs(viewer.pixels() - plain).max(axis=-1) > 8)[middle]
        expected = projected(viewer, frames.get(number, np.zeros((ROWS, COLUMNS), bool)))[middle]
        # Its outline is drawn on its edge.
        assert not (changed & ~ndimage.binary_dilation(expected, iterations=3)).any()
        inner = ndimage.binary_erosion(expected, iterations=3)
        assert changed[inner].all() and (inner.any() or number != numbers[1])
    assert viewer.errors() == []


def test_the_report_shows_the_probabilities_on_the_slice_of_the_nodule(viewer: Viewer, answered: Answered) -> None:
    report = pydicom.dcmread(answered.folder / "nodules.sr.dcm")
    (reference,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    (image,) = reference.ReferencedSOPSequence
    viewer.show("SR", viewer.lines)
    probabilities = answered.nodule["probabilities"]
    expected = [f"Probability of {name}: {100 * value:.2f} %" for name, value in probabilities.items()]
    viewer.wait(lambda: viewer.lines()[: len(expected)] == expected)
    shown = viewer.shown_instance()
    assert shown == answered.number_of(image.ReferencedSOPInstanceUID)
    save_picture(viewer, "ohif-answer")
    viewer.scroll_to(shown + 1)
    viewer.wait(lambda: not viewer.lines())
    assert viewer.errors() == []


def test_a_length_that_ohif_saves_marks_where_it_was_drawn(viewer: Viewer, answered: Answered) -> None:
    viewer.show("CT", lambda: "SR" not in viewer.one("[data-cy=viewport-pane]").text)
    before = answered.orthanc.series_by_qido(answered.study, "SR")
    number = min(answered.slices, key=lambda number: abs(answered.height_mm(number) - CENTER[2]))
    viewer.scroll_to(number)
    viewer.one("[data-cy=Length-btn]").click()
    start, end = (-70, 24), (86, -8)
    viewer.drag(start, end)
    save_picture(viewer, "ohif-length")
    viewer.one("[data-cy=prompt-begin-tracking-yes-btn]").click()
    viewer.one("[data-cy=trackedMeasurements-btn]").click()
    viewer.button("Create SR").click()
    viewer.one("[data-cy=input-dialog-save-button]").click()
    (series,) = viewer.wait(lambda: answered.orthanc.series_by_qido(answered.study, "SR") - before)
    (nodule,) = predict(answered.orthanc, answered.study, answered.export, "--points-series", series)["nodules"]
    across, down = np.add(start, end) / 2 / scale(viewer) * PIXEL_MM
    drawn = (CENTER[0] + across, CENTER[1] + down, answered.height_mm(number))
    assert np.linalg.norm(np.subtract(nodule["given_center_mm_lps"], drawn)) < 0.5
    assert viewer.errors() == []

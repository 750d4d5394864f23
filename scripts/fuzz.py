"""Coverage-guided fuzzing of everything that reads files and messages of unknown origin, by atheris.

atheris is not a dependency. In an environment of its own, beside the product's:

    pip install atheris
    python scripts/fuzz.py nifti CORPUS -max_total_time=120 -timeout=5 -rss_limit_mb=4096

CORPUS is a folder of sound files to begin with; the options are libFuzzer's. An input that raises anything but the
product's own errors, takes longer than the timeout or more memory than the limit is written to the working folder.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris
from google.protobuf.message import DecodeError

with atheris.instrument_imports(include=["ggn_tf"]):
    from ggn_tf.cases.detached import voxel_files
    from ggn_tf.cases.dicom.bounds import find_overrun
    from ggn_tf.cases.dicom.plain_header import read_plain_header
    from ggn_tf.cases.dicom.segmentation import read_dicom_segment
    from ggn_tf.cases.dicom.slice_planes import SlicePlanes
    from ggn_tf.cases.dicom.structure_set import read_region_of_interest
    from ggn_tf.cases.geometry.grid import Grid
    from ggn_tf.cases.headers import read_nifti_grid
    from ggn_tf.cases.markups import read_markups
    from ggn_tf.cases.nifti import read_occupied
    from ggn_tf.cases.table import open_table
    from ggn_tf.dataset.case_record import CaseRecord
    from ggn_tf.errors import GgnError
    from ggn_tf.json_records import from_json, parse_document, without_digest
    from ggn_tf.protocol import PatchProtocol
    from ggn_tf.runs.checkpoints import read_archive
    from ggn_tf.runs.ledger import Ledger
    from ggn_tf.runs.run_description import RunDescription, StoredBeginning, StoredConditions
    from ggn_tf.serving.contract.export_contract import ExportContract

PLANES = SlicePlanes.of(Grid((64, 64, 32), (0.7, 0.7, 1.25), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)))
FILE = Path(tempfile.mkdtemp(prefix="ggn-tf-fuzz-")) / "file"


def on_file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    path = FILE.with_name(name)

    def read_bytes(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return read_bytes


def read_nifti(path: Path) -> None:
    grid, _ = read_nifti_grid(path)
    if max(grid.size_xyz) <= 512:
        read_occupied(path, grid.size_xyz)


def read_dicom(path: Path) -> None:
    read_plain_header(path, frozenset(("0020|0032", "0028|0120", "0008|0016")))
    find_overrun(path)


def read_run(content: bytes) -> None:
    stored = without_digest(parse_document(content))
    from_json(RunDescription, stored, ignore_unknown=True)
    begun = from_json(StoredBeginning, stored, ignore_unknown=True)
    from_json(StoredConditions, begun.conditions or {}, ignore_unknown=True)


def read_dataset(content: bytes) -> None:
    # Without its digest, which no mutation keeps.
    stored = parse_document(content)
    if isinstance(stored, dict):
        from_json(PatchProtocol, stored.get("protocol"))
        for case in stored["cases"] if isinstance(stored.get("cases"), list) else ():
            from_json(CaseRecord, case)


def read_request(content: bytes) -> None:
    from tensorflow_serving.apis import predict_pb2

    from ggn_tf.serving.contract.tensors import decode

    for proto in predict_pb2.PredictRequest.FromString(content).inputs.values():
        decode(proto, 2**23)


TARGETS: dict[str, Callable[[bytes], object]] = {
    "nifti": on_file(read_nifti, "a.nii"),
    "nrrd": on_file(voxel_files, "a.nrrd"),
    "metaimage": on_file(voxel_files, "a.mhd"),
    "dicom": on_file(read_dicom, "a.dcm"),
    "seg": on_file(lambda path: read_dicom_segment(path, None, PLANES), "a.dcm"),
    "rtstruct": on_file(lambda path: read_region_of_interest(path, None, PLANES), "a.dcm"),
    "markups": on_file(read_markups, "a.mrk.json"),
    "csv": on_file(open_table, "a.csv"),
    "xlsx": on_file(open_table, "a.xlsx"),
    "dataset": read_dataset,
    "run": read_run,
    "ledger": on_file(lambda path: Ledger(path.parent).entries(), "stages.json"),
    "contract": lambda content: ExportContract.from_dict(parse_document(content)),
    "checkpoint": read_archive,
    "request": read_request,
}
# What the callers of these functions turn into the product's errors.
EXPECTED = (GgnError, DecodeError, ValueError, OSError, EOFError)


def main() -> None:
    """Fuzz one target."""
    warnings.simplefilter("ignore")
    target = TARGETS[sys.argv.pop(1)]

    def test(content: bytes) -> None:
        with suppress(*EXPECTED):
            target(content)

    atheris.Setup(sys.argv, test)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

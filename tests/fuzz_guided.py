"""Coverage-guided fuzzing with atheris (`pip install atheris`); the random variants of the suite need no such package.

python -m tests.fuzz_guided KIND FOLDER [options of libFuzzer, such as -runs=2000]

KIND is `request` or one file of `FILES`. FOLDER keeps inputs that reach new lines of ours, pydicom's or highdicom's,
and an input that fails: an exception other than an error block, more than 5 s of processor time, a crash of a native
reader. A crash ends this process; the product runs native readers in a process of their own.
"""

import hashlib
import json
import resource
import shutil
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ggn_tf", "pydicom", "highdicom"]):
    import numpy as np
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import predict_pb2

    from ggn_tf.errors import GgnError
    from ggn_tf.serving.contract.messages import make_request, make_roi_request, order_regions
    from ggn_tf.serving.runtime.message_fields import check_fields
    from ggn_tf.serving.runtime.predict_request import RequestBounds, predict
    from ggn_tf.serving.runtime.servable import Servable, StatusError
    from tests.cases import test_fuzz as case_files
    from tests.integration import test_stored_file_fuzz as stored_files

LONGEST_S, HANGS, LARGEST_KB = 5, "-timeout=60", "-max_len=200000"
CASE_FILES = (*case_files.MASKS, *case_files.CTS, case_files.MARKUPS, "cases.csv", "cases.xlsx")
FILES = (*CASE_FILES, *stored_files.KINDS)
INPUTS = {
    "serving_default": {"hu": (-1, 32, 32, 32, 1)},
    "roi": {"hu": (-1, -1, -1, -1), "spacing_mm": (-1, 3), "center_index": (-1, 3)},
}


class _NoGraph(Servable):
    """The signatures of an export, whose graph returns zeros."""

    def __init__(self) -> None:
        super().__init__("ggn", 1, None, {name: _signature(inputs) for name, inputs in INPUTS.items()})

    def run(self, feeds, fetches):
        return {alias: np.zeros((len(next(iter(feeds.values()))), 2), np.float32) for alias in fetches}


def _signature(inputs):
    signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for name, shape in [*inputs.items(), ("probabilities", (-1, 2))]:
        info = (signature.outputs if name == "probabilities" else signature.inputs)[name]
        info.name, info.dtype = f"{name}:0", types_pb2.DT_FLOAT
        for size in shape:
            info.tensor_shape.dim.add(size=size)
    return signature


def fuzz_request():
    """Seeds, and what the server does with a message before and after the graph."""
    graph, bounds = _NoGraph(), RequestBounds(2**26, 64)
    region = order_regions(np.zeros((1, 4, 5, 6), np.float32), np.ones((1, 3)), np.ones((1, 3)), "SPL")
    seeds = [make_request(np.zeros((1, 2, 2, 2, 1), np.float32), "ggn"), make_roi_request(region, "ggn", "roi")]

    def read(content):
        try:
            check_fields(content)
            predict(graph, predict_pb2.PredictRequest.FromString(content), bounds)
        except (ValueError, DecodeError, StatusError):
            return

    return [seed.SerializeToString() for seed in seeds], read


def fuzz_case_file(name, place):
    """Seed, and reading a file of a case as `prepare` does."""
    folder = case_files.write_originals(place)
    target = Path(shutil.copytree(folder / name, place / "changed" / name)) if (folder / name).is_dir() else None
    changed = target / "0004.dcm" if target else place / "changed" / name
    seed = (changed if target else folder / name).read_bytes()
    changed.parent.mkdir(exist_ok=True)

    def read(content):
        changed.write_bytes(content)
        case_files.check_read(target or changed)

    return [seed], read


def fuzz_stored_file(name, place):
    """Seeds, and reading a file that the product wrote; with a digest that fits where the file has one inside."""
    kind, folder = stored_files.KINDS[name], stored_files.write_originals(place)
    seed = (folder / kind.path).read_bytes()
    if kind.path.endswith(".npz"):
        seed = seed[: -hashlib.sha256().digest_size]

    def read(content):
        if kind.path.endswith(".npz"):
            content += hashlib.sha256(content).digest()
        else:
            with suppress(ValueError, TypeError, AttributeError, RecursionError, KeyError):
                content = json.dumps(kind.signed(json.loads(content))).encode()
        (folder / kind.path).write_bytes(content)
        try:
            kind.read(folder)
        except GgnError:
            return

    return [seed], read


def main(kind, corpus, options):
    """Fuzz one kind, and print the peak of the memory."""
    with tempfile.TemporaryDirectory() as place:
        if kind == "request":
            seeds, read = fuzz_request()
        else:
            seeds, read = (fuzz_case_file if kind in CASE_FILES else fuzz_stored_file)(kind, Path(place))
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
        longest = [0.0, 0]

        def one_input(content):
            begun = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(content)
            took_s = time.process_time() - begun
            longest[0], longest[1] = max(longest[0], took_s), longest[1] + 1
            assert took_s < LONGEST_S
            if longest[1] % 500 == 0:
                peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
                print(f"{kind}: {longest[1]} inputs, longest {longest[0]:.2f} s, peak {peak_mb:.0f} MB", flush=True)

        arguments = [sys.argv[0], HANGS, LARGEST_KB, f"-artifact_prefix={corpus}/", *options, str(corpus)]
        atheris.Setup(arguments, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])

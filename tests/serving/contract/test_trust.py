"""Which versions are loaded: complete ones of regular files whose graphs only compute, signed where this is asked."""

import os
import shutil
import subprocess
import time

import pytest
import tensorflow as tf
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from ggn_tf.errors import ExportError
from ggn_tf.serving.contract.export_contract import read_contract
from ggn_tf.serving.contract.trust import Trust, read_private_key, read_public_key, sign
from ggn_tf.serving.contract.version_folders import find_version, list_versions, write_checksums
from ggn_tf.serving.runtime.servable import open_servable

PATCHES = tf.TensorSpec([None, 32, 32, 32, 1], name="hu")


@pytest.fixture
def version(exported, tmp_path):
    """A version that may be changed."""
    return shutil.copytree(exported / "1", tmp_path / "ggn" / "1")


def refusal(version, trust=None):
    with pytest.raises(ExportError) as caught:
        (trust or Trust()).check(version)
    return caught.value


def test_an_export_is_loaded(version):
    Trust().check(version)


def test_a_version_without_checksums_needs_trust(version):
    (version / "assets.extra" / "SHA256SUMS").unlink()
    assert refusal(version).arguments == ("trust",)
    Trust(any_program=True).check(version)


def test_a_damaged_version_is_refused_even_with_trust(version):
    (version / "assets.extra" / "labels.txt").write_text("x")
    assert "labels.txt has changed" in refusal(version, Trust(any_program=True)).found


FOREIGN = {
    "ReadFile": lambda: tf.io.read_file("/etc/hostname"),
    "WriteFile": lambda: tf.raw_ops.WriteFile(filename="/tmp/x", contents="x"),
    "MatchingFiles": lambda: tf.io.matching_files("/*"),
    "RestoreV2": lambda: tf.raw_ops.RestoreV2(
        prefix="/x", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
    ),
    "SaveV2": lambda: tf.raw_ops.SaveV2(prefix="/x", tensor_names=["a"], shape_and_slices=[""], tensors=[1.0]),
    "EagerPyFunc": lambda: tf.py_function(lambda: 1.0, [], tf.float32),
    "PyFunc": lambda: tf.numpy_function(lambda: 1.0, [], tf.float32),
    "TextLineDataset": lambda: tf.raw_ops.TextLineDataset(filenames="/etc/passwd", compression_type="", buffer_size=0),
    "WholeFileReaderV2": lambda: tf.raw_ops.WholeFileReaderV2(),
    "DebugIdentityV2": lambda: tf.raw_ops.DebugIdentityV2(input=1.0, debug_urls=["file:///tmp/x"]),
    "PrintV2": lambda: tf.raw_ops.PrintV2(input="x", output_stream="file:///tmp/x"),
    "CreateSummaryFileWriter": lambda: tf.raw_ops.CreateSummaryFileWriter(
        writer=tf.raw_ops.SummaryWriter(), logdir="/tmp/x", max_queue=1, flush_millis=1, filename_suffix=""
    ),
    "InitializeTableFromTextFileV2": lambda: tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64),
        filename="/etc/passwd",
        key_index=-2,
        value_index=-1,
    ),
}


def with_operation(operation, folder, within=lambda run: run):
    """A version with valid checksums whose signature also runs an operation."""

    class Model(tf.Module):
        @tf.function(input_signature=[PATCHES], autograph=False)
        def serve(self, hu):
            with tf.control_dependencies(tf.nest.flatten(within(FOREIGN[operation])())):
                return {"probabilities": tf.identity(hu)}

    module = Model()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    (folder / "assets.extra").mkdir()
    write_checksums(folder)


@pytest.mark.parametrize("operation", FOREIGN)
def test_a_graph_that_may_leave_the_process_needs_trust(operation, tmp_path):
    with_operation(operation, tmp_path / "1")
    refused = refusal(tmp_path / "1")
    assert operation in refused.found
    assert refused.arguments == ("trust",)
    Trust(any_program=True).check(tmp_path / "1")


def test_an_operation_within_a_function_within_a_condition_is_found(tmp_path):
    def within(run):
        inner = tf.function(run, autograph=False)
        return lambda: tf.cond(tf.constant(1.0) > 0, inner, lambda: tf.constant(""))

    with_operation("ReadFile", tmp_path / "1", within)
    assert refusal(tmp_path / "1").found == "ReadFile"


@pytest.mark.parametrize("collection", ["saved_model_main_op", "legacy_init_op"])
def test_an_operation_that_the_loader_runs_is_found_although_the_saver_needs_it(collection, version, tmp_path):
    file = version / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    (meta_graph,) = saved.meta_graphs
    with tf.Graph().as_default() as graph:
        tf.raw_ops.WriteFile(filename=str(tmp_path / "written"), contents="x", name="write")
    saver = meta_graph.saver_def.save_tensor_name.split(":")[0]
    next(node for node in meta_graph.graph_def.node if node.name == saver).input.append("^write")
    meta_graph.graph_def.node.extend(graph.as_graph_def().node)
    # The loader runs the first that there is, of a signature or of either collection.
    meta_graph.signature_def.pop("__saved_model_init_op", None)
    meta_graph.collection_def.pop("saved_model_main_op", None)
    meta_graph.collection_def[collection].node_list.value.append("write")
    file.write_bytes(saved.SerializeToString())
    write_checksums(version)
    assert refusal(version).found == "WriteFile" and not (tmp_path / "written").exists()
    open_servable(version, "ggn", 1, trust=Trust(any_program=True)).close()
    assert (tmp_path / "written").read_text() == "x"


def make_folder(path):
    path.mkdir()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/hostname"), make_folder])
@pytest.mark.parametrize("name", ["saved_model.pb", "assets.extra/contract.json", "assets.extra/SHA256SUMS"])
@pytest.mark.parametrize("trust", [Trust(), Trust(any_program=True)])
def test_only_regular_files_are_read(trust, name, make, version):
    """And a pipe without a writer does not block."""
    (version / name).unlink()
    make(version / name)
    # A folder instead of the list is a version without a list.
    if not (trust.any_program and make is make_folder and name.endswith("SUMS")):
        refusal(version, trust)
    if name.endswith("contract.json"):
        with pytest.raises(ExportError):
            read_contract(version)


def test_a_link_is_no_version(version):
    (version.parent / "8").symlink_to("/")
    assert list(list_versions(version.parent)) == [1]
    assert find_version(version.parent) == (1, version)


def test_more_files_than_any_export_has_are_refused(version, monkeypatch):
    monkeypatch.setattr("ggn_tf.serving.contract.version_folders._MOST_ENTRIES", 3)
    assert "more than 3 files" in refusal(version).found


@pytest.mark.parametrize(
    ("name", "size", "found"),
    [
        ("saved_model.pb", 2**31, "saved_model.pb of 2.0 GiB"),
        ("variables/variables.data-00000-of-00001", 2**43, "all files 8192.0 GiB"),
    ],
)
@pytest.mark.parametrize("trust", [Trust(), Trust(any_program=True)])
def test_a_version_too_large_to_be_loaded_is_refused_before_it_is_read(trust, name, size, found, version):
    """The file occupies no space on the disk."""
    os.truncate(version / name, size)
    assert found in refusal(version, trust).found


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(2**32, "a graph below 2 GiB, and files below the memory of 4.0 GiB"), (None, "a graph below 2 GiB")],
)
def test_the_memory_is_named_where_it_is_known(memory, expected, version, monkeypatch):
    monkeypatch.setattr("ggn_tf.serving.contract.trust.memory_bytes", lambda: memory)
    os.truncate(version / "saved_model.pb", 2**31)
    assert refusal(version).expected == expected


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two key pairs, KEY.pem and KEY.pub."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("own", "other"):
        write_key(folder / name, Ed25519PrivateKey.generate())
    return folder


def write_key(file, key):
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.with_suffix(".pem").write_bytes(private)
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    file.with_suffix(".pub").write_bytes(public)


def test_a_signed_version_is_loaded_with_its_key_and_no_other(version, keys):
    sign(version, read_private_key(keys / "own.pem"))
    Trust().check(version)
    Trust(key=read_public_key(keys / "own.pub")).check(version)
    assert refusal(version, Trust(key=read_public_key(keys / "other.pub"))).arguments == ("verify",)


def test_a_version_without_a_signature_is_refused_with_a_key(version, keys):
    assert "no signature" in refusal(version, Trust(any_program=True, key=read_public_key(keys / "own.pub"))).found


def test_a_version_with_new_checksums_is_not_what_was_signed(version, keys):
    sign(version, read_private_key(keys / "own.pem"))
    (version / "assets.extra" / "labels.txt").write_text("others")
    write_checksums(version)
    Trust().check(version)
    assert "another signature" in refusal(version, Trust(key=read_public_key(keys / "own.pub"))).found


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_verifies_a_signature(version, keys):
    sign(version, read_private_key(keys / "own.pem"))
    listed = version / "assets.extra" / "SHA256SUMS"
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys / "own.pub", "-rawin", "-in", listed]
    result = subprocess.run([*command, "-sigfile", f"{listed}.sig"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("read", "argument"), [(read_private_key, "sign"), (read_public_key, "verify")])
@pytest.mark.parametrize("content", [None, b"no key", "curve", "pipe"])
def test_another_kind_of_key_is_refused(content, read, argument, tmp_path):
    file = tmp_path / ("key.pem" if argument == "sign" else "key.pub")
    if content == "curve":
        write_key(tmp_path / "key", generate_private_key(SECP256R1()))
    elif content == "pipe":
        os.mkfifo(file)
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(ExportError) as caught:
        read(file)
    assert caught.value.arguments == (argument,)


def edited(version, change):
    """A version with valid checksums whose first graph was changed."""
    file = version / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(saved.meta_graphs[0])
    file.write_bytes(saved.SerializeToString())
    write_checksums(version)


def add_constant(nodes, name, text):
    node = nodes.add(name=name, op="Const")
    node.attr["dtype"].type = types_pb2.DT_STRING
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(text))


def write_file_while_loading(graph):
    """Hidden among what saves, which no request reaches, and named as what initializes."""
    nodes = graph.graph_def.node
    add_constant(nodes, "evil/path", b"/tmp/x")
    nodes.add(name="evil/write", op="WriteFile", input=["evil/path", "evil/path"])
    (saving,) = [node for node in nodes if node.name == graph.saver_def.save_tensor_name.split(":")[0]]
    saving.input.append("^evil/write")
    graph.signature_def.pop("__saved_model_init_op", None)
    graph.collection_def["saved_model_main_op"].node_list.value[:] = ["evil/write"]


def write_file_while_saving(graph):
    write_file_while_loading(graph)
    del graph.collection_def["saved_model_main_op"]


def restore_another_file(graph):
    """In a function within the function that restores, with a path of its own."""
    (outer,) = [
        function
        for function in graph.graph_def.library.function
        if any(node.op == "RestoreV2" for node in function.node_def)
    ]
    inner = graph.graph_def.library.function.add()
    inner.CopyFrom(outer)
    inner.signature.name = "inner"
    add_constant(outer.node_def, "evil/path", b"/home/other")
    call = outer.node_def.add(name="evil/call", op="StatefulPartitionedCall", input=["evil/path:output:0"])
    call.attr["f"].func.name = "inner"


def repeat_a_node(graph):
    graph.graph_def.node.add(name=graph.graph_def.node[0].name, op="NoOp")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (write_file_while_loading, "WriteFile"),
        (write_file_while_saving, "WriteFile"),
        (restore_another_file, "RestoreV2"),
        (repeat_a_node, "two nodes"),
    ],
)
def test_what_only_the_loader_or_nobody_runs_is_checked_too(change, found, version):
    edited(version, change)
    refused = refusal(version)
    assert found in refused.found and refused.arguments == ("trust",)


def test_many_calls_of_a_large_function_are_checked_once(version):
    def multiply(graph):
        function = graph.graph_def.library.function.add()
        function.signature.name = "large"
        for number in range(5000):
            function.node_def.add(name=f"n{number}", op="NoOp")
            graph.graph_def.node.add(name=f"n{number}", op="StatefulPartitionedCall").attr["f"].func.name = "large"

    edited(version, multiply)
    begun = time.process_time()
    Trust().check(version)
    assert time.process_time() - begun < 5

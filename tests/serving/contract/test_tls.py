"""Encrypted connections: who may connect, and what is said of files that cannot be used."""

import itertools
import os
import socket
import ssl
from contextlib import ExitStack, suppress

import numpy as np
import pytest
import tensorflow as tf

from ggn_tf.errors import ServingError
from ggn_tf.serving.client.client import PredictionClient
from ggn_tf.serving.contract.tls import ClientTls, ServerTls, client_tls, full_address, join_address, server_tls
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from scripts.serving_load import ServerProcess
from tests.support.certificates import write_pair


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = write_pair(folder, "authority")
    write_pair(folder, "other")
    for name, days in (("server", 1), ("client", 1), ("outdated", -1)):
        write_pair(folder, name, days, authority)
    os.mkfifo(folder / "pipe")
    (folder / "text").write_text("no PEM")
    return folder


def server_files(files, client_ca=None):
    return ServerTls(files / "server.pem", files / "server.key", client_ca)


@pytest.fixture(scope="module")
def target(exported, files):
    options = ServerOptions(port=0, tls=server_files(files, files / "authority.pem"))
    with ModelServer(exported, options) as server:
        yield server.address


def predicts(target, tls, timeout_s=20, pauses_s=()):
    with PredictionClient(target, timeout_s=timeout_s, pauses_s=pauses_s, tls=tls) as client:
        return client.predict(np.zeros((1, 32, 32, 32, 1), np.float32)).model_version == 1


def test_a_client_with_a_certificate_of_the_authority_is_served(target, files):
    assert predicts(target, ClientTls(files / "authority.pem", files / "client.pem", files / "client.key"))


REFUSED = {
    "not encrypted": lambda files: None,
    "no certificate": lambda files: ClientTls(files / "authority.pem"),
    "of another authority": lambda files: ClientTls(files / "authority.pem", files / "other.pem", files / "other.key"),
    "trusts another authority": lambda files: ClientTls(
        files / "other.pem", files / "client.pem", files / "client.key"
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_clients_are_not(kind, target, files):
    with pytest.raises(ServingError, match="cannot be reached"):
        predicts(target, REFUSED[kind](files))


def first_bytes():
    """What a client sends first: TLS's ClientHello."""
    outgoing = ssl.MemoryBIO()
    connection = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


@pytest.mark.slow
def test_500_connections_that_begin_no_or_half_a_handshake_are_closed_and_exclude_nobody(exported, files):
    flags = ("--tls-cert", str(files / "server.pem"), "--tls-key", str(files / "server.key"))
    with ServerProcess(exported, *flags) as server, ExitStack() as stack:
        tls, host, port = ClientTls(files / "authority.pem"), *server.target.split(":")
        assert predicts(server.target, tls, timeout_s=120, pauses_s=(0.1,) * 9)
        before, hello = server.resident_mib, first_bytes()
        half_open = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(500)]
        for connection, sent in zip(half_open, itertools.cycle([b"", hello[:100], hello])):
            connection.settimeout(60)
            connection.sendall(sent)
        assert predicts(server.target, tls, timeout_s=120, pauses_s=(0.1,) * 9)
        for connection in half_open:
            with suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
        assert server.resident_mib < before + 100
        assert server.files < 100


@pytest.mark.parametrize(
    ("cert", "key", "client_ca", "argument", "found"),
    [
        ("missing.pem", "server.key", None, "tls_cert", "no such file"),
        ("pipe", "server.key", None, "tls_cert", "no such file"),
        ("text", "server.key", None, "tls_cert", ""),
        ("outdated.pem", "outdated.key", None, "tls_cert", "valid from"),
        ("server.pem", "text", None, "tls_key", ""),
        ("server.pem", "client.key", None, "tls_key", "the key of another certificate"),
        ("server.pem", "server.key", "text", "tls_client_ca", ""),
        ("server.pem", "server.key", "missing.pem", "tls_client_ca", "no such file"),
    ],
)
def test_files_that_cannot_be_used_are_named(cert, key, client_ca, argument, found, files):
    with pytest.raises(ServingError) as caught:
        ServerTls(files / cert, files / key, None if client_ca is None else files / client_ca).credentials()
    assert caught.value.arguments == (argument,)
    assert caught.value.found.startswith(found)


def test_a_missing_file_is_reported():
    assert server_tls(None, None, None) is None
    assert client_tls(None, None, None) is None
    for incomplete in (lambda: server_tls("cert", None, None), lambda: server_tls(None, None, "ca")):
        with pytest.raises(ServingError, match="missing"):
            incomplete()
    for incomplete in (lambda: client_tls(None, "cert", "key"), lambda: client_tls("ca", "cert", None)):
        with pytest.raises(ServingError, match="missing"):
            incomplete()


@pytest.mark.parametrize(
    ("host", "encrypted", "warned"), [("127.0.0.1", False, False), ("0.0.0.0", False, True), ("0.0.0.0", True, False)]
)
def test_a_server_that_others_can_reach_warns_if_nothing_is_encrypted(host, encrypted, warned, files, caplog, tmp_path):
    """A model that computes nothing is loaded in no time."""
    module = tf.Module()
    module.serve = tf.function(lambda x: {"y": x}, [tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    tls, trust = server_files(files) if encrypted else None, Trust(any_program=True)
    with ModelServer(tmp_path, ServerOptions(host=host, port=0, tls=tls, trust=trust)):
        pass
    assert ("not encrypted" in caplog.text) == warned


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8501", "localhost:8501"),
        ("localhost", "localhost:8500"),
        ("10.0.0.1:1", "10.0.0.1:1"),
        ("[::1]:8501", "[::1]:8501"),
        ("[::1]", "[::1]:8500"),
        ("::1", "[::1]:8500"),
        ("fe80::1%eth0", "[fe80::1%eth0]:8500"),
        ("[fe80::1%eth0]:1", "[fe80::1%eth0]:1"),
        (" host:1/ ", "host:1"),
        ("unix:/run/ggn.sock", "unix:/run/ggn.sock"),
        ("dns:///host:1", "dns:///host:1"),
    ],
)
def test_an_address_is_completed_for_grpc(text: str, address: str):
    assert full_address(text) == address


@pytest.mark.parametrize(
    ("host", "address"), [("::", "[::]:1"), ("[::]", "[::]:1"), ("0.0.0.0", "0.0.0.0:1"), ("gpu", "gpu:1")]
)
def test_a_host_and_a_port_are_one_address(host: str, address: str):
    assert join_address(host, 1) == address

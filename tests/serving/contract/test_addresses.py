import pytest

from ggn_tf.serving.contract.tls import full_address, join_address


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

import pytest

from ggn_tf.training.precision import resolve_precision


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx2 avx512_bf16", "bfloat16"), ("amx_bf16 amx_tile", "bfloat16"), ("avx2 avx512f", "float32"), ("", "float32")],
)
def test_auto_takes_bfloat16_where_the_processor_has_it(flags: str, expected: str):
    assert resolve_precision("auto", cpuinfo=f"flags : {flags}")[0] == expected


def test_what_is_asked_is_taken():
    assert resolve_precision("bfloat16", cpuinfo="") == ("bfloat16", "as asked")

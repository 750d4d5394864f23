import pytest

from ggn_tf.machine import fast_precision, resolve_precision


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx2 avx512_bf16", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        ("avx2 avx512f", "float32"),
        ("", "float32"),
        ("GenuineIntel avx512_bf16", "bfloat16"),
        ("GenuineIntel avx512_bf16 avx512_fp16", "float32"),
        ("GenuineIntel avx512_bf16 avx512_fp16 amx_bf16", "bfloat16"),
        ("AuthenticAMD avx512_bf16 avx512_fp16", "bfloat16"),
    ],
)
def test_without_a_gpu_the_processor_decides(flags: str, expected: str):
    assert fast_precision([], flags.split())[0] == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_a_gpu_decides_before_the_processor(capability: tuple[int, int], expected: str):
    assert fast_precision([capability], ["avx512_bf16"])[0] == expected


def test_a_requested_precision_is_kept():
    assert resolve_precision("bfloat16") == ("bfloat16", "as requested")

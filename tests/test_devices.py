from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clip_feature_codec import devices
from clip_feature_codec.devices import autocast_dtype, is_cpu, pick_device, usable_cores, usable_threads
from clip_feature_codec.errors import ConfigError


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    """A machine with so many CUDA devices, and perhaps MPS."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(2, True, "cuda"), (1, False, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_the_fastest_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: str
) -> None:
    pretend(monkeypatch, cuda=cuda, mps=mps)
    assert pick_device() == pick_device("auto") == torch.device(expected)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1", "mps"])
def test_a_device_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend(monkeypatch, cuda=2, mps=True)
    assert pick_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pretend(monkeypatch)
    with pytest.raises(ConfigError, match=f"{name}.*not available.*cpu"):
        pick_device(name)


def test_a_gpu_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=2)
    with pytest.raises(ConfigError, match=r"cuda:2.*found 2"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "meta", "CPU"])
def test_an_unknown_name_is_refused_with_those_that_work(name: str) -> None:
    with pytest.raises(ConfigError, match="auto, cpu, cuda, mps") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu sse2 avx2", None),
        ("fpu avx512f avx512_bf16", torch.bfloat16),
        ("fpu amx_bf16 amx_tile", torch.bfloat16),
    ],
)
def test_a_cpu_gets_bfloat16_only_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, flags: str, expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"processor : 0\nflags : {flags}\n")
    assert autocast_dtype(torch.device("cpu")) is expected


def test_a_cpu_that_does_not_say_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert autocast_dtype(torch.device("cpu")) is None


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_gets_bfloat16_only_where_it_is_native(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    # Older ones emulate it, which is slower than float32; torch says they support it unless asked so.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation
    )
    assert autocast_dtype(torch.device("cuda")) is (torch.bfloat16 if native else None)


def test_other_devices_get_float32() -> None:
    assert autocast_dtype(torch.device("mps")) is None


@pytest.mark.parametrize("cuda", [0, 1])
@pytest.mark.parametrize("name", ["auto", "cpu"])
@pytest.mark.parametrize("driver", [False, True])
def test_the_cpu_is_known_without_torch_where_there_is_no_driver(
    monkeypatch: pytest.MonkeyPatch, name: str, cuda: int, driver: bool
) -> None:
    pretend(monkeypatch, cuda=cuda)
    monkeypatch.setattr(devices, "_may_have_gpu", lambda: driver)
    assert is_cpu(name) is (name == "cpu" or not driver or not cuda)


def test_a_device_that_is_not_there_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    with pytest.raises(ConfigError, match="not available"):
        is_cpu("cuda")


@pytest.mark.parametrize(
    ("asked", "expected"), [("3", 3), ("", None), ("0", None), ("4,2", None), ("x", None)]
)
def test_threads_are_all_cores_or_what_is_asked(
    monkeypatch: pytest.MonkeyPatch, asked: str, expected: int | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert usable_threads() == (expected or usable_cores())

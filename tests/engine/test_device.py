import pytest
import torch

from mouthpiece.engine import device
from mouthpiece.engine.errors import MissingDependencyError, UsageError


def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def with_gpus(monkeypatch, count, wide=True):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: wide)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")


def test_auto_takes_the_cpu_when_there_is_no_gpu_and_says_why(monkeypatch):
    without_gpu(monkeypatch)
    placement = device.choose_device("auto")
    assert placement.device == torch.device("cpu") and "no GPU" in placement.reason


def test_auto_takes_the_first_gpu_when_there_is_one(monkeypatch):
    with_gpus(monkeypatch, 2)
    placement = device.choose_device("auto")
    assert placement.device == torch.device("cuda", 0) and "Card 0" in placement.reason
    assert placement.dtype == torch.bfloat16
    with_gpus(monkeypatch, 2, wide=False)
    assert device.choose_device("cuda:1").dtype == torch.float16
    assert device.choose_device("cuda:1").device.index == 1


def test_the_cpu_computes_in_bfloat16_only_where_it_can(monkeypatch):
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    for name in names:
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert device.choose_device("cpu").dtype == torch.float32
    for name in names:
        monkeypatch.delattr(torch.cpu, name)
    assert device.choose_device("cpu").dtype == torch.float32
    monkeypatch.setattr(torch.cpu, names[1], lambda: True, raising=False)
    assert device.choose_device("cpu").dtype == torch.bfloat16


def test_a_gpu_that_is_not_there_is_missing_and_the_cpu_offered(monkeypatch):
    without_gpu(monkeypatch)
    with pytest.raises(MissingDependencyError, match="--device cuda: no GPU.*--device cpu") as caught:
        device.choose_device("cuda")
    assert caught.value.exit_code == 3
    with_gpus(monkeypatch, 1)
    with pytest.raises(MissingDependencyError, match="cuda:1: 1 GPU"):
        device.choose_device("cuda:1")


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:x", "", "CPU"])
def test_another_word_is_refused_with_what_is_accepted(text):
    with pytest.raises(UsageError, match="auto, cpu, cuda or cuda:INDEX"):
        device.choose_device(text)


def test_autocast_lowers_precision_only_when_the_placement_says_so():
    layer, x = torch.nn.Linear(4, 4), torch.ones(1, 4)
    for dtype in (torch.float32, torch.bfloat16):
        with device.Placement(torch.device("cpu"), dtype, "test").autocast():
            assert layer(x).dtype == dtype
    assert device.Placement(torch.device("cpu"), torch.bfloat16, "x").as_dict() == {
        "device": "cpu",
        "dtype": "bfloat16",
        "reason": "x",
    }


def test_threads_are_set_when_given_and_only_told_otherwise(monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    assert device.set_cpu_threads() == torch.get_num_threads()
    assert seen == []
    device.set_cpu_threads(3)
    assert seen == [3]
    with pytest.raises(UsageError, match="--threads 0"):
        device.set_cpu_threads(0)

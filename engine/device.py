"""The device on which networks run, in which precision and why; the only file that names a kind of GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from mouthpiece.engine.errors import MissingDependencyError, UsageError

DEVICE_CHOICES = "auto, cpu, cuda or cuda:INDEX"
_CUDA_NAME = re.compile(r"cuda(:\d+)?")


@dataclass(frozen=True)
class Placement:
    """A device, the dtype for heavy layers there, and why.

    device: torch.device.
    dtype: torch dtype; float32 means no lower precision is used.
    reason: one sentence for people and side-cars.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str

    def autocast(self) -> torch.autocast:
        """Return a context in which heavy layers run in `dtype`; it does nothing for float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def as_dict(self) -> dict[str, str]:
        """Return the placement as JSON-ready dict: device, dtype, reason."""
        return {"device": str(self.device), "dtype": str(self.dtype).removeprefix("torch."), "reason": self.reason}


def choose_device(text: str = "auto") -> Placement:
    """Choose the device asked for, or with "auto" the best one available.

    text: one of DEVICE_CHOICES.
    Raises UsageError for another word, MissingDependencyError for a GPU that does not exist.
    """
    if text == "auto":
        if torch.cuda.is_available():
            return _place_on_gpu(0, "a GPU was found")
        return _place_on_cpu("no GPU was found")
    if text == "cpu":
        return _place_on_cpu("asked for")
    if not _CUDA_NAME.fullmatch(str(text)):
        raise UsageError(f"--device {text}: need {DEVICE_CHOICES}.", code="bad_device")
    index = int(text.partition(":")[2] or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        found = f"{count} GPU(s) can be used here" if count else "no GPU can be used here"
        raise MissingDependencyError(
            f"--device {text}: {found}.", hint="Use --device auto or --device cpu.", code="no_gpu"
        )
    return _place_on_gpu(index, "asked for")


def _place_on_gpu(index: int, why: str) -> Placement:
    wide = torch.cuda.is_bf16_supported()
    name = torch.cuda.get_device_name(index)
    dtype = torch.bfloat16 if wide else torch.float16
    return Placement(torch.device("cuda", index), dtype, f"{why}: {name}, {'bfloat16' if wide else 'float16'}")


def _place_on_cpu(why: str) -> Placement:
    fast = [name for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported") if _has_cpu_feature(name)]
    if fast:
        return Placement(torch.device("cpu"), torch.bfloat16, f"{why}: CPU that computes in bfloat16")
    return Placement(torch.device("cpu"), torch.float32, f"{why}: CPU without bfloat16, so float32")


def _has_cpu_feature(name: str) -> bool:
    """Return whether torch reports a CPU feature; the function has no public name in every version."""
    return bool(getattr(torch.cpu, name, lambda: False)())


def set_cpu_threads(count: int | None = None) -> int:
    """Set how many CPU threads networks use; return the number in use.

    count: int, at least 1; None leaves it as it is.
    Raises UsageError for less than 1.
    """
    if count is not None:
        if count < 1:
            raise UsageError(f"--threads {count}: need at least 1.", code="bad_threads")
        torch.set_num_threads(count)
    return torch.get_num_threads()

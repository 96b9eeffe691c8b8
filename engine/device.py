"""Where networks run and in which precision, with the reason; the only file that names a kind of GPU."""

import re
from dataclasses import dataclass

import torch

from engine.errors import Missing, UsageProblem

DEVICE_CHOICES = "auto, cpu, cuda or cuda:INDEX"
_NAMED = re.compile(r"cuda(:\d+)?")


@dataclass(frozen=True)
class Placement:
    """A device, the dtype for heavy layers there, and why.

    device: torch.device.
    dtype: torch dtype; float32 means no lower precision is used.
    reason: one sentence for people and side-cars.
    Source: ours.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str

    def autocast(self):
        """Context in which heavy layers run in `dtype`; does nothing for float32.

        Source: torch.autocast.
        """
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def as_dict(self):
        """The placement as JSON-ready dict: device, dtype, reason."""
        return {"device": str(self.device), "dtype": str(self.dtype).removeprefix("torch."), "reason": self.reason}


def choose_device(text="auto"):
    """The Placement asked for, or with "auto" the best one there is.

    text: one of DEVICE_CHOICES.
    Raises UsageProblem for another word, Missing for a GPU that is not there.
    Source: ours.
    """
    if text == "auto":
        if torch.cuda.is_available():
            return _on_gpu(0, "a GPU was found")
        return _on_cpu("no GPU was found")
    if text == "cpu":
        return _on_cpu("asked for")
    if not _NAMED.fullmatch(str(text)):
        raise UsageProblem(f"--device {text}: need {DEVICE_CHOICES}.", code="bad_device")
    index = int(text.partition(":")[2] or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        found = f"{count} GPU(s) can be used here" if count else "no GPU can be used here"
        raise Missing(f"--device {text}: {found}.", hint="Use --device auto or --device cpu.", code="no_gpu")
    return _on_gpu(index, "asked for")


def _on_gpu(index, why):
    wide = torch.cuda.is_bf16_supported()
    name = torch.cuda.get_device_name(index)
    dtype = torch.bfloat16 if wide else torch.float16
    return Placement(torch.device("cuda", index), dtype, f"{why}: {name}, {'bfloat16' if wide else 'float16'}")


def _on_cpu(why):
    fast = [name for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported") if _has(name)]
    if fast:
        return Placement(torch.device("cpu"), torch.bfloat16, f"{why}: CPU that computes in bfloat16")
    return Placement(torch.device("cpu"), torch.float32, f"{why}: CPU without bfloat16, so float32")


def _has(name):
    """Whether torch reports a CPU feature; the question has no public name in every version."""
    return bool(getattr(torch.cpu, name, lambda: False)())


def threads(count=None):
    """Sets how many CPU threads networks use and gives the number in use.

    count: int, at least 1; None leaves it as it is.
    Raises UsageProblem for less than 1.
    Source: ours.
    """
    if count is not None:
        if count < 1:
            raise UsageProblem(f"--threads {count}: need at least 1.", code="bad_threads")
        torch.set_num_threads(count)
    return torch.get_num_threads()

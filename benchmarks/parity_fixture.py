"""A folder of recorded tensors of EchoMimic, and the comparison of outputs and intermediate activations with it."""

import json
import re
from pathlib import Path

from parity_row import ParityRow, compare_tensor, to_float32
from safetensors.torch import load_file


class Fixture:
    """A folder of `NAME.io.safetensors` with `NAME.json`; notes what was compared, so that nothing is left out."""

    def __init__(self, folder):
        self.folder, self.rows, self._outstanding = Path(folder), [], {}

    def json(self, name):
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))

    def open(self, name, facts=None):
        """(facts, tensors in float32; integers as they are) of a part."""
        facts = self.json(facts or name)
        tensors = load_file(self.folder / f"{name}.io.safetensors")
        self._outstanding[name] = {key for key, about in facts["tensors"].items() if about["role"] == "output"}
        self._facts = getattr(self, "_facts", {}) | {name: (facts, tensors)}
        return facts, {k: to_float32(v) if v.is_floating_point() else v for k, v in tensors.items()}

    def weights(self, name):
        return {k: to_float32(v) for k, v in load_file(self.folder / f"{name}.weights.safetensors").items()}

    def compare(self, part, key, mine):
        """Adds the Row of one output."""
        facts, tensors = self._facts[part]
        self._outstanding[part].discard(key)
        self.rows.append(compare_tensor(f"{part}/{key}", mine, to_float32(tensors[key]), facts["tensors"][key]["tol"]))

    def finish(self):
        """All rows; an output that nobody compared is one that misses."""
        left = [f"{part}/{key}" for part, keys in self._outstanding.items() for key in sorted(keys)]
        return self.rows + [ParityRow(f"{name} (not compared)", float("inf"), 0.0, False) for name in left]


class ModuleOutputs:
    """Outputs of modules at their first call. net: module.  names: paths in it."""

    def __init__(self, net, names):
        self.out, self._hooks = {}, []
        for name in names:
            module = net.get_submodule(name)
            self._hooks.append(module.register_forward_hook(lambda m, i, o, name=name: self._note(name, o)))

    def _note(self, name, output):
        self.out.setdefault(name, output[0] if isinstance(output, tuple) else output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()


def fold_frames(x):
    """(B, C, f, h, w) as (B f, C, h, w)."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_frames(x, frames):
    """(B f, C, h, w) as (B, C, f, h, w)."""
    return x.unflatten(0, (-1, frames)).transpose(1, 2)


def crop_tap(output, meaning, dims, frames):
    """What a tap's meaning says was kept of an output whose frames lie on the batch axis."""
    frame = re.search(r"index (\d+)|frame (\d+)", meaning)
    stride = re.search(r"every (\d+)\w+ row and column", meaning)
    if dims == 5:
        output = unfold_frames(output, frames)
        if frame:
            k = int(frame[1] or frame[2])
            output = output[:, :, k : k + 1]
    elif dims == 2:
        output = output[::frames]
    elif frame:
        k = int(frame[1] or frame[2])
        output = output.unflatten(0, (-1, frames))[:, k]
    if stride and dims >= 4:
        output = output[..., :: int(stride[1]), :: int(stride[1])]
    return output


def list_taps(facts, prefix):
    """name of a module -> key of its tap."""
    return {key.removeprefix(prefix): key for key in facts["tensors"] if key.startswith(prefix)}


def compare_taps(fixture, part, facts, taps, prefix, frames):
    """Rows of all taps of a pass."""
    for module, key in list_taps(facts, prefix).items():
        about = facts["tensors"][key]
        fixture.compare(part, key, crop_tap(taps.out[module], about["meaning"], len(about["shape"]), frames))

"""MMAudio's flow network against reference tensors: conditions, flow, guidance, sampling loop, one training step."""

import re

import torch

from mouthpiece.engine.sampling import FlowAdapter, make_flow_levels
from mouthpiece.engine.sampling.guidance import make_guided_denoiser
from mouthpiece.engine.sampling.schedules import NoiseLevel
from mouthpiece.engine.sampling.solvers import euler
from mouthpiece.training.mmaudio import compute_flow_step
from mouthpiece.voice.mmaudio.blocks import JointBlock
from mouthpiece.voice.mmaudio.checkpoints import build_network
from mouthpiece.voice.mmaudio.flow_sampling import make_guidance, sample_latents
from mouthpiece.voice.mmaudio.network import compute_sync_index
from mouthpiece.voice.mmaudio.sizes import RATES, NetworkSize, parse_size


def compute_guided_flow(network, x, time, conditions, null, strength):
    """Compute the guided flow (B, N, C) at one time."""
    guidance, level = make_guidance(strength), NoiseLevel(time, time, 1 - time)
    model = FlowAdapter(network)
    if guidance is None:
        return model.predict_raw(x, level, conditions)
    prediction = make_guided_denoiser(model, [conditions], null, guidance)(x, level)
    return prediction.data - prediction.noise


def record_outputs(module, wanted, run):
    """Outputs of submodules while `run` runs: dict of names; the first output of each is kept.

    wanted: submodule name -> what to call it.
    """
    kept, hooks = {}, []

    def keep(key):
        def hook(submodule, given, output):  # gives None: what it gave would replace the output
            kept.setdefault(key, output)

        return hook

    for name, submodule in module.named_modules():
        if name in wanted:
            hooks.append(submodule.register_forward_hook(keep(wanted[name])))
    run()
    for hook in hooks:
        hook.remove()
    return kept


def check_network(case):
    """Everything in a fixture of the flow network."""
    net = build_network(case.weights, parse_size(NetworkSize, case.facts["config"]))
    made = {"t_embed.freqs": net.t_embed.frequencies()}
    if "t_embed.t" in case.io:
        made |= {
            "t_embed.sinusoid": net.t_embed.sinusoid(case.io["t_embed.t"]),
            "t_embed.out": net.t_embed(case.io["t_embed.t"]),
        }
    for span in case.facts["durations"]:
        part = DurationCase(case, net, span)
        made |= {span["prefix"] + name: tensor for name, tensor in part.compute_outputs().items()}
    return made


class DurationCase:
    """One duration of a network fixture, asked by the names of its tensors."""

    def __init__(self, case, net, span):
        prefix = span["prefix"]
        self.net, self.sampler = net, case.facts["sampler"]
        self.io = {name.removeprefix(prefix): tensor for name, tensor in case.io.items() if name.startswith(prefix)}
        self.names = [
            n.removeprefix(prefix) for n, f in case.facts["tensors"].items() if n.startswith(prefix) and "tol" in f
        ]
        lengths = RATES[case.facts["mode"]].lengths(span["duration_sec"])
        stated = tuple(span[key] for key in ("latent_seq_len", "clip_seq_len", "sync_seq_len"))
        self.lengths = lengths if lengths == stated else (0, 0, 0)  # a wrong length misses everything
        self.docs = {n.removeprefix(f"{prefix}out."): f["doc"] for n, f in case.facts["tensors"].items()}
        self.x0 = self.io["in.x0"]
        clip, sync, text = (self.io[f"in.{key}_f"] for key in ("clip", "sync", "text"))
        no_clip, no_sync, no_text = net.empty(len(clip), clip.shape[1], sync.shape[1])
        n = self.x0.shape[1]
        self.trees = {
            "pre": net.compute_conditions(clip, sync, text, n),
            "empty": net.compute_conditions(no_clip, no_sync, no_text, n),
            "text_only": net.compute_conditions(no_clip, no_sync, text, n),
            "video_only": net.compute_conditions(clip, sync, no_text, n),
        }
        if "in.neg_text_f" in self.io:
            self.trees["empty_neg"] = net.compute_conditions(no_clip, no_sync, self.io["in.neg_text_f"], n)

    def compute_outputs(self):
        """Tensors under their names without the prefix."""
        latents, pictures, features = self.lengths
        if not latents:
            return {}
        made = {"sync_index": compute_sync_index(latents, features)}
        for name, angles in zip(("latent", "clip"), self.net.angles(latents, pictures)):
            made |= {f"rope.{name}_cos": angles[0], f"rope.{name}_sin": angles[1]}
        for name in self.names:
            if name.startswith("out."):
                tensor = self.output(name.removeprefix("out."))
                made |= {} if tensor is None else {name: tensor}
        made |= self.record_taps() if any(name.startswith("tap.") for name in self.names) else {}
        return made | (self.training() if "train.t" in self.io else {})

    def output(self, name):
        """One output by its name, or None for a name that says nothing to us."""
        keys = {"clip_f": "clip", "sync_f": "sync", "text_f": "text", "clip_f_c": "clip_mean", "text_f_c": "text_mean"}
        kind, _, rest = name.partition(".")
        if kind in self.trees and rest in keys:
            return self.trees[kind][keys[rest]]
        at = re.search(r"\.t(\d+\.\d+)$", name)
        if kind == "flow" and at:
            branch = name.removeprefix("flow.").removesuffix(at[0].removeprefix(".")).rstrip(".") or "pre"
            return self.flow(torch.full((len(self.x0),), float(at[1])), branch) if branch in self.trees else None
        if name == "flow.t_per_sample":
            first, last = re.search(r"linspace\(([\d.]+), ([\d.]+)", self.docs[name]).groups()
            return self.flow(torch.linspace(float(first), float(last), len(self.x0)), "pre")
        guided = re.fullmatch(r"ode\.cfg(\d+\.\d+)(\.neg)?\.t(\d+\.\d+)", name)
        if guided:
            null = self.trees["empty_neg" if guided[2] else "empty"]
            return compute_guided_flow(self.net, self.x0, float(guided[3]), self.trees["pre"], null, float(guided[1]))
        return self.run_sampler(rest) if kind == "sample" else None

    def flow(self, time, branch):
        return self.net(self.x0, time, self.trees[branch])

    def run_sampler(self, rest):
        """Outputs of the sampling loop: x1, x1_STEPS, x1_neg, x1_nocfg, unnormalized, trace."""
        found = re.fullmatch(r"(x1|unnormalized|trace)(?:_(\d+|neg|nocfg))?", rest)
        if not found:
            return None
        how = found[2] or ""
        steps = int(how) if how.isdigit() else self.sampler["steps"]
        strength = 0.0 if how == "nocfg" else self.sampler["cfg_strength"]
        null = self.trees["empty_neg" if how == "neg" else "empty"]
        trace = []

        def watched(denoise, x, *rest):
            trace.append(x)
            return euler(denoise, x, *rest)

        x1 = sample_latents(
            self.net,
            self.x0,
            self.trees["pre"],
            null,
            strength=strength,
            levels=make_flow_levels(steps),
            solver=watched,
        )
        if found[1] == "trace":
            return torch.stack([x[0] for x in [*trace, x1]])
        return self.net.unstandardize(x1) if found[1] == "unnormalized" else x1

    def record_taps(self):
        """Intermediates of batch row 0 at t = 0.5."""
        joint, streams = len(self.net.joint_blocks), ("latent", "clip", "text")
        names = {"audio_input_proj": "audio_input_proj", "global_cond_mlp": "global_cond_mlp", "t_embed": "t_embed"}
        names |= {f"fused_blocks.{i}": f"fused{i}" for i in range(len(self.net.fused_blocks))}
        names |= {f"joint_blocks.{i}": f"joint{i}" for i in range(joint)}
        kept = record_outputs(self.net, names, lambda: self.flow(torch.full((len(self.x0),), 0.5), "pre"))
        for i in range(joint):
            assert isinstance(self.net.joint_blocks[i], JointBlock), i
            kept |= {f"joint{i}.{stream}": out for stream, out in zip(streams, kept.pop(f"joint{i}"))}
        return {f"tap.{name}": tensor[:1] for name, tensor in kept.items()}

    def training(self):
        """One training step, by the functions that training uses; row 0 without video, row 1 without text."""
        rows = torch.arange(len(self.x0))
        features = tuple(self.io[f"in.{key}_f"] for key in ("clip", "sync", "text"))
        made = compute_flow_step(
            self.net, self.io["train.latent"], features, self.x0, self.io["train.t"], (rows == 0, rows == 1)
        )
        return {f"train.{name}": tensor for name, tensor in made._asdict().items()}

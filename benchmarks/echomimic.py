"""What EchoMimic's path costs: ratios measured in one run, memory against the length of the clip, seconds a frame on a GPU.

  python benchmarks/echomimic.py                         ratios and memory at a reduced size with random weights
  python benchmarks/echomimic.py --full --device auto    full size, random weights, 512 px: seconds a frame
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

sys.path[:0] = [str(Path(__file__).parents[1])]

import numpy as np
import torch

from engine.device import choose_device
from lipsync.echomimic.ears import Ears, Hearing
from lipsync.echomimic.loop import Speaking, denoised, spoken, streamed, unspoken, whole_clip
from lipsync.echomimic.networks import Denoiser, FaceLocator, ReferenceNet, remember
from lipsync.echomimic.shape import DEBUG, FULL, Shape
from lipsync.echomimic.vae import Vae

REDUCED = Shape((64, 96, 64, 64), locator_widths=(16, 24, 40, 56))
SETTINGS = dict(seed=0, steps=30, guidance=2.5, window=12, overlap=3, carry="noised")


def settings(**changes):
    return SimpleNamespace(**(SETTINGS | changes))


class Studio:
    """Networks with random weights and a portrait. shape: Shape.  px: side of the square.  placement: where they run."""

    def __init__(self, shape, px, placement):
        torch.manual_seed(0)
        self.shape, self.px, self.placement = shape, px, placement
        with torch.device("meta"):
            nets = ReferenceNet(shape), FaceLocator(shape), Denoiser(shape)
        self.reference, self.locator, self.denoiser = (self.drawn(net) for net in nets)
        size = (px // 8, px // 8)
        self.seen = self.reference(torch.randn(1, 4, *size, device=placement.device))
        self.face = self.locator(torch.ones(1, 1, px, px, device=placement.device)).float()
        self.audio = torch.randn(1, 1200, 50, shape.audio_width)

    def drawn(self, net):
        """A network with small random numbers on its device; filling by the layers' own rules would take minutes at full size."""
        net = net.to(self.placement.dtype).to_empty(device=self.placement.device)
        with torch.no_grad():
            for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
                one = name.endswith("weight") and tensor.dim() == 1
                tensor.fill_(1.0) if one else tensor.normal_(0, 0.7 / max(1, tensor[0].numel()) ** 0.5 if tensor.dim() > 1 else 0.02)
        return net.eval()

    def tell(self, start, stop):
        at = torch.arange(start, stop) % self.audio.shape[1]
        return {"audio": self.audio[:, at].to(self.placement.device)}

    def wait(self):
        if self.placement.device.type != "cpu":
            torch.accelerator.synchronize()


def taken_s(studio, jobs, rounds):
    """Median seconds of each job, taken in turns; of the processor where that is what computes, so that a busy machine counts less."""
    now = time.process_time if studio.placement.device.type == "cpu" else time.perf_counter
    found = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(rounds):
        for name, job in jobs.items():
            studio.wait()
            begun = now()
            job()
            studio.wait()
            found[name].append(now() - begun)
    return {name: statistics.median(times) for name, times in found.items()}


def plain_loop(studio, frames, asked):
    """A straightforward way to draw a clip: both halves of guidance in every step, keys and values of the portrait made anew in each."""
    from engine.sampling import VelocityAdapter, plan, tick_noise
    from lipsync.echomimic.loop import leaping, levels_of

    parts = []
    for start, stop in plan(frames, asked.window, asked.overlap):
        told = studio.tell(start, stop) | {"face": studio.face}
        trees = [unspoken(told), spoken(told)]
        both = {key: torch.cat([tree[key] for tree in trees]) for key in told | {"known": None}}

        def network(x, t, _, both=both):
            null, real = studio.denoiser(x.expand(2, -1, -1, -1, -1), t.expand(2), both, studio.seen).chunk(2)
            return null + asked.guidance * (real - null)

        adapter, step = VelocityAdapter(network), leaping(asked.steps)
        levels = levels_of(asked.steps)
        x = tick_noise(start, stop, (4, *studio.face.shape[-2:]), asked.seed, ["echomimic"]).transpose(1, 2).to(studio.face.device)
        for here, there in zip(levels, levels[1:]):
            x, _ = step(lambda x, level, adapter=adapter: adapter(x, level, None), x, here, there, None)
        parts.append(x)
    return parts


@torch.inference_mode()
def ratios(studio, rounds):
    """Time of a step with the portrait's keys and values made once over making them anew; of whole loops over the plain one."""
    window, cached = 12, remember(studio.denoiser, studio.seen)
    told = spoken(studio.tell(0, window) | {"face": studio.face})
    x = torch.randn(1, 4, window, *studio.face.shape[-2:], device=studio.placement.device)
    time_now = torch.full((1,), 500.0, device=studio.placement.device)
    steps = taken_s(studio, {
        "cached": lambda: studio.denoiser(x, time_now, told, cached),
        "recomputed": lambda: studio.denoiser(x, time_now, told, studio.seen),
        "published": lambda: studio.denoiser(x, time_now, told, {name: seen.expand(window, -1, -1) for name, seen in studio.seen.items()}),
    }, rounds)  # fmt: skip
    frames = 21

    def stream(**changes):
        return lambda: list(streamed(Speaking(studio.denoiser, cached), studio.tell, studio.face, frames, settings(steps=2, **changes)))

    loops = taken_s(studio, {
        "plain, guidance 2.5": lambda: plain_loop(studio, frames, settings(steps=2)),
        "ours, guidance 2.5": stream(),
        "plain, guidance 1": lambda: plain_loop(studio, frames, settings(steps=2, guidance=1.0)),
        "ours, guidance 1": stream(guidance=1.0),
        "closed loop, guidance 2.5": lambda: whole_clip(Speaking(studio.denoiser, cached), studio.tell, studio.face, frames, settings(steps=2)),
    }, max(1, rounds // 3))  # fmt: skip
    return {
        "step_s": steps,
        "step_cached_over_recomputed_each_step": steps["cached"] / steps["recomputed"],
        "step_cached_over_recomputed_each_frame": steps["cached"] / steps["published"],
        "loop_21_frames_2_steps_s": loops,
        "loop_ours_over_plain_at_guidance_2.5": loops["ours, guidance 2.5"] / loops["plain, guidance 2.5"],
        "loop_ours_over_plain_at_guidance_1": loops["ours, guidance 1"] / loops["plain, guidance 1"],
        "loop_ours_over_closed_at_guidance_2.5": loops["ours, guidance 2.5"] / loops["closed loop, guidance 2.5"],
    }


@torch.inference_mode()
def peak_of(seconds):
    """Peak memory in MB of this process after drawing a clip of so many seconds at debug size: ears, windows, decoder."""
    from lipsync.echomimic.vae import to_pixels

    placement = replace(choose_device("cpu"), dtype=torch.float32)
    studio = Studio(DEBUG, 64, placement)
    vae = Vae({"widths": (8, 8, 8, 8), "layers": 1}).eval()
    ears = Ears(heads=2, width=DEBUG.audio_width).eval()
    wave = 0.1 * np.random.default_rng(0).standard_normal(16_000 * seconds).astype(np.float32)
    hearing = Hearing(ears, wave)

    def tell(start, stop):
        return {"audio": hearing.tokens(start, stop, 25)}

    drawn = 0
    for piece in streamed(Speaking(studio.denoiser, remember(studio.denoiser, studio.seen)), tell, studio.face, 25 * seconds, settings(steps=1, guidance=1.0)):
        drawn += len(to_pixels(vae.decode(piece[0])))
    assert drawn == 25 * seconds, drawn
    # not ru_maxrss, which a child takes over from its parent
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory(lengths):
    """Peak memory in MB by length in seconds, each in a process of its own."""
    out = {}
    for seconds in lengths:
        answer = subprocess.run([sys.executable, __file__, "--peak", str(seconds)], capture_output=True, text=True, check=True)
        out[seconds] = float(answer.stdout)
    return out


@torch.inference_mode()
def full(placement, px, rounds):
    """Seconds a frame at full size: both ways of the published pipelines, the image decoder with them."""
    studio = Studio(FULL, px, placement)
    vae = Vae().to(placement.device, placement.dtype).eval()
    cached, out = remember(studio.denoiser, studio.seen), {}
    for name, changes in {"echomimic": {}, "echomimic-acc": {"steps": 6, "guidance": 1.0}}.items():
        asked, frames = settings(**changes), 21
        told = studio.tell(0, 12) | {"face": studio.face}
        noise = torch.randn(1, 4, 12, *studio.face.shape[-2:], device=placement.device)
        denoised(Speaking(studio.denoiser, cached), noise, told, 1, asked.guidance)
        studio.wait()
        begun = time.perf_counter()
        for piece in streamed(Speaking(studio.denoiser, cached), studio.tell, studio.face, frames, asked):
            for latents in piece[0].split(4):
                vae.decode(latents)
        studio.wait()
        out[f"{name}_s_a_frame"] = (time.perf_counter() - begun) / frames
    if placement.device.type != "cpu":
        out["peak_gpu_mb"] = torch.accelerator.max_memory_allocated() / 2**20 if hasattr(torch.accelerator, "max_memory_allocated") else None
    return out | ratios(studio, rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="full size")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--px", type=int, help="side of the square; 512 at full size, 256 else")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--lengths", type=int, nargs="*", default=[5, 60])
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak_of(args.peak))
        return
    placement = choose_device(args.device)
    if placement.device.type == "cpu":
        placement = replace(placement, dtype=torch.float32)
    facts = {"placement": placement.as_dict(), "threads": torch.get_num_threads()}
    if args.full:
        facts |= full(placement, args.px or 512, args.rounds)
    else:
        facts |= ratios(Studio(REDUCED, args.px or 256, placement), args.rounds) | {"peak_mb_by_seconds": memory(args.lengths)}
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()

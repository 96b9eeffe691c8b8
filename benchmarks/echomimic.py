"""What EchoMimic's path costs: ratios measured in one run, memory against the length of the clip, seconds a frame on a
GPU.

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

from mouthpiece.engine.device import choose_device
from mouthpiece.lipsync.echomimic.audio_encoder import AudioFeatures, WhisperAudioEncoder
from mouthpiece.lipsync.echomimic.config import DEBUG_CONFIG, FULL_CONFIG, NetworkConfig
from mouthpiece.lipsync.echomimic.networks import Denoiser, FaceLocator, ReferenceNet, cache_keys_and_values
from mouthpiece.lipsync.echomimic.sampling import (
    PortraitDenoiser,
    denoise_latents,
    denoise_whole_clip,
    make_condition,
    make_null_condition,
    stream_latents,
)
from mouthpiece.lipsync.echomimic.vae import Vae

REDUCED = NetworkConfig((64, 96, 64, 64), locator_widths=(16, 24, 40, 56))
SETTINGS = dict(seed=0, steps=30, guidance=2.5, window=12, overlap=3, carry="noised")


def make_settings(**changes):
    return SimpleNamespace(**(SETTINGS | changes))


class RandomNetworks:
    """Hold random networks and a portrait. shape: sizes.  px: side of the square.  placement: where they run."""

    def __init__(self, shape, px, placement):
        torch.manual_seed(0)
        self.shape, self.px, self.placement = shape, px, placement
        with torch.device("meta"):
            nets = ReferenceNet(shape), FaceLocator(shape), Denoiser(shape)
        self.reference, self.locator, self.denoiser = (self.randomize(net) for net in nets)
        size = (px // 8, px // 8)
        self.seen = self.reference(torch.randn(1, 4, *size, device=placement.device))
        self.face = self.locator(torch.ones(1, 1, px, px, device=placement.device)).float()
        self.audio = torch.randn(1, 1200, 50, shape.audio_width)

    def randomize(self, net):
        """A network with small random numbers on its device; filling by the layers' own rules would take minutes at
        full size.
        """
        net = net.to(self.placement.dtype).to_empty(device=self.placement.device)
        with torch.no_grad():
            for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
                one = name.endswith("weight") and tensor.dim() == 1
                tensor.fill_(1.0) if one else tensor.normal_(
                    0, 0.7 / max(1, tensor[0].numel()) ** 0.5 if tensor.dim() > 1 else 0.02
                )
        return net.eval()

    def tell(self, start, stop):
        at = torch.arange(start, stop) % self.audio.shape[1]
        return {"audio": self.audio[:, at].to(self.placement.device)}

    def wait(self):
        if self.placement.device.type != "cpu":
            torch.accelerator.synchronize()


def measure_median_s(studio, jobs, rounds):
    """Median seconds of each job, taken in turns; of the processor where that is what computes, so that a busy machine
    counts less.
    """
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


def run_baseline_loop(studio, frames, asked):
    """A straightforward way to draw a clip: both halves of guidance in every step, keys and values of the portrait made
    anew in each.
    """
    from mouthpiece.engine.sampling import VelocityAdapter, draw_tick_noise, plan_windows
    from mouthpiece.lipsync.echomimic.sampling import make_levels, make_published_ddim

    parts = []
    for start, stop in plan_windows(frames, asked.window, asked.overlap):
        conditions = studio.tell(start, stop) | {"face": studio.face}
        trees = [make_null_condition(conditions), make_condition(conditions)]
        both = {key: torch.cat([tree[key] for tree in trees]) for key in conditions | {"known": None}}

        def network(x, t, _, both=both):
            null, real = studio.denoiser(x.expand(2, -1, -1, -1, -1), t.expand(2), both, studio.seen).chunk(2)
            return null + asked.guidance * (real - null)

        adapter, step = VelocityAdapter(network), make_published_ddim(asked.steps)
        levels = make_levels(asked.steps)
        x = (
            draw_tick_noise(start, stop, (4, *studio.face.shape[-2:]), asked.seed, ["echomimic"])
            .transpose(1, 2)
            .to(studio.face.device)
        )
        for here, there in zip(levels, levels[1:]):
            x, _ = step(lambda x, level, adapter=adapter: adapter(x, level, None), x, here, there, None)
        parts.append(x)
    return parts


@torch.inference_mode()
def measure_ratios(studio, rounds):
    """Time of a step with the portrait's keys and values made once over making them anew; of whole loops over the plain
    one.
    """
    window, cached = 12, cache_keys_and_values(studio.denoiser, studio.seen)
    conditions = make_condition(studio.tell(0, window) | {"face": studio.face})
    x = torch.randn(1, 4, window, *studio.face.shape[-2:], device=studio.placement.device)
    time_now = torch.full((1,), 500.0, device=studio.placement.device)
    steps = measure_median_s(
        studio,
        {
            "cached": lambda: studio.denoiser(x, time_now, conditions, cached),
            "recomputed": lambda: studio.denoiser(x, time_now, conditions, studio.seen),
            "published": lambda: studio.denoiser(
                x, time_now, conditions, {name: seen.expand(window, -1, -1) for name, seen in studio.seen.items()}
            ),
        },
        rounds,
    )
    frames = 21

    def stream(**changes):
        return lambda: list(
            stream_latents(
                PortraitDenoiser(studio.denoiser, cached),
                studio.tell,
                studio.face,
                frames,
                make_settings(steps=2, **changes),
            )
        )

    loops = measure_median_s(
        studio,
        {
            "plain, guidance 2.5": lambda: run_baseline_loop(studio, frames, make_settings(steps=2)),
            "ours, guidance 2.5": stream(),
            "plain, guidance 1": lambda: run_baseline_loop(studio, frames, make_settings(steps=2, guidance=1.0)),
            "ours, guidance 1": stream(guidance=1.0),
            "closed loop, guidance 2.5": lambda: denoise_whole_clip(
                PortraitDenoiser(studio.denoiser, cached), studio.tell, studio.face, frames, make_settings(steps=2)
            ),
        },
        max(1, rounds // 3),
    )
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
def measure_peak_mb(seconds):
    """Measure the peak memory in MB of this process after drawing a clip of so many seconds at debug size."""
    from mouthpiece.lipsync.echomimic.vae import to_pixels

    placement = replace(choose_device("cpu"), dtype=torch.float32)
    studio = RandomNetworks(DEBUG_CONFIG, 64, placement)
    vae = Vae({"widths": (8, 8, 8, 8), "layers": 1}).eval()
    encoder = WhisperAudioEncoder(heads=2, width=DEBUG_CONFIG.audio_width).eval()
    wave = 0.1 * np.random.default_rng(0).standard_normal(16_000 * seconds).astype(np.float32)
    features = AudioFeatures(encoder, wave)

    def tell(start, stop):
        return {"audio": features.get_tokens(start, stop, 25)}

    drawn = 0
    for piece in stream_latents(
        PortraitDenoiser(studio.denoiser, cache_keys_and_values(studio.denoiser, studio.seen)),
        tell,
        studio.face,
        25 * seconds,
        make_settings(steps=1, guidance=1.0),
    ):
        drawn += len(to_pixels(vae.decode(piece[0])))
    assert drawn == 25 * seconds, drawn
    # not ru_maxrss, which a child takes over from its parent
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure_memory(lengths):
    """Peak memory in MB by length in seconds, each in a process of its own."""
    out = {}
    for seconds in lengths:
        answer = subprocess.run(
            [sys.executable, __file__, "--peak", str(seconds)], capture_output=True, text=True, check=True
        )
        out[seconds] = float(answer.stdout)
    return out


@torch.inference_mode()
def measure_full_size(placement, px, rounds):
    """Seconds a frame at full size: both ways of the published pipelines, the image decoder with them."""
    studio = RandomNetworks(FULL_CONFIG, px, placement)
    vae = Vae().to(placement.device, placement.dtype).eval()
    cached, out = cache_keys_and_values(studio.denoiser, studio.seen), {}
    for name, changes in {"echomimic": {}, "echomimic-acc": {"steps": 6, "guidance": 1.0}}.items():
        asked, frames = make_settings(**changes), 21
        conditions = studio.tell(0, 12) | {"face": studio.face}
        noise = torch.randn(1, 4, 12, *studio.face.shape[-2:], device=placement.device)
        denoise_latents(PortraitDenoiser(studio.denoiser, cached), noise, conditions, 1, asked.guidance)
        studio.wait()
        begun = time.perf_counter()
        for piece in stream_latents(PortraitDenoiser(studio.denoiser, cached), studio.tell, studio.face, frames, asked):
            for latents in piece[0].split(4):
                vae.decode(latents)
        studio.wait()
        out[f"{name}_s_a_frame"] = (time.perf_counter() - begun) / frames
    if placement.device.type != "cpu":
        out["peak_gpu_mb"] = (
            torch.accelerator.max_memory_allocated() / 2**20
            if hasattr(torch.accelerator, "max_memory_allocated")
            else None
        )
    return out | measure_ratios(studio, rounds)


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
        print(measure_peak_mb(args.peak))
        return
    placement = choose_device(args.device)
    if placement.device.type == "cpu":
        placement = replace(placement, dtype=torch.float32)
    facts = {"placement": placement.as_dict(), "threads": torch.get_num_threads()}
    if args.full:
        facts |= measure_full_size(placement, args.px or 512, args.rounds)
    else:
        facts |= measure_ratios(RandomNetworks(REDUCED, args.px or 256, placement), args.rounds) | {
            "peak_mb_by_seconds": measure_memory(args.lengths)
        }
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()

"""What `sound` costs, in ratios measured in one run: conditions once, takes together, memory against length; or
full-size weights.

  python benchmarks/mmaudio.py                                    table as JSON, debug-size networks
  python benchmarks/mmaudio.py --size full --model mmaudio-small-16k [--device cpu|...] [--one]
  python benchmarks/mmaudio.py --write FOLDER --model NAME --size debug|full    random weights, as `sound --weights
  FOLDER` takes them
Weights are random in every case: the numbers are of speed and memory, not of quality.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mouthpiece.engine.device import choose_device, set_cpu_threads
from mouthpiece.engine.sampling import make_flow_levels
from mouthpiece.engine.types import Frame
from mouthpiece.voice.mmaudio.clip_encoder import make_clip_module
from mouthpiece.voice.mmaudio.flow_sampling import sample_latents
from mouthpiece.voice.mmaudio.generator import SoundtrackGenerator
from mouthpiece.voice.mmaudio.models import find_weights, load_models
from mouthpiece.voice.mmaudio.network import FlowNetwork
from mouthpiece.voice.mmaudio.options import SoundOptions
from mouthpiece.voice.mmaudio.random_weights import get_full_sizes, make_debug_sizes, write_random_weights
from mouthpiece.voice.mmaudio.sizes import VARIANTS
from mouthpiece.voice.mmaudio.synchformer import SyncEncoder
from mouthpiece.voice.mmaudio.vae import MelVAE
from mouthpiece.voice.mmaudio.vocoder import Vocoder


def synchronize(device):
    """Waits for a GPU to finish what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def make_frames(seconds):
    """A picture that moves, 25 frames a second."""
    picture = np.random.default_rng(0).integers(0, 255, (15, 20, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    return (Frame(n, Fraction(n, 25), np.roll(picture, 3 * n, 1)) for n in range(int(seconds * 25)))


def measure_fastest_s(work, device, repeats):
    """Seconds of the fastest of some runs, after one to warm up."""
    spent = []
    # others may use the machine
    clock = time.process_time if device.type == "cpu" and set_cpu_threads() == 1 else time.perf_counter
    for _ in range(repeats + 1):
        began = clock()
        work()
        synchronize(device)
        spent.append(clock() - began)
    return min(spent[1:])


def generate_clip(models, options, seconds=8):
    """Makes the sound of a clip and throws it away."""
    for _ in SoundtrackGenerator(models, options, Fraction(seconds), ()).blocks(make_frames(seconds)):
        pass


def make_features(models, batch=1):
    """(conditional, null) trees of 8 s, and the features they are made of."""
    latents, pictures, features = models.rates.lengths(8)
    size, device = models.network.size, models.device
    given = [
        torch.randn(batch, n, width, device=device)
        for n, width in ((pictures, size.clip_dim), (features, size.sync_dim), (size.text_seq_len, size.text_dim))
    ]
    return given, latents


@torch.inference_mode()
def measure_ratios(models, repeats):
    """Conditions once against at every step, takes together against one by one, three takes against one."""
    device, network = models.device, models.network
    features, latents = make_features(models)
    null = network.compute_conditions(*network.empty(1, features[0].shape[1], features[1].shape[1]), latents)
    noise = torch.randn(3, latents, network.size.latent_dim, device=device)
    levels = make_flow_levels(8)

    def each_step(x, moment, tree):  # as if conditions were made anew in every step, for both sides
        network.compute_conditions(*features, latents)
        network.compute_conditions(*network.empty(1, features[0].shape[1], features[1].shape[1]), latents)
        return network(x, moment, tree)

    trees = network.compute_conditions(*features, latents)
    once_s = measure_fastest_s(
        lambda: sample_latents(network, noise[:1], network.compute_conditions(*features, latents), null, levels=levels),
        device,
        repeats,
    )
    every_s = measure_fastest_s(
        lambda: sample_latents(each_step, noise[:1], trees, null, levels=levels), device, repeats
    )
    together_s = measure_fastest_s(lambda: sample_latents(network, noise, trees, null, levels=levels), device, repeats)
    singly_s = measure_fastest_s(
        lambda: [sample_latents(network, noise[n : n + 1], trees, null, levels=levels) for n in range(3)],
        device,
        repeats,
    )
    chosen = {takes: SoundOptions(model=models.variant.name, takes=takes, speech_guard="off") for takes in (1, 3)}
    whole_s = {
        takes: measure_fastest_s(lambda: generate_clip(models, chosen[takes]), device, repeats) for takes in chosen
    }
    return {
        "conditions_once_s": once_s,
        "conditions_every_step_s": every_s,
        "every_over_once": every_s / once_s,
        "three_takes_together_s": together_s,
        "three_takes_singly_s": singly_s,
        "together_over_singly": together_s / singly_s,
        "one_take_8s_s": whole_s[1],
        "three_takes_8s_s": whole_s[3],
        "three_over_one": whole_s[3] / whole_s[1],
    }


def count_flops(name, seconds=8, steps=25):
    """Floating-point operations of a model at full size for one clip, counted on the meta device: looking, and each
    take.
    """
    variant, sizes = VARIANTS[name], get_full_sizes(name)
    latents, pictures, features = variant.rates.lengths(seconds)
    with torch.device("meta"):
        network, vae, vocoder, sync = (
            FlowNetwork(sizes["network"]),
            MelVAE(sizes["vae"]),
            Vocoder(sizes["vocoder"]),
            SyncEncoder(sizes["sync"]),
        )
        clip, size, vae.is_fused = make_clip_module(sizes["clip"]), sizes["network"], True
        # no autocast there; its cost is nothing
        network.t_embed.forward = lambda moment: torch.zeros(1, size.hidden_dim)
        frame = torch.zeros(1, 3, sizes["clip"].image_px, sizes["clip"].image_px)
        given = [
            torch.zeros(1, n, w)
            for n, w in ((pictures, size.clip_dim), (features, size.sync_dim), (size.text_seq_len, size.text_dim))
        ]
        tree = network.compute_conditions(*given, latents)
        x, moment, window = torch.zeros(1, latents, size.latent_dim), torch.zeros(1), torch.zeros(1, 16, 3, 224, 224)
        works = {
            "clip": (pictures, lambda: clip.vision_model(pixel_values=frame)),
            "sync": (features // 8, lambda: sync.window(window)),
            "flow": (2 * steps, lambda: network(x, moment, tree)),
            "decode": (1, lambda: vocoder(vae.decode(x.transpose(1, 2)))),
        }
        counted = {}
        for part, (times, work) in works.items():
            with FlopCounterMode(display=False) as counter:
                work()
            counted[part] = times * counter.get_total_flops() / 1e12
    looking, take = counted["clip"] + counted["sync"], counted["flow"] + counted["decode"]
    return counted | {"three_over_one": (looking + 3 * take) / (looking + take)}


def get_peak_mb():
    """Most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_memory(args, folder):
    """Peak memory of a short and of a long clip, each in a process of its own."""
    found = {}
    for name, seconds in (("short", 16), ("long", 160)):
        words = [
            sys.executable,
            __file__,
            "--one",
            "--seconds",
            str(seconds),
            "--weights",
            str(folder),
            "--model",
            args.model,
            "--device",
            args.device,
        ]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found | {"memory_long_over_short": found["long"]["peak_mb"] / found["short"]["peak_mb"]}


def load_random_models(args, folder):
    options = SoundOptions(model=args.model, weights=folder, device=args.device)
    return load_models(options, choose_device(args.device), find_weights(args.model, folder), {})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(VARIANTS), default="mmaudio-small-16k")
    parser.add_argument("--size", choices=("debug", "full"), default="debug")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--write", type=Path, help="write random weights there and end")
    parser.add_argument("--weights", type=Path, help="folder of weights to use instead")
    parser.add_argument(
        "--one", action="store_true", help="one clip of --seconds in this process: its time and peak memory"
    )
    parser.add_argument("--seconds", type=int, default=8)
    args = parser.parse_args()
    sizes = make_debug_sizes(args.model) if args.size == "debug" else get_full_sizes(args.model)
    if args.write:
        print(write_random_weights(args.write, args.model, sizes))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = args.weights or write_random_weights(Path(name), args.model, sizes)
        models = load_random_models(args, folder)
        if args.one:
            began = time.perf_counter()
            generate_clip(
                models,
                SoundOptions(model=args.model, speech_guard="off", steps=25 if args.size == "full" else 2),
                args.seconds,
            )
            print(
                json.dumps({"seconds": args.seconds, "spent_s": time.perf_counter() - began, "peak_mb": get_peak_mb()})
            )
            return
        answer = {
            "model": args.model,
            "size": args.size,
            "device": str(models.device),
            "heavy": str(models.compute_dtype),
            "threads": set_cpu_threads(),
        }
        answer |= measure_ratios(models, args.repeats)
        answer["full_size_tflop"] = {name: count_flops(name) for name in VARIANTS}
        if args.size == "debug":
            answer["memory"] = measure_memory(args, folder)
        print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()

"""How fast `animate` is, where the time goes, and whether memory stays flat with length.

Prints one JSON document: frames per second end to end at --size, the share of each stage (listening, motion, renderer, drawing,
encoding), and the peak memory of a short and of a long job, each in a process of its own.

  python benchmarks/animate.py [--size 512] [--seconds 10] [--long-seconds 120]
"""
import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import skimage.data
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.device import choose_device, threads
from engine.encoders.vision import EXPRESSION
from engine.media import Sound, VideoWriter, write_image, write_sound
from engine.timeline import times_s
from lipsync.motion import at_times, perform, wish
from lipsync.options import AnimateOptions
from lipsync.pipeline import LATE_S, load_models, parts_at, prepare, seat


class Clock:
    """Seconds by stage."""

    def __init__(self):
        self.spent_s = {}

    @contextmanager
    def stage(self, name):
        start = time.perf_counter()
        yield
        self.spent_s[name] = self.spent_s.get(name, 0.0) + time.perf_counter() - start


def material(folder, seconds):
    """(portrait, sound) written into a folder: the astronaut, and speech by hibari repeated to the length."""
    from hibari import SAMPLE_RATE, Hibari
    line = np.asarray(Hibari(threads=1)("The quick brown fox jumps over the lazy dog, and then it rests for a while."), np.float32).reshape(-1)
    wave = np.resize(np.concatenate([line, np.zeros(SAMPLE_RATE // 2, np.float32)]), int(seconds * SAMPLE_RATE))
    write_image(folder / "portrait.png", skimage.data.astronaut())
    write_sound(folder / "line.wav", Sound(wave[None], SAMPLE_RATE))
    return folder / "portrait.png", folder / "line.wav"


def run(seconds, size):
    """One job, stage by stage, with the functions that `animate` calls."""
    clock, options, placement = Clock(), AnimateOptions(size=size), choose_device("auto")
    with tempfile.TemporaryDirectory() as name:
        portrait, line = material(Path(name), seconds)
        models = load_models(placement)
        began = time.perf_counter()
        with clock.stage("reading and portrait"):
            job = prepare(portrait, line, options)
            sitter = seat(job, models)
        with clock.stage("sound and motion"):
            motion = perform((models.listener, models.core), job.wave, job.frames + 1, options)
            codes = at_times(motion.codes, times_s(job.frames, options.fps) + LATE_S).astype(np.float32)
            poses = models.space.pose(torch.from_numpy(codes)).numpy()
            codes[:, :EXPRESSION] = wish(codes, sitter.own, options.expression)
        h, w = job.pixels.shape[:2]
        with VideoWriter(Path(name) / "out.mp4", options.fps, w, h, line) as writer:
            for start in range(0, job.frames, options.batch):
                with clock.stage("renderer"):
                    parts = parts_at(sitter, models, codes[start : start + options.batch], placement)
                with clock.stage("drawing"):
                    drawn = [sitter.canvas.draw(p, q) for p, q in zip(parts, poses[start : start + options.batch])]
                with clock.stage("encoding"):
                    for frame in drawn:
                        writer.write(frame)
        total = time.perf_counter() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return dict(frames=job.frames, frames_per_s=job.frames / total, width_px=w, height_px=h, peak_mb=peak_mb, threads=threads(),
                share={k: v / total for k, v in clock.spent_s.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--long-seconds", type=float, default=120)
    parser.add_argument("--one", action="store_true", help="one job in this process")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run(args.seconds, args.size)))
        return
    jobs = {}
    for name, seconds in (("short", args.seconds), ("long", args.long_seconds)):
        done = subprocess.run([sys.executable, __file__, "--one", "--size", str(args.size), "--seconds", str(seconds)], check=True, capture_output=True, text=True)
        jobs[name] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(dict(jobs, memory_ratio=jobs["long"]["peak_mb"] / jobs["short"]["peak_mb"]), indent=2))


if __name__ == "__main__":
    main()

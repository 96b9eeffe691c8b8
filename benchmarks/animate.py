"""How fast `animate` is, where the time goes, and whether memory stays flat with length.

Prints one JSON document: frames per second end to end at --size, the share of each stage, seconds of all cores a frame,
and the peak
memory of a short and of a long job, each in a process of its own. Models are loaded before; stages are timed in
`animate` itself.

  python benchmarks/animate.py [--size 512] [--seconds 10] [--long-seconds 120]
"""

import argparse
import functools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.device import choose_device, set_cpu_threads
from mouthpiece.engine.media.images import write_image
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.progress import Progress
from mouthpiece.lipsync.models import load_models
from mouthpiece.lipsync.options import AnimateOptions
from mouthpiece.lipsync.portrait import animation_job, pipeline
from mouthpiece.lipsync.portrait.canvas import Canvas
from mouthpiece.lipsync.portrait.renderer import FaceRenderer

MIN_FRAMES_PER_S, MAX_MEMORY_MB = 25, 2500  # what is asked for, at 512 px on two cores
# where each stage is found: (holder, attribute); one that calls another counts without it
STAGES = {
    "reading": ((animation_job, "prepare_animation"),),
    "portrait": ((pipeline, "prepare_portrait"),),
    "sound and motion": ((pipeline, "generate_motion"),),
    "renderer": ((FaceRenderer, "render"),),
    "drawing": ((Canvas, "draw"),),
    "encoding": ((VideoWriter, "__enter__"), (VideoWriter, "write"), (VideoWriter, "__exit__")),
}


class StageClock:
    """Seconds by stage, of functions called one inside the other on one thread."""

    def __init__(self):
        self.spent_s, self._inside_s = {}, [0.0]

    def wrap_function(self, name, function):
        """The function, its own time counted under the name."""

        @functools.wraps(function)
        def timed(*args, **options):
            self._inside_s.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                took = time.perf_counter() - start
                self.spent_s[name] = self.spent_s.get(name, 0.0) + took - self._inside_s.pop()
                self._inside_s[-1] += took

        return timed

    def instrument(self):
        """Puts the clock into every one of STAGES."""
        for name, places in STAGES.items():
            for holder, attribute in places:
                setattr(holder, attribute, self.wrap_function(name, getattr(holder, attribute)))


def write_inputs(folder, seconds):
    """(portrait, sound) written into a folder: the astronaut, and speech by hibari repeated to the length."""
    from hibari import SAMPLE_RATE, Hibari

    line = np.asarray(
        Hibari(threads=1)("The quick brown fox jumps over the lazy dog, and then it rests for a while."), np.float32
    ).reshape(-1)
    wave = np.resize(np.concatenate([line, np.zeros(SAMPLE_RATE // 2, np.float32)]), int(seconds * SAMPLE_RATE))
    write_image(folder / "portrait.png", skimage.data.astronaut())
    write_sound(folder / "line.wav", Sound(wave[None], SAMPLE_RATE))
    return folder / "portrait.png", folder / "line.wav"


def run_job(seconds, size):
    """One job, timed stage by stage."""
    clock, options, placement = StageClock(), AnimateOptions(size=size), choose_device("auto")
    with tempfile.TemporaryDirectory() as name:
        portrait, line = write_inputs(Path(name), seconds)
        models = load_models(placement)
        clock.instrument()
        began, busy = time.perf_counter(), time.process_time()
        job = animation_job.prepare_animation(portrait, line, options)
        facts = pipeline.animate(job, Path(name) / "out.mp4", models, placement, Progress("none"))
        total, cores = time.perf_counter() - began, time.process_time() - busy
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    share = {stage: spent / total for stage, spent in clock.spent_s.items()}
    return dict(
        frames=facts["frames"],
        frames_per_s=facts["frames"] / total,
        width_px=facts["width_px"],
        height_px=facts["height_px"],
        core_ms_per_frame=1000 * cores / facts["frames"],
        peak_mb=peak_mb,
        threads=set_cpu_threads(),
        placement=facts["placement"],
        share=share | {"all else": 1 - sum(share.values())},
        fast_enough=facts["frames"] / total >= MIN_FRAMES_PER_S,
        small_enough=peak_mb <= MAX_MEMORY_MB,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--long-seconds", type=float, default=120)
    parser.add_argument("--one", action="store_true", help="one job in this process")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_job(args.seconds, args.size)))
        return
    jobs = {}
    for name, seconds in (("short", args.seconds), ("long", args.long_seconds)):
        done = subprocess.run(
            [sys.executable, __file__, "--one", "--size", str(args.size), "--seconds", str(seconds)],
            check=True,
            capture_output=True,
            text=True,
        )
        jobs[name] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(dict(jobs, memory_ratio=jobs["long"]["peak_mb"] / jobs["short"]["peak_mb"]), indent=2))


if __name__ == "__main__":
    main()

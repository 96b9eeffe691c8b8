"""How `batch` scales and what it survives: two workers against one, overhead per item, a thousand jobs with kills.

python benchmarks/batch.py            all three; needs about a minute on an idle machine
python benchmarks/batch.py --real     also animates 8 short clips with one and with two workers
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
sys.path[:0] = [str(ROOT), str(TESTS)]
ITEM_S = 0.25

DRIVER = """
import sys; sys.path[:0] = {paths!r}
if __name__ == "__main__":
    import tiny_jobs
    from mouthpiece.batch import driver
    from mouthpiece.batch.job_list import read_job_list
    from mouthpiece.batch.pool import WorkerPool
    from mouthpiece.engine.progress import Progress

    class NotedPool(WorkerPool):
        # writes the process ids of its workers to a file whenever they change

        def _start_workers(self):
            before = self.list_pids()
            super()._start_workers()
            if self.list_pids() != before:
                open({pids!r}, "w").write(" ".join(map(str, self.list_pids())))

    items = read_job_list({jobs!r}, {out!r}, tiny_jobs.USE_CASES)
    summary = driver.run_batch(
        items, {out!r}, lambda count: NotedPool(2, tiny_jobs.run_request, 1), Progress("none")
    )
    print(len(summary.done), summary.skipped, len(summary.failed))
"""


def measure_run(folder, script, count, workers):
    """Measure (seconds of the whole run, core seconds of the driver itself) of `count` items of one script."""
    import tiny_jobs

    from mouthpiece.batch import driver
    from mouthpiece.batch.job_list import read_job_list
    from mouthpiece.batch.pool import WorkerPool
    from mouthpiece.engine.progress import Progress

    place = Path(tempfile.mkdtemp(dir=folder))
    jobs = tiny_jobs.write_jobs(place, [f"{script} {number}" for number in range(count)])
    (place / "out").mkdir()
    items = read_job_list(jobs, place / "out", tiny_jobs.USE_CASES)
    pool = WorkerPool(workers, tiny_jobs.run_request, 1)
    for _ in range(workers):  # the start of the processes is not what is measured
        request = replace(items[0].request, settings=replace(items[0].request.settings, dry_run=True))
        pool.submit(SimpleNamespace(request=request))
    warmed = 0
    while warmed < workers:
        warmed += len(pool.collect(1))
    started, spent = time.monotonic(), time.process_time()
    tally = driver.run_batch(items, place / "out", lambda count: pool, Progress("none"))
    assert len(tally.done) == count, tally
    return time.monotonic() - started, time.process_time() - spent


def run_with_kills(folder, count, worker_kills, driver_kills, seed):
    """Run `count` tiny jobs, killing workers and the driver at random moments; return what ledger and disk hold."""
    import tiny_jobs

    from mouthpiece.batch.ledger import read_records

    draw, place = random.Random(seed), Path(tempfile.mkdtemp(dir=folder))
    jobs, out, pids = (
        tiny_jobs.write_jobs(place, [f"slow 0.005 {number}" for number in range(count)]),
        place / "out",
        place / "pids",
    )
    out.mkdir()
    (place / "driver.py").write_text(
        DRIVER.format(paths=[str(ROOT), str(TESTS)], jobs=str(jobs), out=str(out), pids=str(pids))
    )
    marks = sorted(draw.sample(range(count // 20, count * 9 // 10), worker_kills + driver_kills))
    of_driver = set(draw.sample(marks, driver_kills))
    process, runs, hit = None, 0, []
    while process is None or process.poll() is None or process.returncode != 0:
        if process is None or process.poll() is not None:
            process = subprocess.Popen([sys.executable, str(place / "driver.py")], stdout=subprocess.PIPE, text=True)
            runs += 1
        done = len(list(out.glob("*.wav")))
        if marks and done >= marks[0]:
            mark = marks.pop(0)
            target = process.pid if mark in of_driver else draw.choice(pids.read_text().split() or [process.pid])
            try:
                os.kill(int(target), signal.SIGKILL)
                hit.append("driver" if mark in of_driver else "worker")
            except ProcessLookupError:
                marks.insert(0, mark)
            if mark in of_driver:
                process.wait()
        time.sleep(0.005)
    records = [record for record in read_records(out / "results.jsonl") if record["state"] != "started"]
    whole = sum(len(path.read_text().splitlines()) == 50 for path in out.glob("*.wav"))
    parts = len(list(out.glob(".*part*")))
    ids = [record["id"] for record in records if record["state"] == "done"]
    return {
        "jobs": count,
        "kills": hit,
        "runs": runs,
        "done": len(ids),
        "twice": len(ids) - len(set(ids)),
        "whole_files": whole,
        "parts_left": parts,
    }


def measure_animate(folder):
    """Measure the seconds for 8 clips of 1 s at 128 px with one and with two workers, through the command line."""
    import numpy as np
    from skimage import data

    from mouthpiece.engine.audio.sound import Sound, write_sound
    from mouthpiece.engine.media.images import write_image

    write_image(folder / "portrait.png", np.ascontiguousarray(data.astronaut()[:256, 96:352]))
    write_sound(
        folder / "line.wav",
        Sound(0.1 * np.random.default_rng(0).standard_normal((1, 16_000)).astype(np.float32), 16_000),
    )
    row = {"command": "animate", "portrait": "portrait.png", "sound": "line.wav", "size": 128}
    (folder / "jobs.jsonl").write_text(
        "".join(json.dumps(row | {"id": k, "seed": k, "output": f"{k}.mp4"}) + "\n" for k in range(8))
    )
    found, environment = {}, os.environ | {"PYTHONPATH": str(ROOT)}
    for workers in (1, 2):
        words = [
            sys.executable,
            "-m",
            "mouthpiece",
            "batch",
            str(folder / "jobs.jsonl"),
            "-o",
            str(folder / str(workers)),
            "--workers",
            str(workers),
            "--json",
            "-q",
        ]
        found[workers] = json.loads(
            subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
        )["result"]
    return {
        "seconds_1": found[1]["seconds"],
        "seconds_2": found[2]["seconds"],
        "efficiency": round(found[1]["seconds"] / found[2]["seconds"] / 2, 3),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--jobs", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        one, two = measure_run(folder, f"slow {ITEM_S}", 40, 1)[0], measure_run(folder, f"slow {ITEM_S}", 40, 2)[0]
        spin_one, spin_two = (
            measure_run(folder, f"spin {ITEM_S}", 24, 1)[0],
            measure_run(folder, f"spin {ITEM_S}", 24, 2)[0],
        )
        print(
            json.dumps(
                {
                    "waiting items": {
                        "seconds_1": round(one, 2),
                        "seconds_2": round(two, 2),
                        "efficiency": round(one / two / 2, 3),
                    }
                }
            )
        )
        print(
            json.dumps(
                {
                    "computing items": {
                        "seconds_1": round(spin_one, 2),
                        "seconds_2": round(spin_two, 2),
                        "efficiency": round(spin_one / spin_two / 2, 3),
                    }
                }
            )
        )
        whole_s, driver_s = measure_run(folder, "ok", 200, 1)
        print(
            json.dumps(
                {"overhead_ms_an_item": round(5 * whole_s, 2), "of_the_driver_s_core_ms": round(5 * driver_s, 2)}
            )
        )
        print(json.dumps(run_with_kills(folder, args.jobs, 3, 1, seed=1)))
        if args.real:
            print(json.dumps({"animate": measure_animate(folder)}))


if __name__ == "__main__":
    main()

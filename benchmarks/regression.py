"""Make small jobs of every command and compare their outputs with a record: what a change of code must not change.

    python benchmarks/regression.py record              make the jobs, write benchmarks/regression.json
    python benchmarks/regression.py                     make them again, compare; exit code 1 where anything differs
    python benchmarks/regression.py check --only dub    those jobs whose name has "dub" in it
    python benchmarks/regression.py check --keep DIR    leave all files in DIR, to look into a difference

Every job is a run of the installed command `mouthpiece` with fixed seeds and the embedded weights; inputs are made on
the fly from what packages carry and from earlier outputs. Nothing is imported from the product, and options stand under
their names of release 0.1.0: the same jobs run before and after a change of names.
What is hashed:
- media: `sha256_unmarked` of the side-car, the file before its signed mark (a signature differs from run to run);
  stems of a dub: their decoded samples, for the files may carry a mark;
  Matroska: the packets and their times, for its writer numbers every file at random;
- texts (scripts): the bytes of the file;
- measurements: all numbers of the result, sorted, without keys, settings and words, which are renamed and rephrased,
  and without what a dub found in its cache of pictures, whose keys are free to change;
- tables (voices, models, doctor): the columns that code alone decides, not what lies on this machine;
- arrays of trainings: shape, type and bytes, without names and texts;
- refusals: exit code, kind and code of the error, without sentences.
Left out everywhere: paths, times of day, durations of work, versions, marks, signers, model files.

Hashes hold for a kind of machine: processor, cores and versions of libraries round differently, so they are recorded
beside the hashes and `check` says what is different. Threads are fixed (THREADS), because sums depend on them.
Stages of `train` with a budget in minutes (motion, phonetic, core, renderer, finder) stop by the clock and are no
function of their seed; `embed` writes into the checkout. `sound` and EchoMimic run with random weights of debug size,
which benchmarks/mmaudio.py and tests/debug_echomimic.py write.
"""

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

from regression_jobs import JOBS
from regression_workspace import THREADS, JobFailed, Workspace

RECORD = Path(__file__).with_suffix(".json")
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "asimd")
LIBRARIES = (
    "torch",
    "numpy",
    "av",
    "onnxruntime",
    "mediapipe",
    "silero-vad",
    "pocketsphinx",
    "hibari",
    "scipy",
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python",
    "praat-parselmouth",
    "scikit-image",
    "pillow",
)


def describe_machine() -> dict:
    """Describe what hashes depend on: processor, cores, threads of a job, versions of libraries."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            rows = [[part.strip() for part in row.split(":", 1)] for row in file if ":" in row]
        found = {name: value for name, value in reversed(rows)}
        words = (found.get("flags") or found.get("Features", "")).split()
        name = found.get("model name", platform.processor())
    except OSError:
        words, name = [], platform.processor()
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    system = {"system": platform.system(), "architecture": platform.machine(), "processor": name}
    system |= {"flags": [flag for flag in CPU_FLAGS if flag in words]}
    system |= {"cores": os.cpu_count(), "threads_of_a_job": int(THREADS)}
    return system | {"python": platform.python_version(), "versions": versions}


def make_jobs(folder: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """Make jobs by their names; returns job -> part -> hash, or a sentence where a job failed."""
    space, found = Workspace(folder), {}
    for name in names:
        begun, spent = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        try:
            found[name] = JOBS[name](space)
        except (JobFailed, subprocess.TimeoutExpired, OSError, KeyError, ValueError) as error:
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
        spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - spent
        print(f"{name}: {time.monotonic() - begun:.1f} s, {spent:.1f} s of a core", file=sys.stderr, flush=True)
    return found


def compare(recorded: dict, now: dict) -> list[tuple[str, str, str, bool]]:
    """Compare two dicts of jobs; returns rows of (job and part, recorded, now, same)."""
    rows = []
    for job, parts in now.items():
        old = recorded.get(job, {})
        for part in [*old, *(part for part in parts if part not in old)]:
            pair = old.get(part, "-"), parts.get(part, "-")
            rows.append((f"{job}: {part}", *pair, pair[0] == pair[1]))
    return rows


def tell_differences(recorded: dict, now: dict) -> None:
    """Print what of the machine is another than in the record; hashes may then differ without a change of code."""
    for name in sorted(recorded.keys() | now.keys()):
        if recorded.get(name) != now.get(name):
            print(f"another machine: {name} was {recorded.get(name)}, is {now.get(name)}", file=sys.stderr)


def main() -> int:
    """Read the command line, make the jobs, record or compare them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=("record", "check"), default="check")
    parser.add_argument("--only", metavar="WORD", help="check: jobs with this in their name")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty folder for all files, kept for a look")
    args = parser.parse_args()
    names = [name for name in JOBS if args.action == "record" or not args.only or args.only in name]
    if not names:
        parser.error(f"--only: no job has {args.only!r} in its name; there are: {', '.join(JOBS)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        now, machine = make_jobs(folder.resolve(), names), describe_machine()
    if args.action == "record":
        failed = [f"{job}: {parts['failed']}" for job, parts in now.items() if "failed" in parts]
        if failed:
            print("\n".join(failed), file=sys.stderr)
            return 1
        RECORD.write_text(json.dumps({"machine": machine, "jobs": now}, indent=1) + "\n", encoding="utf-8")
        return 0
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    tell_differences(record["machine"], machine)
    rows = compare(record["jobs"], now)
    table = csv.writer(sys.stdout, delimiter="|", lineterminator="\n")
    table.writerow(("job", "recorded", "now", "same"))
    for name, old, new, same in rows:
        table.writerow((name, *((old[:12], new[:12]) if same else (old, new)), "yes" if same else "NO"))
    print(f"{sum(row[3] for row in rows)} of {len(rows)} are the same")
    return 0 if all(row[3] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

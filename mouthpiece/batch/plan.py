"""What a batch would do: outputs, models, time by a measured calibration, disk. Nothing of it is kept."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from fractions import Fraction
from pathlib import Path

from mouthpiece.batch.driver import BatchSummary, find_pending
from mouthpiece.batch.ledger import Ledger
from mouthpiece.engine.errors import ExitCode, MouthpieceError

EXCERPT_S = Fraction(2)
# inputs of which the beginning is enough to measure with
_CUTTABLE = {"animate": ("sound",), "lipsync": ("video", "sound")}


def plan_batch(items, folder, run_command, progress, *, workers: int = 1, only_failed: bool = False):
    """The plan of a batch, JSON-ready: items, todo, skipped, outputs, models, seconds, disk.

    items: from manifest.read_manifest, of this shard.  folder: Path, need not be there.
    perform: callable that runs words of a command line and gives (exit code, document).
    progress: Progress.  workers: int, how many will share the work.
    Every command is tried on one item: a dry run says whether its models are there, then the first EXCERPT_S seconds of
    it
    (where they can be cut out, else the whole item) are made twice in a folder that is thrown away, the second time
    with models at hand.
    """
    from mouthpiece.engine.weights.model_cache import enable_model_cache

    enable_model_cache()
    folder, tally = Path(os.path.realpath(folder)), BatchSummary()
    ledger = Ledger(folder).read()
    jobs = find_pending(items, folder, ledger, tally, only_failed)
    samples = {}
    for job in jobs:
        samples.setdefault(_get_item_kind(job.item), job)
    with progress.stage("calibrating", len(samples), "commands") as advance:
        measured = {}
        for kind, job in samples.items():
            measured[kind] = _calibrate(job.item, run_command)
            advance(1)
    durations = [_measure_duration_s(job.item) for job in jobs]
    work_s, size = 0.0, 0
    for job, duration_s in zip(jobs, durations):
        found = measured[_get_item_kind(job.item)]
        if work_s is not None and duration_s is not None and found.get("s_per_s") is not None:
            work_s += found["s_per_s"] * duration_s
            size += found["bytes_per_s"] * duration_s
        else:
            work_s = None
    start_s = max((found.get("start_s") or 0 for found in measured.values()), default=0)
    place = next(path for path in (folder, *folder.parents) if path.is_dir())
    seconds = None if work_s is None else work_s / max(1, min(workers, len(jobs))) + start_s
    return {
        "dry_run": True, "items": len(items), "todo": len(jobs), "skipped": tally.skipped, "failed_before": len(tally.failed),
        "outputs": [{"id": job.item.id, "command": job.item.command, "output": str(job.item.output)} for job in jobs],
        "models": [{"command": " ".join(kind).strip()} | found for kind, found in measured.items()],
        "workers": workers, "seconds": seconds and round(seconds, 1), "media_s": round(sum(filter(None, durations)), 2),
        "disk": {"needed_bytes": int(size), "free_bytes": shutil.disk_usage(place).free},
    }  # fmt: skip


def _get_item_kind(item):
    """Command and model: what makes one item's speed like another's."""
    return item.command, next((word.partition("=")[2] for word in item.argv if word.startswith("--model=")), "")


def _measure_duration_s(item):
    """Seconds of the item's sound, or of its video where it takes no sound; None where that cannot be told."""
    from mouthpiece.engine.media.probing import probe

    found = None
    for path in item.inputs:
        try:
            info = probe(path)
        except MouthpieceError:
            continue
        if info.duration is not None and (info.has_audio or info.has_video):
            found = float(info.duration)
            if item.command == "animate" and info.has_audio or info.has_video:
                return found
    return found


def _calibrate(item, run_command):
    """What one item says of its kind: models at hand or the error, seconds of work a second, bytes a second."""
    with tempfile.TemporaryDirectory(prefix="mouthpiece-") as place:
        output = Path(place) / item.output.name
        argv = [f"--output={output}" if word.startswith("--output=") else word for word in item.argv]
        code, document = run_command([*argv, "--dry-run", "--quiet"])
        if code != ExitCode.DONE:
            return {"ready": False, "error": document.get("error")}
        try:
            argv = _shorten_inputs(item, argv, Path(place))
        except MouthpieceError as error:
            return {"ready": True, "error": error.as_dict()}
        times = []
        for _ in range(2):
            started = time.monotonic()
            code, document = run_command([*argv, "--force", "--quiet"])
            times.append(time.monotonic() - started)
            if code != ExitCode.DONE:
                return {"ready": True, "error": document.get("error")}
        result = document.get("result") or {}
        duration_s = (result.get("facts") or {}).get("duration_s") or _measure_duration_s(item)
        if not duration_s:
            return {"ready": True, "weights": sorted(result.get("models") or ())}
        rates = {"s_per_s": round(times[1] / duration_s, 4), "bytes_per_s": round(output.stat().st_size / duration_s)}
        return {
            "ready": True,
            "weights": sorted(result.get("models") or ()),
            "start_s": round(max(0, times[0] - times[1]), 3),
        } | rates


def _shorten_inputs(item, argv, place):
    """The words with inputs replaced by their beginnings, where the command can do with them."""
    from mouthpiece.engine.media.probing import probe

    if item.command not in _CUTTABLE:
        return argv
    cut = {}
    for number, path in enumerate(item.inputs):
        try:
            info = probe(path)
        except MouthpieceError:  # a portrait, a preset
            continue
        if info.duration is None or info.duration <= EXCERPT_S:
            continue
        if info.has_video and "video" in _CUTTABLE[item.command]:
            cut[str(path)] = str(_cut_video(path, info, place / f"{number}.mp4"))
        elif info.has_audio:
            cut[str(path)] = str(_cut_sound(path, place / f"{number}.wav"))
    return [cut.get(word, word) for word in argv]


def _read_excerpt(path):
    """The Sound of a file's beginning, in the memory of that alone."""
    import numpy as np

    from mouthpiece.engine.audio.sound import Sound
    from mouthpiece.engine.media.reading import open_sound_stream

    with open_sound_stream(path, None, 2) as (rate_hz, blocks):
        count, taken = int(EXCERPT_S * rate_hz), []
        for block in blocks:
            taken.append(block)
            if sum(part.shape[1] for part in taken) >= count:
                break
        return Sound(np.ascontiguousarray(np.concatenate(taken, 1)[:, :count]), rate_hz)


def _cut_sound(path, output):
    from mouthpiece.engine.audio.sound import write_sound

    write_sound(output, _read_excerpt(path))
    return output


def _cut_video(path, info, output):
    from mouthpiece.engine.media.reading import VideoReader
    from mouthpiece.engine.media.writing import VideoWriter

    rate = info.rate or Fraction(25)
    sound = _read_excerpt(path) if info.has_audio else None
    with VideoReader(path) as reader:
        frames = iter(reader)
        first = next(frames)
        height_px, width_px = first.pixels.shape[:2]
        with VideoWriter(output, rate, width_px, height_px, sound) as writer:
            writer.write(first.pixels)
            for frame in frames:
                if frame.time >= EXCERPT_S:
                    break
                writer.write(frame.pixels)
    return output


def format_plan(plan):
    """The plan as lines for people."""
    lines = [
        f"{plan['items']} items: {plan['todo']} to do, {plan['skipped']} done before, {plan['failed_before']} left alone"
    ]
    for row in plan["models"]:
        error = row.get("error")
        state = "ready" if row["ready"] and not error else f"NOT ready: {error['message']} {error['hint']}"
        weights = f", weights {', '.join(row['weights'])}" if row.get("weights") else ""
        pace = (
            f", {row['s_per_s']:.2f} s of work a second, {row['start_s']:.1f} s to start"
            if row.get("s_per_s") is not None
            else ""
        )
        lines.append(f"{row['command']}: {state}{weights}{pace}")
    time_told = (
        "cannot be told"
        if plan["seconds"] is None
        else f"about {plan['seconds']:.0f} s with {plan['workers']} worker(s)"
    )
    disk = plan["disk"]
    lines.append(
        f"time: {time_told}, for {plan['media_s']:.1f} s of media; disk: about {disk['needed_bytes'] / 1e6:.1f} MB of {disk['free_bytes'] / 1e6:.0f} MB free"
    )
    lines += [f"would write {row['output']} ({row['command']}, {row['id']})" for row in plan["outputs"]]
    return "\n".join(lines)

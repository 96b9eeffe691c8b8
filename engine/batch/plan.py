"""What a batch would do: outputs, models, time by a measured calibration, disk. Nothing of it is kept."""

import os
import shutil
import tempfile
import time
from fractions import Fraction
from pathlib import Path

from engine.batch.driver import Tally, missing
from engine.batch.ledger import Ledger
from engine.errors import ExitCode, MouthpieceError

EXCERPT_S = Fraction(2)
_CUTTABLE = {"animate": ("sound",), "lipsync": ("video", "sound")}  # inputs of which the beginning is enough to measure with


def plan_batch(items, folder, perform, progress, *, workers=1, only_failed=False):
    """The plan of a batch, JSON-ready: items, todo, skipped, outputs, models, seconds, disk.

    items: from manifest.read_manifest, of this shard.  folder: Path, need not be there.
    perform: callable that runs words of a command line and gives (exit code, document).
    progress: Progress.  workers: int, how many will share the work.
    Every command is tried on one item: a dry run says whether its models are there, then the first EXCERPT_S seconds of it
    (where they can be cut out, else the whole item) are made twice in a folder that is thrown away, the second time with models at hand.
    Source: ours.
    """
    from engine.warm import keep

    keep()
    folder, tally = Path(os.path.realpath(folder)), Tally()
    ledger = Ledger(folder).read()
    jobs = missing(items, folder, ledger, tally, only_failed)
    samples = {}
    for job in jobs:
        samples.setdefault(_kind(job.item), job)
    with progress.stage("calibrating", len(samples), "commands") as advance:
        measured = {}
        for kind, job in samples.items():
            measured[kind] = _calibrated(job.item, perform)
            advance(1)
    durations = [_duration_s(job.item) for job in jobs]
    work_s, size = 0.0, 0
    for job, duration_s in zip(jobs, durations):
        found = measured[_kind(job.item)]
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


def _kind(item):
    """Command and model: what makes one item's speed like another's."""
    return item.command, next((word.partition("=")[2] for word in item.argv if word.startswith("--model=")), "")


def _duration_s(item):
    """Seconds of the item's sound, or of its video where it takes no sound; None where that cannot be told."""
    from engine.media import probe

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


def _calibrated(item, perform):
    """What one item says of its kind: models at hand or the error, seconds of work a second, bytes a second."""
    with tempfile.TemporaryDirectory(prefix="mouthpiece-") as place:
        output = Path(place) / item.output.name
        argv = [f"--output={output}" if word.startswith("--output=") else word for word in item.argv]
        code, document = perform([*argv, "--dry-run", "--quiet"])
        if code != ExitCode.DONE:
            return {"ready": False, "error": document.get("error")}
        try:
            argv = _shortened(item, argv, Path(place))
        except MouthpieceError as error:
            return {"ready": True, "error": error.as_dict()}
        times = []
        for _ in range(2):
            started = time.monotonic()
            code, document = perform([*argv, "--force", "--quiet"])
            times.append(time.monotonic() - started)
            if code != ExitCode.DONE:
                return {"ready": True, "error": document.get("error")}
        result = document.get("result") or {}
        duration_s = (result.get("facts") or {}).get("duration_s") or _duration_s(item)
        if not duration_s:
            return {"ready": True, "weights": sorted(result.get("models") or ())}
        rates = {"s_per_s": round(times[1] / duration_s, 4), "bytes_per_s": round(output.stat().st_size / duration_s)}
        return {"ready": True, "weights": sorted(result.get("models") or ()), "start_s": round(max(0, times[0] - times[1]), 3)} | rates


def _shortened(item, argv, place):
    """The words with inputs replaced by their beginnings, where the command can do with them."""
    from engine.media import probe

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
            cut[str(path)] = str(_cut_film(path, info, place / f"{number}.mp4"))
        elif info.has_audio:
            cut[str(path)] = str(_cut_sound(path, place / f"{number}.wav"))
    return [cut.get(word, word) for word in argv]


def _excerpt(path):
    """The Sound of a file's beginning, in the memory of that alone."""
    import numpy as np

    from engine.media import Sound, sound_stream

    with sound_stream(path, None, 2) as (rate_hz, blocks):
        count, taken = int(EXCERPT_S * rate_hz), []
        for block in blocks:
            taken.append(block)
            if sum(part.shape[1] for part in taken) >= count:
                break
        return Sound(np.ascontiguousarray(np.concatenate(taken, 1)[:, :count]), rate_hz)


def _cut_sound(path, output):
    from engine.media import write_sound

    write_sound(output, _excerpt(path))
    return output


def _cut_film(path, info, output):
    from engine.media import VideoReader, VideoWriter

    rate = info.rate or Fraction(25)
    sound = _excerpt(path) if info.has_audio else None
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


def told(plan):
    """The plan as lines for people. Source: ours."""
    lines = [f"{plan['items']} items: {plan['todo']} to do, {plan['skipped']} done before, {plan['failed_before']} left alone"]
    for row in plan["models"]:
        error = row.get("error")
        state = "ready" if row["ready"] and not error else f"NOT ready: {error['message']} {error['hint']}"
        weights = f", weights {', '.join(row['weights'])}" if row.get("weights") else ""
        pace = f", {row['s_per_s']:.2f} s of work a second, {row['start_s']:.1f} s to start" if row.get("s_per_s") is not None else ""
        lines.append(f"{row['command']}: {state}{weights}{pace}")
    time_told = "cannot be told" if plan["seconds"] is None else f"about {plan['seconds']:.0f} s with {plan['workers']} worker(s)"
    disk = plan["disk"]
    lines.append(f"time: {time_told}, for {plan['media_s']:.1f} s of media; disk: about {disk['needed_bytes'] / 1e6:.1f} MB of {disk['free_bytes'] / 1e6:.0f} MB free")
    lines += [f"would write {row['output']} ({row['command']}, {row['id']})" for row in plan["outputs"]]
    return "\n".join(lines)

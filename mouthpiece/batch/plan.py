"""What a batch would do: outputs, models, time by a measured calibration, disk. Nothing of it is kept."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mouthpiece.batch.driver import find_pending
from mouthpiece.batch.ledger import Ledger
from mouthpiece.batch.summary import BatchSummary
from mouthpiece.engine.errors import ExitCode, MouthpieceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mouthpiece.batch.driver import PendingItem
    from mouthpiece.batch.job_list import BatchItem
    from mouthpiece.batch.worker import RunRequest
    from mouthpiece.engine.audio.sound import Sound
    from mouthpiece.engine.progress import Progress
    from mouthpiece.engine.types import MediaInfo
    from mouthpiece.request import Request

EXCERPT_S = Fraction(2)  # length of the beginning of an input that is worked on for measuring
_DEFAULT_RATE = Fraction(25)  # frames a second of an excerpt of a video that does not say its rate


def plan_batch(
    items: Sequence[BatchItem],
    folder: Path | str,
    run: RunRequest,
    progress: Progress,
    *,
    workers: int = 1,
    only_failed: bool = False,
) -> dict[str, Any]:
    """Plan a batch; return JSON-ready: items, todo, skipped, outputs, models, seconds, disk.

    Every kind of item is tried on one: a dry run says whether its models are available, then its first EXCERPT_S
    seconds (the whole item where they cannot be cut out) are made twice in a folder that is thrown away, the second
    time with models loaded.

    items: from job_list.read_job_list, of this shard.  folder: of the batch, need not exist.
    run: what is done with a Request; returns (exit code, document).
    workers: how many will share the work.  only_failed: as for driver.run_batch.
    """
    from mouthpiece.engine.weights.model_cache import enable_model_cache

    enable_model_cache()
    folder, summary = Path(os.path.realpath(folder)), BatchSummary()
    pending = find_pending(items, folder, Ledger(folder).read(), summary, only_failed)
    measured = _calibrate_kinds(pending, run, progress)
    durations_s = [_measure_duration_s(one.item) for one in pending]
    work_s, needed_bytes = _estimate_work(pending, durations_s, measured)
    start_s = max((row.get("start_s") or 0 for row in measured.values()), default=0)
    seconds = None if work_s is None else work_s / max(1, min(workers, len(pending))) + start_s
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    return {
        "dry_run": True,
        "items": len(items),
        "todo": len(pending),
        "skipped": summary.skipped,
        "failed_before": len(summary.failed),
        "outputs": [
            {"id": one.item.id, "command": one.item.command, "output": str(one.item.output)} for one in pending
        ],
        "models": [{"command": " ".join(kind).strip()} | row for kind, row in measured.items()],
        "workers": workers,
        "seconds": seconds and round(seconds, 1),
        "media_s": round(sum(filter(None, durations_s)), 2),
        "disk": {"needed_bytes": int(needed_bytes), "free_bytes": shutil.disk_usage(existing).free},
    }


def _get_kind(item: BatchItem) -> tuple[str, str]:
    """Return command and model, by which the pace of one item is that of another."""
    return item.command, str(item.request.given.get("model", ""))


def _calibrate_kinds(
    pending: list[PendingItem], run: RunRequest, progress: Progress
) -> dict[tuple[str, str], dict[str, Any]]:
    """Try one item of every kind; return {kind: what _calibrate returns}."""
    samples: dict[tuple[str, str], BatchItem] = {}
    for one in pending:
        samples.setdefault(_get_kind(one.item), one.item)
    measured = {}
    with progress.stage("calibrating", len(samples), "commands") as advance:
        for kind, item in samples.items():
            measured[kind] = _calibrate(item, run)
            advance(1)
    return measured


def _estimate_work(
    pending: list[PendingItem], durations_s: list[float | None], measured: dict[tuple[str, str], dict[str, Any]]
) -> tuple[float | None, float]:
    """Estimate (seconds of work or None where that cannot be known, bytes of all outputs)."""
    work_s: float | None = 0.0
    needed_bytes = 0.0
    for one, duration_s in zip(pending, durations_s):
        row = measured[_get_kind(one.item)]
        if work_s is None or duration_s is None or row.get("s_per_s") is None:
            work_s = None
            continue
        work_s += row["s_per_s"] * duration_s
        needed_bytes += row["bytes_per_s"] * duration_s
    return work_s, needed_bytes


def _measure_duration_s(item: BatchItem) -> float | None:
    """Measure the seconds of an item's video, or of its sound where it has no video; None where neither says."""
    from mouthpiece.engine.media.probing import probe

    found = None
    for path in item.inputs:
        try:
            info = probe(path)
        except MouthpieceError:
            continue
        if info.duration is not None and (info.has_audio or info.has_video):
            found = float(info.duration)
            if info.has_video:
                return found
    return found


def _calibrate(item: BatchItem, run: RunRequest) -> dict[str, Any]:
    """Measure one item: whether it is ready or its error, its weights, seconds of work and bytes a second of output."""
    with tempfile.TemporaryDirectory(prefix="mouthpiece-") as place:
        output = Path(place) / item.output.name
        settings = replace(item.request.settings, dry_run=True)
        code, document = run(_change(item.request, output=output, settings=settings))
        if code != ExitCode.DONE:
            return {"ready": False, "error": document.get("error")}
        try:
            request = _shorten_inputs(item, Path(place))
        except MouthpieceError as error:
            return {"ready": True, "error": error.as_dict()}
        settings = replace(item.request.settings, overwrite=True)
        request = _change(request, output=output, settings=settings)
        times_s = []
        for _ in range(2):
            started = time.monotonic()
            code, document = run(request)
            times_s.append(time.monotonic() - started)
            if code != ExitCode.DONE:
                return {"ready": True, "error": document.get("error")}
        result = document.get("result") or {}
        weights = sorted(result.get("models") or ())
        duration_s = (result.get("facts") or {}).get("duration_s") or _measure_duration_s(item)
        if not duration_s:
            return {"ready": True, "weights": weights}
        return {
            "ready": True,
            "weights": weights,
            "start_s": round(max(0, times_s[0] - times_s[1]), 3),
            "s_per_s": round(times_s[1] / duration_s, 4),
            "bytes_per_s": round(output.stat().st_size / duration_s),
        }


def _shorten_inputs(item: BatchItem, place: Path) -> Request:
    """Return the item's Request with inputs cut to their beginnings, where that is enough. place: for the files."""
    from mouthpiece.engine.media.probing import probe

    cut: dict[str, Path] = {}
    for name in item.excerpts:
        path = getattr(item.request, name)
        if path is None:
            continue
        info = probe(path)
        if info.duration is None or info.duration <= EXCERPT_S:
            continue
        if info.has_video:
            cut[name] = _cut_video(path, info, place / f"{name}.mp4")
        elif info.has_audio:
            cut[name] = _cut_sound(path, place / f"{name}.wav")
    return _change(item.request, **cut)


def _change(request: Request, **changes: Any) -> Request:
    """Return a Request with other values of fields that every Request of a batch has, or that an item names."""
    return replace(request, **changes)


def _read_excerpt(path: Path) -> Sound:
    """Read the sound of a file's beginning, in the memory of that alone."""
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


def _cut_sound(path: Path, output: Path) -> Path:
    from mouthpiece.engine.audio.sound import write_sound

    write_sound(output, _read_excerpt(path))
    return output


def _cut_video(path: Path, info: MediaInfo, output: Path) -> Path:
    from mouthpiece.engine.media.reading import VideoReader
    from mouthpiece.engine.media.writing import VideoWriter

    rate = info.rate or _DEFAULT_RATE
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


def format_plan(plan: dict[str, Any]) -> str:
    """Format a plan as lines for people. plan: from plan_batch."""
    counts = [f"{plan['todo']} to do", f"{plan['skipped']} done before", f"{plan['failed_before']} left alone"]
    lines = [f"{plan['items']} items: {', '.join(counts)}"]
    for row in plan["models"]:
        error = row.get("error")
        state = "ready" if row["ready"] and not error else f"NOT ready: {error['message']} {error['hint']}"
        weights = f", weights {', '.join(row['weights'])}" if row.get("weights") else ""
        pace = ""
        if row.get("s_per_s") is not None:
            pace = f", {row['s_per_s']:.2f} s of work a second, {row['start_s']:.1f} s to start"
        lines.append(f"{row['command']}: {state}{weights}{pace}")
    time_text = "cannot be told"
    if plan["seconds"] is not None:
        time_text = f"about {plan['seconds']:.0f} s with {plan['workers']} worker(s)"
    needed_mb, free_mb = (plan["disk"][name] / 1e6 for name in ("needed_bytes", "free_bytes"))
    disk_text = f"disk: about {needed_mb:.1f} MB of {free_mb:.0f} MB free"
    lines.append(f"time: {time_text}, for {plan['media_s']:.1f} s of media; {disk_text}")
    lines += [f"would write {row['output']} ({row['command']}, {row['id']})" for row in plan["outputs"]]
    return "\n".join(lines)

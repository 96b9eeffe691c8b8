"""What a dub is judged by: numbers of every line and of the film, as JSON and as one page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.media.reading import read_sound
from mouthpiece.evaluation.dub_metrics import MeasuredLine, measure_line, summarize_lines
from mouthpiece.evaluation.report_page import write_page
from mouthpiece.evaluation.timeline_svg import compute_waveform_peaks
from mouthpiece.voice.dub_project import REPORT_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.audio.sound import Sound
    from mouthpiece.voice.dub_project import DubJob
    from mouthpiece.voice.scripts.project import Project, ProjectEntry
    from mouthpiece.voice.scripts.script import Line

MAX_MEASURED_S = 3600.0  # of the film's own sound held in memory for comparing


def measure_dub_lines(dub: DubJob, paths: dict[str, Path]) -> list[dict[str, str]]:
    """Numbers of every line, JSON-ready, in the script's order.

    dub: Dub with its lines spoken.  paths: {stem: path}.
    Source: mouthpiece.evaluation.dub_metrics.
    """
    dialogue = read_sound(paths["dialogue"], mono=True)
    measured = dub.job.has_sound and float(dub.job.duration) <= MAX_MEASURED_S
    source = read_sound(dub.job.video, 16000, mono=True) if measured else None
    return measure_project_lines(dub.project, dialogue, source)


def measure_project_lines(project: Project, dialogue: Sound, source: Sound | None = None) -> list[dict[str, str]]:
    """Numbers of every line of a Project, JSON-ready, in its order.

    project: Project.  dialogue: Sound of one channel, the stem.  source: Sound, the film's own, or None: then nothing
    is compared with it.
    Source: mouthpiece.evaluation.dub_metrics.
    """
    around = _make_neighbour_lookup([e.line for e in project.entries if e.line.start is not None])
    return [
        _measure_entry(e, e.takes[e.take - 1]["facts"] if e.take else None, around, dialogue, source)
        for e in project.entries
    ]


def _make_neighbour_lookup(lines: list[Line]) -> Callable:
    """A function that gives, of a line, (end of the line before, start of the line after) in seconds."""
    ends, starts = (np.array(sorted(float(getattr(line, name)) for line in lines)) for name in ("end", "start"))

    def around(line: Line) -> tuple[float, float]:
        before, after = (
            np.searchsorted(ends, float(line.start), "right"),
            np.searchsorted(starts, float(line.end), "left"),
        )
        return float(ends[before - 1]) if before else 0.0, float(starts[after]) if after < len(starts) else math.inf

    return around


def _measure_entry(
    entry: ProjectEntry, facts: dict[str, Any] | None, around: Callable, dialogue: Sound, source: Sound
) -> dict[str, str]:
    line = entry.line
    row = dict(id=line.id, speaker=line.speaker, text=line.text, original=line.original, status=entry.status, remarks=[r.text for r in entry.remarks],
               start_s=None if line.start is None else float(line.start), end_s=None if line.end is None else float(line.end))  # fmt: skip
    if facts is None or line.start is None:
        return row | dict(why=entry.extra.get("x_why", ""))
    row |= dict(take=entry.take, sound=entry.takes[entry.take - 1]["file"])
    parts, hearing = facts.get("parts") or [{}], facts.get("hearing") or {}
    stretch = 1 / max(1e-3, float(parts[0].get("tempo") or 1.0))
    before_s, after_s = around(line)
    slot = MeasuredLine(float(line.start), float(line.end), text=line.text, original=line.original, before_s=before_s, after_s=after_s,
                natural_s=facts["duration_s"] / stretch, stretch=stretch, aimed_s=facts.get("aimed_s"))  # fmt: skip
    numbers = measure_line(slot, dialogue, source)
    rungs = [r["name"] if isinstance(r, dict) else r for part in parts for r in part.get("rungs", ())]
    spoken = dict(spoken_s=[facts["start_s"], facts["start_s"] + facts["duration_s"]], timed_by=facts["timed_by"], aimed_s=facts.get("aimed_s"), rungs=rungs, why=facts["why"],
                  voice=facts.get("voice", ""), wer=hearing.get("wer"), lost_words=hearing.get("lost"), heard=hearing.get("heard"), recogniser=hearing.get("recogniser"))  # fmt: skip
    return row | spoken | numbers


def build_dub_report(
    dub: DubJob, rows: list[dict[str, str]], sound: dict[str, Any], picture: dict[str, Any]
) -> dict[str, Any]:
    """The whole report, JSON-ready. rows: of line_rows.  sound: facts of mouthpiece.voice.dub_project.write_mix.
    picture: facts of the lips.
    """
    return dict(title=dub.project.title or dub.job.video.name, duration_s=float(dub.job.duration), lines=rows, file=summarize_lines(rows), loudness=_summarize_loudness(sound["loudness"], dub.options.loudness), bed=sound["bed"], picture=picture, settings=dub.options.settings(),
                remarks=[r.text for r in dub.job.script.remarks])  # fmt: skip


def _summarize_loudness(facts: dict[str, Any], spec: str) -> dict[str, Any]:
    from mouthpiece.engine.audio.mastering import parse_loudness_target

    target, mix = parse_loudness_target(spec), facts.get("after", facts).get("mix", {})
    return (
        dict(
            spec=spec,
            target_lufs=target.lufs,
            integrated_lufs=mix.get("lufs"),
            true_peak_dbtp=mix.get("true_peak_db"),
            limit_dbtp=target.peak_db,
        )
        | facts
    )


def write_dub_report(dub: DubJob, report: dict[str, Any], paths: dict[str, Path], mouths: tuple = ()) -> Path:
    """Writes the page into the dub's folder; gives its path. mouths: (line id, seconds, PNG bytes)."""
    waves = {name: compute_waveform_peaks(paths[name]) for name in ("dialogue", "mix")}
    return write_page(
        dub.folder / REPORT_FILE,
        simplify_report(report) | dict(stems=[path.name for path in paths.values()]),
        waves,
        mouths,
        overwrite=True,
    )


def simplify_report(report: dict[str, Any]) -> dict[str, Any]:
    """The report as a person reads it: loudness and picture in plain numbers, what only programs need left out."""
    loud, picture = dict(report["loudness"]), dict(report["picture"])
    after, faces = loud.pop("after", {}), picture.pop("faces", ())
    for name in ("before", "target"):
        loud.pop(name, None)
    for stem in ("dialogue", "bed"):
        loud |= {f"{stem}_{name}": value for name, value in after.get(stem, {}).items()}
    for name in ("placement", "used_again", "rate", "truncated"):
        picture.pop(name, None)
    changed = picture.pop("changed_s", ())
    if changed:
        picture["changed_s"] = round(sum(stop - start for start, stop in changed), 2)
    for number, face in enumerate(faces):
        whose = ", ".join(filter(None, face.get("speakers", ()))) or face["face"]
        passed = "".join(f"; {count} left: {why}" for why, count in face.get("frames_passed", {}).items())
        picture[f"face_{number + 1}"] = (
            f"{whose}: {face.get('frames_changed', 0)} of {face.get('frames_asked', 0)} frames changed{passed}"
        )
    return report | dict(loudness=loud, picture=picture)

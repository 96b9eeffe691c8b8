"""Report on a dub: numbers of every line and of the film, as JSON and as one page."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from mouthpiece.engine.audio.loudness_targets import parse_loudness_target
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.evaluation.dub_metrics import MeasuredLine, measure_line, summarize_lines
from mouthpiece.evaluation.report_page import write_page
from mouthpiece.evaluation.timeline_svg import compute_waveform_peaks
from mouthpiece.voice.dub_project import REPORT_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.audio.sound import Sound
    from mouthpiece.engine.contracts import Take
    from mouthpiece.voice.dub_mix import DubMix
    from mouthpiece.voice.dub_project import DubJob
    from mouthpiece.voice.scripts.project import Project, ProjectEntry
    from mouthpiece.voice.scripts.script import Line

MAX_MEASURED_S = 3600.0  # of the film's own sound held in memory for comparing
RECORDING_HZ = 16000  # at which the film's own sound is compared


def measure_dub_lines(dub: DubJob, mix: DubMix) -> list[dict[str, Any]]:
    """Measure every line of a dub, JSON-ready, in the script's order."""
    dialogue = read_sound(mix.stems["dialogue"], mono=True)
    comparable = dub.film.info.has_audio and float(dub.film.duration) <= MAX_MEASURED_S
    source = read_sound(dub.film.path, RECORDING_HZ, mono=True) if comparable else None
    return measure_project_lines(dub.project, dialogue, source)


def measure_project_lines(project: Project, dialogue: Sound, source: Sound | None = None) -> list[dict[str, Any]]:
    """Measure every line of a project, JSON-ready, in its order.

    dialogue: one channel, the stem.  source: the film's own sound; None leaves the comparisons with it out.
    """
    neighbours = Neighbours([entry.line for entry in project.entries])
    return [_measure_entry(entry, neighbours, dialogue, source) for entry in project.entries]


class Neighbours:
    """Find the lines beside a line. lines: of a script; those without times are left out."""

    def __init__(self, lines: Sequence[Line]) -> None:
        times = [line.times for line in lines if line.times is not None]
        self._ends_s = sorted(float(end) for _, end in times)
        self._starts_s = sorted(float(start) for start, _ in times)

    def find(self, start_s: float, end_s: float) -> tuple[float, float]:
        """Find the end of the line before and the start of the line after, in seconds; 0 and infinity without one."""
        before, after = bisect_right(self._ends_s, start_s), bisect_left(self._starts_s, end_s)
        before_s = self._ends_s[before - 1] if before else 0.0
        return before_s, self._starts_s[after] if after < len(self._starts_s) else math.inf


def _measure_entry(
    entry: ProjectEntry, neighbours: Neighbours, dialogue: Sound, source: Sound | None
) -> dict[str, Any]:
    """Measure one line; give what is known of it where it has no take or no times."""
    line, take = entry.line, entry.current_take
    row = {
        "id": line.id,
        "speaker": line.speaker,
        "text": line.text,
        "original": line.original,
        "status": entry.status,
        "remarks": [remark.text for remark in entry.remarks],
        "start_s": None if line.start is None else float(line.start),
        "end_s": None if line.end is None else float(line.end),
    }
    if take is None or line.times is None:
        return row | {"why": entry.extra.get("x_why", "")}
    stretch = 1 / max(1e-3, float(take.parts[0].get("tempo") or 1.0))
    start_s, end_s = map(float, line.times)
    before_s, after_s = neighbours.find(start_s, end_s)
    measured = MeasuredLine(
        start_s,
        end_s,
        text=line.text,
        original=line.original,
        before_s=before_s,
        after_s=after_s,
        natural_s=take.duration_s / stretch,
        stretch=stretch,
        aimed_s=take.aimed_s,
    )
    numbers = measure_line(measured, dialogue, source)
    return row | {"take": entry.take, "sound": take.file} | describe_take(take) | numbers


def describe_take(take: Take) -> dict[str, Any]:
    """Describe a take for the report, JSON-ready: when it sounds and why, and what a recognizer heard."""
    hearing = take.hearing
    rungs = [rung["name"] if isinstance(rung, dict) else rung for part in take.parts for rung in part.get("rungs", ())]
    return {
        "spoken_s": [take.start_s, take.end_s],
        "timed_by": take.timed_by,
        "aimed_s": take.aimed_s,
        "rungs": rungs,
        "why": take.why,
        "voice": take.voice,
        "wer": hearing.get("wer"),
        "lost_words": hearing.get("lost"),
        "heard": hearing.get("heard"),
        "recogniser": hearing.get("recogniser"),
    }


def build_dub_report(dub: DubJob, rows: list[dict[str, Any]], mix: DubMix, picture: dict[str, Any]) -> dict[str, Any]:
    """Build the whole report, JSON-ready.

    rows: of measure_dub_lines.  picture: facts of the written picture.
    """
    return {
        "title": dub.project.title or dub.film.path.name,
        "duration_s": float(dub.film.duration),
        "lines": rows,
        "file": summarize_lines(rows),
        "loudness": _summarize_loudness(mix.loudness, dub.options.loudness),
        "bed": mix.bed,
        "picture": picture,
        "settings": dub.options.settings(),
        "remarks": [remark.text for remark in dub.speech.script.remarks],
    }


def _summarize_loudness(facts: dict[str, Any], spec: str) -> dict[str, Any]:
    """Put the loudness of the mix and its target before the facts of the stems."""
    target, mix = parse_loudness_target(spec), facts.get("after", facts).get("mix", {})
    return {
        "spec": spec,
        "target_lufs": target.lufs,
        "integrated_lufs": mix.get("lufs"),
        "true_peak_dbtp": mix.get("true_peak_db"),
        "limit_dbtp": target.peak_db,
    } | facts


def write_dub_report(
    dub: DubJob, report: dict[str, Any], stems: dict[str, Path], mouths: Sequence[tuple[str, float, bytes]] = ()
) -> Path:
    """Write the report's page into the dub's folder; give its path.

    stems: paths by name.  mouths: pictures of mouths: line id, seconds, PNG bytes.
    """
    waves = {name: compute_waveform_peaks(stems[name]) for name in ("dialogue", "mix")}
    page = simplify_report(report) | {"stems": [path.name for path in stems.values()]}
    return write_page(dub.folder / REPORT_FILE, page, waves, mouths, overwrite=True)


def simplify_report(report: dict[str, Any]) -> dict[str, Any]:
    """Simplify the report for people: loudness and picture in plain numbers, without what only programs need."""
    loudness, picture = dict(report["loudness"]), dict(report["picture"])
    after, faces = loudness.pop("after", {}), picture.pop("faces", ())
    for name in ("before", "target"):
        loudness.pop(name, None)
    for stem in ("dialogue", "bed"):
        loudness |= {f"{stem}_{name}": value for name, value in after.get(stem, {}).items()}
    for name in ("placement", "used_again", "rate", "truncated"):
        picture.pop(name, None)
    changed = picture.pop("changed_s", ())
    if changed:
        picture["changed_s"] = round(sum(stop - start for start, stop in changed), 2)
    for number, face in enumerate(faces, 1):
        speakers = ", ".join(filter(None, face.get("speakers", ()))) or face["face"]
        counts = f"{face.get('frames_changed', 0)} of {face.get('frames_asked', 0)} frames changed"
        passed = "".join(f"; {count} left: {why}" for why, count in face.get("frames_passed", {}).items())
        picture[f"face_{number}"] = f"{speakers}: {counts}{passed}"
    return report | {"loudness": loudness, "picture": picture}

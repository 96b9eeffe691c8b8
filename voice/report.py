"""What a dub is judged by: numbers of every line and of the film, as JSON and as one page."""

import math

import numpy as np

from engine.media import read_sound
from voice.drawing import peaks_of
from voice.dub import PAGE
from voice.page import write_page
from voice.quality import Slot, file_numbers, line_numbers

LONGEST_MEASURED_S = 3600.0            # of the film's own sound held in memory for comparing


def line_rows(dub, paths):
    """Numbers of every line, JSON-ready, in the script's order.

    dub: Dub with its lines spoken.  paths: {stem: path}.
    Source: voice.quality.
    """
    dialogue = read_sound(paths["dialogue"], mono=True)
    measured = dub.job.has_sound and float(dub.job.duration) <= LONGEST_MEASURED_S
    source = read_sound(dub.job.video, 16000, mono=True) if measured else None
    return rows_of(dub.project, dialogue, source)


def rows_of(project, dialogue, source=None):
    """Numbers of every line of a Project, JSON-ready, in its order.

    project: Project.  dialogue: Sound of one channel, the stem.  source: Sound, the film's own, or None: then nothing is compared with it.
    Source: voice.quality.
    """
    around = _around([e.line for e in project.entries if e.line.start is not None])
    return [_row(e, e.takes[e.take - 1]["facts"] if e.take else None, around, dialogue, source) for e in project.entries]


def _around(lines):
    """A function that gives, of a line, (end of the line before, start of the line after) in seconds."""
    ends, starts = (np.array(sorted(float(getattr(line, name)) for line in lines)) for name in ("end", "start"))

    def around(line):
        before, after = np.searchsorted(ends, float(line.start), "right"), np.searchsorted(starts, float(line.end), "left")
        return float(ends[before - 1]) if before else 0.0, float(starts[after]) if after < len(starts) else math.inf

    return around


def _row(entry, facts, around, dialogue, source):
    line = entry.line
    row = dict(id=line.id, speaker=line.speaker, text=line.text, original=line.original, status=entry.status, remarks=[r.text for r in entry.remarks],
               start_s=None if line.start is None else float(line.start), end_s=None if line.end is None else float(line.end))  # fmt: skip
    if facts is None or line.start is None:
        return row | dict(why=entry.extra.get("x_why", ""))
    row |= dict(take=entry.take, sound=entry.takes[entry.take - 1]["file"])
    parts, hearing = facts.get("parts") or [{}], facts.get("hearing") or {}
    stretch = 1 / max(1e-3, float(parts[0].get("tempo") or 1.0))
    before_s, after_s = around(line)
    slot = Slot(float(line.start), float(line.end), text=line.text, original=line.original, before_s=before_s, after_s=after_s,
                natural_s=facts["duration_s"] / stretch, stretch=stretch, aimed_s=facts.get("aimed_s"))  # fmt: skip
    numbers = line_numbers(slot, dialogue, source)
    rungs = [r["name"] if isinstance(r, dict) else r for part in parts for r in part.get("rungs", ())]
    spoken = dict(spoken_s=[facts["start_s"], facts["start_s"] + facts["duration_s"]], timed_by=facts["timed_by"], aimed_s=facts.get("aimed_s"), rungs=rungs, why=facts["why"],
                  voice=facts.get("voice", ""), wer=hearing.get("wer"), lost_words=hearing.get("lost"), heard=hearing.get("heard"), recogniser=hearing.get("recogniser"))  # fmt: skip
    return row | spoken | numbers


def report_of(dub, rows, sound, picture):
    """The whole report, JSON-ready. rows: of line_rows.  sound: facts of voice.dub.mixed.  picture: facts of the lips. Source: ours."""
    return dict(title=dub.project.title or dub.job.video.name, duration_s=float(dub.job.duration), lines=rows, file=file_numbers(rows), loudness=_loudness(sound["loudness"], dub.options.loudness), bed=sound["bed"], picture=picture, settings=dub.options.settings(),
                remarks=[r.text for r in dub.job.script.remarks])  # fmt: skip


def _loudness(facts, spec):
    from voice.loudness import target_of

    target, mix = target_of(spec), facts.get("after", facts).get("mix", {})
    return dict(spec=spec, target_lufs=target.lufs, integrated_lufs=mix.get("lufs"), true_peak_dbtp=mix.get("true_peak_db"), limit_dbtp=target.peak_db) | facts


def write_report(dub, report, paths, mouths=()):
    """Writes the page into the dub's folder; gives its path. mouths: (line id, seconds, PNG bytes). Source: ours."""
    waves = {name: peaks_of(paths[name]) for name in ("dialogue", "mix")}
    return write_page(dub.folder / PAGE, readable(report) | dict(stems=[path.name for path in paths.values()]), waves, mouths, overwrite=True)


def readable(report):
    """The report as a person reads it: loudness and picture in plain numbers, what only programs need left out. Source: ours."""
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
        picture[f"face_{number + 1}"] = f"{whose}: {face.get('frames_changed', 0)} of {face.get('frames_asked', 0)} frames changed{passed}"
    return report | dict(loudness=loud, picture=picture)

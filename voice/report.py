"""What a dub is judged by: numbers of every line and of the film, as JSON and as one page."""

import math

from engine.media import read_sound
from voice.drawing import peaks_of
from voice.dub import PAGE, takes_in_use
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
    used = {entry.id: facts for entry, facts in takes_in_use(dub)}
    timed = sorted((e.line.start, e.line.end, e.id) for e in dub.project.entries if e.line.start is not None)
    return [_row(entry, used.get(entry.id), _around(entry, timed), dialogue, source) for entry in dub.project.entries]


def _around(entry, timed):
    """(end of the line before, start of the line after), seconds."""
    if entry.line.start is None:
        return 0.0, math.inf
    before = max((float(end) for _, end, other in timed if end <= entry.line.start and other != entry.id), default=0.0)
    after = min((float(start) for start, _, other in timed if start >= entry.line.end and other != entry.id), default=math.inf)
    return before, after


def _row(entry, facts, around, dialogue, source):
    line = entry.line
    row = dict(id=line.id, speaker=line.speaker, text=line.text, original=line.original, status=entry.status, remarks=[r.text for r in entry.remarks],
               start_s=None if line.start is None else float(line.start), end_s=None if line.end is None else float(line.end))  # fmt: skip
    if facts is None or line.start is None:
        return row | dict(why=entry.extra.get("x_why", ""))
    parts, hearing = facts.get("parts") or [{}], facts.get("hearing") or {}
    stretch = 1 / max(1e-3, float(parts[0].get("tempo") or 1.0))
    slot = Slot(float(line.start), float(line.end), text=line.text, original=line.original, before_s=around[0], after_s=around[1],
                natural_s=facts["duration_s"] / stretch, stretch=stretch)  # fmt: skip
    numbers = line_numbers(slot, dialogue, source)
    rungs = [r["name"] if isinstance(r, dict) else r for part in parts for r in part.get("rungs", ())]
    spoken = dict(spoken_s=[facts["start_s"], facts["start_s"] + facts["duration_s"]], timed_by=facts["timed_by"], rungs=rungs, why=facts["why"],
                  voice=facts.get("voice", ""), wer=hearing.get("wer"), lost=hearing.get("lost"), heard=hearing.get("heard"), recogniser=hearing.get("recogniser"))  # fmt: skip
    return row | spoken | numbers


def report_of(dub, rows, sound, picture):
    """The whole report, JSON-ready. rows: of line_rows.  sound: facts of voice.dub.mixed.  picture: facts of the lips. Source: ours."""
    lost = sum(len(row.get("lost") or ()) for row in rows)
    return dict(title=dub.project.title or dub.job.video.name, duration_s=float(dub.job.duration), lines=rows, file=file_numbers(rows) | dict(lost_words=lost),
                loudness=_loudness(sound["loudness"], dub.options.loudness), bed=sound["bed"], picture=picture, settings=dub.options.settings(),
                remarks=[r.text for r in dub.job.script.remarks])  # fmt: skip


def _loudness(facts, spec):
    from voice.loudness import target_of

    target, mix = target_of(spec), facts.get("after", facts).get("mix", {})
    return dict(spec=spec, target_lufs=target.lufs, integrated_lufs=mix.get("lufs"), true_peak_dbtp=mix.get("true_peak_db"), limit_dbtp=target.peak_db) | facts


def write_report(dub, report, paths, mouths=()):
    """Writes the page into the dub's folder; gives its path. mouths: (line id, seconds, PNG bytes). Source: ours."""
    waves = {name: peaks_of(paths[name]) for name in ("dialogue", "mix")}
    return write_page(dub.folder / PAGE, report, waves, mouths, overwrite=True)

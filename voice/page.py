"""The report of a dub as one HTML page without network and script; only its links to sounds need the files beside it."""

import base64
import math
from html import escape
from pathlib import Path
from urllib.parse import quote

from engine.files import replacing
from voice.drawing import clock, timeline

STATUS_ORDER = ("needs_review", "stale", "draft", "spoken", "approved")
ERROR_MS, ERROR_BAD_MS = 20.0, 60.0
STRETCH, STRETCH_BAD = 1.12, 1.20
TIMED_BY = {"source": "timed as the actor speaks", "mouth": "timed by the lips"}   # lines whose errors are not against their slot
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_DASH = '<span class="soft">–</span>'


def write_page(path, report, waves=None, mouths=(), *, overwrite=False, inputs=()):
    """Writes the page of a dub.

    path: str or Path.
    report: dict with title, duration_s and lines; and file (quality.file_numbers), loudness, picture, settings (dicts), remarks (list of str).
    A line is a dict with id, speaker, start_s, end_s, text, status; and original, spoken_s, rungs, why, sound (path beside the page), and numbers
    of quality.line_numbers.  stems: paths beside the page.
    loudness: spec, target_lufs, integrated_lufs, true_peak_dbtp, limit_dbtp.  picture: of quality.picture_changes.  What is missing is not shown.
    waves: {name: (N, 2) peaks} of drawing.peaks_of.
    mouths: (line id, seconds, PNG bytes) for the contact sheet.
    overwrite, inputs: as for files.output_file.
    Raises UsageProblem for an output in the way, WriteFailed for the disk.
    Source: ours.
    """
    text = page_of(report, waves or {}, mouths)
    with replacing(path, overwrite, inputs) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def page_of(report, waves, mouths):
    """HTML text of the page; parameters as for write_page. Source: ours."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    title, lines = escape(str(report.get("title") or "Dub")), list(report.get("lines", ()))
    sections = [
        _tiles(report, lines),
        _section("Remarks", _remarks(report)),
        _section("When who speaks", _key(lines) + timeline(lines, float(report.get("duration_s") or 0.0), waves) if lines else ""),
        _section("Lines, worst first", _table(lines)),
        _section("Mouths", _sheet(mouths)),
        _section("Loudness", _facts(report.get("loudness"))),
        _section("Picture", _facts(report.get("picture"))),
        _section("Settings", _facts(report.get("settings"))),
    ]
    length = f'{clock(float(report.get("duration_s") or 0.0))} · {len(lines)} line{"" if len(lines) == 1 else "s"}'
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>\n{style}</style></head>\n'
        f'<body><main><h1>{title}</h1><p class="soft">{length}{_stems(report)}</p>\n{"".join(sections)}\n</main></body></html>\n'
    )


def _section(title, body):
    """A heading and its panel, which the keyboard reaches: a narrow window scrolls in it."""
    return f'<h2>{title}</h2><div class="panel" tabindex="0" role="region" aria-label="{title}">{body}</div>\n' if body else ""


def _stems(report):
    return "".join(f" · {_heard(path, Path(path).stem)}" for path in report.get("stems") or ())


def _heard(path, label, of=""):
    said = f' aria-label="{escape(label + " " + of, quote=True)}"' if of else ""
    return f'<a href="{quote(str(path))}"{said}>{escape(label)}</a>'


def _tiles(report, lines):
    """The numbers that decide, coloured: good, look at it, bad."""
    file, loud, picture = (report.get(name) or {} for name in ("file", "loudness", "picture"))
    review = sum(line.get("status") == "needs_review" for line in lines)
    tiles = [_tile("lines to review", str(review), "bad" if review else "good")]
    for name, label in (("start_err_ms_p95", "start error, p95"), ("end_err_ms_p95", "end error, p95")):
        if file.get(name) is not None:
            tiles.append(_tile(label, f"{file[name]:.0f} ms", _grade(file[name], ERROR_MS, ERROR_BAD_MS)))
    if file.get("stretch_p95") is not None:
        tiles.append(_tile("stretch, p95", f"× {file['stretch_p95']:.2f}", _grade(file["stretch_p95"], STRETCH, STRETCH_BAD)))
    if file.get("lost_words") is not None:
        tiles.append(_tile("words lost", str(file["lost_words"]), "bad" if file["lost_words"] else "good"))
    if loud.get("integrated_lufs") is not None:
        target = loud.get("target_lufs")
        grade = "" if target is None else _grade(abs(loud["integrated_lufs"] - target), 0.2, 1.0)
        tiles.append(_tile("loudness" + ("" if target is None else f", wanted {target:g}"), f"{loud['integrated_lufs']:.1f} LUFS", grade))
    if loud.get("true_peak_dbtp") is not None:
        limit = loud.get("limit_dbtp")
        grade = "" if limit is None else "good" if loud["true_peak_dbtp"] <= limit + 0.05 else "bad"
        tiles.append(_tile("true peak" + ("" if limit is None else f", at most {limit:g}"), f"{loud['true_peak_dbtp']:.1f} dBTP", grade))
    if picture.get("frames_match") is not None:
        tiles.append(_tile(f"frames of {picture.get('frames_source', '?')}", str(picture.get("frames", "?")), "good" if picture["frames_match"] else "bad"))
    if picture.get("outside_changed_share") is not None:
        share = 100 * picture["outside_changed_share"]
        tiles.append(_tile("pixels changed outside of mouths", f"{share:.3f} %", _grade(share, 0.1, 1.0)))
    return f'<div class="tiles">{"".join(tiles)}</div>\n'


def _tile(label, value, grade):
    return f'<div class="tile {grade}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def _grade(value, fine, bad):
    return "good" if value <= fine else "warn" if value <= bad else "bad"


def _remarks(report):
    found = [str(remark) for remark in report.get("remarks") or ()]
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in found)}</ul>" if found else ""


def _key(lines):
    there = [status for status in STATUS_ORDER if any(line.get("status") == status for line in lines)]
    marks = [f'<span><i class="{status}"></i>{status.replace("_", " ")}</span>' for status in there]
    if any(line.get("spoken_s") for line in lines):
        marks.append('<span><i class="said"></i>where it sounds</span>')
    return f'<div class="key">{"".join(marks)}</div>'


def severity(line):
    """A key that sorts lines worst first: what a person has to look at, then by how far numbers are off. Source: ours."""
    status = line.get("status", "draft")
    off = [abs(line[name]) / ERROR_MS for name in ("start_err_ms", "end_err_ms") if line.get(name) is not None]
    off.append(abs(math.log(line["stretch"])) / math.log(STRETCH) if line.get("stretch") else 0.0)
    off.append(5.0 * len(line.get("lost_words") or ()))
    rank = STATUS_ORDER.index(status) if status in STATUS_ORDER else 0
    return rank, -max(off), line.get("start_s") if line.get("start_s") is not None else math.inf


def _table(lines):
    if not lines:
        return ""
    columns = [(name, label, write) for name, label, write in _COLUMNS if any(line.get(name) not in (None, (), []) for line in lines)]
    first = "".join(f'<th scope="col">{name}</th>' for name in ("Line", "Status", "Slot", "Text"))
    heads = "".join(f'<th scope="col" class="number">{label}</th>' for _, label, _ in columns)
    rows = "\n".join(_row(line, columns) for line in sorted(lines, key=severity))
    return f"<table><thead><tr>{first}{heads}</tr></thead><tbody>\n{rows}\n</tbody></table>"


def _row(line, columns):
    line_id = escape(str(line["id"]), quote=True)
    status = str(line.get("status", "draft"))
    slot = _DASH if line.get("start_s") is None else f"{clock(line['start_s'])}<br><span class=soft>{line['end_s'] - line['start_s']:.2f} s</span>"
    slot += "<br>" + _heard(line["sound"], "listen", f"to line {line['id']}") if line.get("sound") else ""
    speaker = f"<b>{escape(str(line['speaker']))}</b> " if line.get("speaker") else ""
    below = [line["original"]] if line.get("original") else []
    below += [" → ".join(_rung(rung) for rung in line["rungs"])] if line.get("rungs") else []
    below += [f"{TIMED_BY[line['timed_by']]}, {line['aimed_s'][0]:.2f} to {line['aimed_s'][1]:.2f} s"] if line.get("aimed_s") else []
    below += [line["why"]] if line.get("why") else []
    text = speaker + escape(str(line.get("text", ""))) + "".join(f"<small>{escape(str(part))}</small>" for part in below)
    cells = "".join(_cell(line.get(name), write) for name, _, write in columns)
    badge = f'<span class="badge {escape(status, quote=True)}">{escape(status.replace("_", " "))}</span>'
    return f'<tr id="line-{line_id}"><td>{line_id}</td><td>{badge}</td><td class="time">{slot}</td><td class="text">{text}</td>{cells}</tr>'


def _rung(rung):
    """A rung of the fit ladder in words; rung: str, or dict with name, amount and note."""
    if not isinstance(rung, dict):
        return str(rung)
    amount = rung.get("amount")
    note = f" ({rung['note']})" if rung.get("note") else ""
    return f"{rung.get('name', '?')}{'' if amount is None else f' {amount:.3g}'}{note}"


def _cell(value, write):
    if value is None or value == () or value == []:
        return f'<td class="number">{_DASH}</td>'
    text, grade = write(value)
    return f'<td class="number {grade}">{escape(text)}</td>'


_COLUMNS = (
    ("start_err_ms", "start, ms", lambda v: (f"{v:+.0f}", _grade(abs(v), ERROR_MS, ERROR_BAD_MS))),
    ("end_err_ms", "end, ms", lambda v: (f"{v:+.0f}", _grade(abs(v), ERROR_MS, ERROR_BAD_MS))),
    ("stretch", "stretch", lambda v: (f"{v:.2f}", _grade(max(v, 1 / v), STRETCH, STRETCH_BAD) if v > 0 else "bad")),
    ("overlap", "overlap", lambda v: (f"{100 * v:.0f} %", "")),
    ("pause_match", "pauses", lambda v: (f"{100 * v:.0f} %", "")),
    ("rate_ratio", "rate", lambda v: (f"{v:.2f}", "")),
    ("f0_correlation", "melody", lambda v: (f"{v:.2f}", "")),
    ("wer", "WER", lambda v: (f"{100 * v:.0f} %", "good" if v == 0 else "warn" if v < 0.1 else "bad")),
    ("lost_words", "lost words", lambda v: (", ".join(map(str, v)), "bad")),
    ("av_offset_ms", "A/V, ms", lambda v: (f"{v:+.0f}", _grade(abs(v), 10.0, 40.0))),
    ("lufs", "LUFS", lambda v: (f"{v:.1f}", "")),
    ("take", "take", lambda v: (f"{v}", "")),
)


def _sheet(mouths):
    figures = []
    for line_id, time_s, png in mouths:
        name = escape(str(line_id), quote=True)
        source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        figures.append(f'<figure><a href="#line-{name}"><img src="{source}" alt="mouth in line {name}"></a><figcaption>{name} · {clock(time_s)}</figcaption></figure>')
    return f'<div class="mouths">{"".join(figures)}</div>' if figures else ""


def _facts(facts):
    if not facts:
        return ""
    rows = (f"<dt>{escape(str(name).replace('_', ' '))}</dt><dd>{escape(_said(value))}</dd>" for name, value in facts.items() if value not in ((), [], {}))
    return f"<dl>{''.join(rows)}</dl>"


def _said(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

"""The report of a dub as one HTML page without network and script; only its links to sounds need the files beside it."""

from __future__ import annotations

import base64
import math
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from mouthpiece.engine.files import atomic_write
from mouthpiece.evaluation.timeline_svg import draw_timeline, format_time_label

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import numpy as np

STATUS_ORDER = ("needs_review", "stale", "draft", "spoken", "approved")
ERROR_FINE_MS, ERROR_BAD_MS = 20.0, 60.0
STRETCH_FINE, STRETCH_BAD = 1.12, 1.20
# lines whose errors are not against their slot
TIMING_NOTES = {"source": "timed as the actor speaks", "mouth": "timed by the lips"}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_DASH = '<span class="soft">–</span>'


def write_page(
    path: Path,
    report: dict[str, Any],
    waves: dict[str, np.ndarray] | None = None,
    mouths: tuple = (),
    *,
    overwrite: bool = False,
    inputs: tuple = (),
) -> Path:
    """Writes the page of a dub.

    path: str or Path.
    report: dict with title, duration_s and lines; and file (quality.file_numbers), loudness, picture, settings (dicts),
    remarks (list of str).
    A line is a dict with id, speaker, start_s, end_s, text, status; and original, spoken_s, rungs, why, sound (path
    beside the page), and numbers
    of quality.line_numbers.  stems: paths beside the page.
    loudness: spec, target_lufs, integrated_lufs, true_peak_dbtp, limit_dbtp.  picture: of quality.picture_changes.
    What is missing is not shown.
    waves: {name: (N, 2) peaks} of drawing.peaks_of.
    mouths: (line id, seconds, PNG bytes) for the contact sheet.
    overwrite, inputs: as for files.output_file.
    Raises UsageProblem for an output in the way, WriteFailed for the disk.
    """
    text = render_page(report, waves or {}, mouths)
    with atomic_write(path, overwrite, inputs) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def render_page(report: dict[str, Any], waves: dict[str, np.ndarray], mouths: tuple) -> str:
    """HTML text of the page; parameters as for write_page."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    title, lines = escape(str(report.get("title") or "Dub")), list(report.get("lines", ()))
    sections = [
        _render_tiles(report, lines),
        _render_section("Remarks", _render_remarks(report)),
        _render_section(
            "When who speaks",
            _render_legend(lines) + draw_timeline(lines, float(report.get("duration_s") or 0.0), waves)
            if lines
            else "",
        ),
        _render_section("Lines, worst first", _render_table(lines)),
        _render_section("Mouths", _render_mouths(mouths)),
        _render_section("Loudness", _render_facts(report.get("loudness"))),
        _render_section("Picture", _render_facts(report.get("picture"))),
        _render_section("Settings", _render_facts(report.get("settings"))),
    ]
    length = f"{format_time_label(float(report.get('duration_s') or 0.0))} · {len(lines)} line{'' if len(lines) == 1 else 's'}"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>\n{style}</style></head>\n'
        f'<body><main><h1>{title}</h1><p class="soft">{length}{_render_stems(report)}</p>\n{"".join(sections)}\n</main></body></html>\n'
    )


def _render_section(title: str, body: str) -> str:
    """A heading and its panel, which the keyboard reaches: a narrow window scrolls in it."""
    return (
        f'<h2>{title}</h2><div class="panel" tabindex="0" role="region" aria-label="{title}">{body}</div>\n'
        if body
        else ""
    )


def _render_stems(report: dict[str, Any]) -> str:
    return "".join(f" · {_render_link(path, Path(path).stem)}" for path in report.get("stems") or ())


def _render_link(path: str, label: str, of: str = "") -> str:
    said = f' aria-label="{escape(label + " " + of, quote=True)}"' if of else ""
    return f'<a href="{quote(str(path))}"{said}>{escape(label)}</a>'


def _render_tiles(report: dict[str, Any], lines: list[dict[str, str]]) -> str:
    """The numbers that decide, coloured: good, look at it, bad."""
    file, loud, picture = (report.get(name) or {} for name in ("file", "loudness", "picture"))
    review = sum(line.get("status") == "needs_review" for line in lines)
    tiles = [_render_tile("lines to review", str(review), "bad" if review else "good")]
    for name, label in (("start_err_ms_p95", "start error, p95"), ("end_err_ms_p95", "end error, p95")):
        if file.get(name) is not None:
            tiles.append(_render_tile(label, f"{file[name]:.0f} ms", _grade(file[name], ERROR_FINE_MS, ERROR_BAD_MS)))
    if file.get("stretch_p95") is not None:
        tiles.append(
            _render_tile(
                "stretch, p95", f"× {file['stretch_p95']:.2f}", _grade(file["stretch_p95"], STRETCH_FINE, STRETCH_BAD)
            )
        )
    if file.get("lost_words") is not None:
        tiles.append(_render_tile("words lost", str(file["lost_words"]), "bad" if file["lost_words"] else "good"))
    if loud.get("integrated_lufs") is not None:
        target = loud.get("target_lufs")
        grade = "" if target is None else _grade(abs(loud["integrated_lufs"] - target), 0.2, 1.0)
        tiles.append(
            _render_tile(
                "loudness" + ("" if target is None else f", wanted {target:g}"),
                f"{loud['integrated_lufs']:.1f} LUFS",
                grade,
            )
        )
    if loud.get("true_peak_dbtp") is not None:
        limit = loud.get("limit_dbtp")
        grade = "" if limit is None else "good" if loud["true_peak_dbtp"] <= limit + 0.05 else "bad"
        tiles.append(
            _render_tile(
                "true peak" + ("" if limit is None else f", at most {limit:g}"),
                f"{loud['true_peak_dbtp']:.1f} dBTP",
                grade,
            )
        )
    if picture.get("frames_match") is not None:
        tiles.append(
            _render_tile(
                f"frames of {picture.get('frames_source', '?')}",
                str(picture.get("frames", "?")),
                "good" if picture["frames_match"] else "bad",
            )
        )
    if picture.get("outside_changed_share") is not None:
        share = 100 * picture["outside_changed_share"]
        tiles.append(_render_tile("pixels changed outside of mouths", f"{share:.3f} %", _grade(share, 0.1, 1.0)))
    return f'<div class="tiles">{"".join(tiles)}</div>\n'


def _render_tile(label: str, value: str, grade: str) -> str:
    return f'<div class="tile {grade}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def _grade(value: float, fine: float, bad: float) -> str:
    return "good" if value <= fine else "warn" if value <= bad else "bad"


def _render_remarks(report: dict[str, Any]) -> str:
    found = [str(remark) for remark in report.get("remarks") or ()]
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in found)}</ul>" if found else ""


def _render_legend(lines: list[dict[str, str]]) -> str:
    there = [status for status in STATUS_ORDER if any(line.get("status") == status for line in lines)]
    marks = [f'<span><i class="{status}"></i>{status.replace("_", " ")}</span>' for status in there]
    if any(line.get("spoken_s") for line in lines):
        marks.append('<span><i class="said"></i>where it sounds</span>')
    return f'<div class="key">{"".join(marks)}</div>'


def compute_severity(line: dict[str, str]) -> tuple[int, float, float]:
    """A key that sorts lines worst first: what a person has to look at, then by how far numbers are off."""
    status = line.get("status", "draft")
    off = [abs(line[name]) / ERROR_FINE_MS for name in ("start_err_ms", "end_err_ms") if line.get(name) is not None]
    off.append(abs(math.log(line["stretch"])) / math.log(STRETCH_FINE) if line.get("stretch") else 0.0)
    off.append(5.0 * len(line.get("lost_words") or ()))
    rank = STATUS_ORDER.index(status) if status in STATUS_ORDER else 0
    return rank, -max(off), line.get("start_s") if line.get("start_s") is not None else math.inf


def _render_table(lines: list[dict[str, str]]) -> str:
    if not lines:
        return ""
    columns = [
        (name, label, write)
        for name, label, write in _COLUMNS
        if any(line.get(name) not in (None, (), []) for line in lines)
    ]
    first = "".join(f'<th scope="col">{name}</th>' for name in ("Line", "Status", "Slot", "Text"))
    heads = "".join(f'<th scope="col" class="number">{label}</th>' for _, label, _ in columns)
    rows = "\n".join(_render_row(line, columns) for line in sorted(lines, key=compute_severity))
    return f"<table><thead><tr>{first}{heads}</tr></thead><tbody>\n{rows}\n</tbody></table>"


def _render_row(line: dict[str, str], columns: list[tuple[str, str, Callable]]) -> str:
    line_id = escape(str(line["id"]), quote=True)
    status = str(line.get("status", "draft"))
    slot = (
        _DASH
        if line.get("start_s") is None
        else f"{format_time_label(line['start_s'])}<br><span class=soft>{line['end_s'] - line['start_s']:.2f} s</span>"
    )
    slot += "<br>" + _render_link(line["sound"], "listen", f"to line {line['id']}") if line.get("sound") else ""
    speaker = f"<b>{escape(str(line['speaker']))}</b> " if line.get("speaker") else ""
    below = [line["original"]] if line.get("original") else []
    below += [" → ".join(_format_rung(rung) for rung in line["rungs"])] if line.get("rungs") else []
    below += (
        [f"{TIMING_NOTES[line['timed_by']]}, {line['aimed_s'][0]:.2f} to {line['aimed_s'][1]:.2f} s"]
        if line.get("aimed_s")
        else []
    )
    below += [line["why"]] if line.get("why") else []
    text = (
        speaker + escape(str(line.get("text", ""))) + "".join(f"<small>{escape(str(part))}</small>" for part in below)
    )
    cells = "".join(_render_cell(line.get(name), write) for name, _, write in columns)
    badge = f'<span class="badge {escape(status, quote=True)}">{escape(status.replace("_", " "))}</span>'
    return f'<tr id="line-{line_id}"><td>{line_id}</td><td>{badge}</td><td class="time">{slot}</td><td class="text">{text}</td>{cells}</tr>'


def _format_rung(rung: str) -> str:
    """A rung of the fit ladder in words; rung: str, or dict with name, amount and note."""
    if not isinstance(rung, dict):
        return str(rung)
    amount = rung.get("amount")
    note = f" ({rung['note']})" if rung.get("note") else ""
    return f"{rung.get('name', '?')}{'' if amount is None else f' {amount:.3g}'}{note}"


def _render_cell(value: float, write: Callable) -> str:
    if value is None or value == () or value == []:
        return f'<td class="number">{_DASH}</td>'
    text, grade = write(value)
    return f'<td class="number {grade}">{escape(text)}</td>'


_COLUMNS = (
    ("start_err_ms", "start, ms", lambda v: (f"{v:+.0f}", _grade(abs(v), ERROR_FINE_MS, ERROR_BAD_MS))),
    ("end_err_ms", "end, ms", lambda v: (f"{v:+.0f}", _grade(abs(v), ERROR_FINE_MS, ERROR_BAD_MS))),
    (
        "stretch",
        "stretch",
        lambda v: (f"{v:.2f}", _grade(max(v, 1 / v), STRETCH_FINE, STRETCH_BAD) if v > 0 else "bad"),
    ),
    ("overlap", "overlap", lambda v: (f"{100 * v:.0f} %", "")),
    ("pause_match", "pauses", lambda v: (f"{100 * v:.0f} %", "")),
    ("rate_ratio", "rate", lambda v: (f"{v:.2f}", "")),
    ("f0_correlation", "melody", lambda v: (f"{v:.2f}", "")),
    ("wer", "WER", lambda v: (f"{100 * v:.0f} %", "good" if v == 0 else "warn" if v < 0.1 else "bad")),
    ("lost_words", "lost words", lambda v: (", ".join(map(str, v)), "bad")),
    ("lufs", "LUFS", lambda v: (f"{v:.1f}", "")),
    ("take", "take", lambda v: (f"{v}", "")),
)


def _render_mouths(mouths: tuple) -> str:
    figures = []
    for line_id, time_s, png in mouths:
        name = escape(str(line_id), quote=True)
        source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        figures.append(
            f'<figure><a href="#line-{name}"><img src="{source}" alt="mouth in line {name}"></a><figcaption>{name} · {format_time_label(time_s)}</figcaption></figure>'
        )
    return f'<div class="mouths">{"".join(figures)}</div>' if figures else ""


def _render_facts(facts: dict[str, Any]) -> str:
    if not facts:
        return ""
    rows = (
        f"<dt>{escape(str(name).replace('_', ' '))}</dt><dd>{escape(_format_value(value))}</dd>"
        for name, value in facts.items()
        if value not in ((), [], {})
    )
    return f"<dl>{''.join(rows)}</dl>"


def _format_value(value: str | float | list[str] | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

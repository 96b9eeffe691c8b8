"""Render the report of a dub as one HTML page without network and scripts; only its links to sounds need files."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from mouthpiece.engine.files import atomic_write
from mouthpiece.evaluation.timeline_svg import draw_timeline, format_time_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

STATUS_ORDER = ("needs_review", "stale", "draft", "spoken", "approved")  # worst first
ERROR_FINE_MS = 20.0  # of the start or the end of a line, up to which it is good
ERROR_BAD_MS = 60.0  # above which it is bad
STRETCH_FINE = 1.12  # factor on the tempo, up to which it is good
STRETCH_BAD = 1.20  # above which it is bad
LOUDNESS_FINE_LU = 0.2  # off the target
LOUDNESS_BAD_LU = 1.0
PEAK_TOLERANCE_DB = 0.05  # above the limit
OUTSIDE_FINE_PERCENT = 0.1  # of the pixels outside of mouths that changed
OUTSIDE_BAD_PERCENT = 1.0
WER_BAD = 0.1  # word error rate from which it is bad
LOST_WORD_SEVERITY = 5.0  # of a lost word, in units of an error of ERROR_FINE_MS
# of lines whose errors are not against their slot
TIMING_NOTES = {"source": "timed as the actor speaks", "mouth": "timed by the lips"}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_DASH = '<span class="soft">–</span>'


def write_page(
    path: str | Path,
    report: Mapping[str, Any],
    waves: Mapping[str, np.ndarray] | None = None,
    mouths: Sequence[tuple[str, float, bytes]] = (),
    *,
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
) -> Path:
    """Write the page of a dub and return its path.

    report: as of mouthpiece.evaluation.dub_report.build_dub_report, with title, duration_s and lines; and where they
        are known file, loudness, picture, settings, remarks, stems (paths beside the page). What is missing is left
        out.
    waves: peaks of sounds by name, (N, 2) as of timeline_svg.compute_waveform_peaks.
    mouths: pictures of mouths: line id, seconds, PNG bytes.
    overwrite, inputs: as for mouthpiece.engine.files.check_output_file.
    Raises UsageError for an output in the way, OutputError for the disk.
    """
    text = render_page(report, waves or {}, mouths)
    with atomic_write(path, overwrite, inputs) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def render_page(
    report: Mapping[str, Any], waves: Mapping[str, np.ndarray], mouths: Sequence[tuple[str, float, bytes]]
) -> str:
    """Render the page as HTML; parameters as for write_page."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    title, lines = escape(str(report.get("title") or "Dub")), list(report.get("lines", ()))
    duration_s = float(report.get("duration_s") or 0.0)
    timeline = _render_legend(lines) + draw_timeline(lines, duration_s, waves) if lines else ""
    sections = [
        _render_tiles(report, lines),
        _render_section("Remarks", _render_remarks(report)),
        _render_section("When who speaks", timeline),
        _render_section("Lines, worst first", _render_table(lines)),
        _render_section("Mouths", _render_mouths(mouths)),
        _render_section("Loudness", _render_facts(report.get("loudness"))),
        _render_section("Picture", _render_facts(report.get("picture"))),
        _render_section("Settings", _render_facts(report.get("settings"))),
    ]
    length = f"{format_time_label(duration_s)} · {len(lines)} line{'' if len(lines) == 1 else 's'}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        f"<style>\n{style}</style></head>\n"
        f'<body><main><h1>{title}</h1><p class="soft">{length}{_render_stems(report)}</p>\n'
        f"{''.join(sections)}\n</main></body></html>\n"
    )


def _render_section(title: str, body: str) -> str:
    """Render a heading and its panel, which the keyboard reaches: a narrow window scrolls in it."""
    if not body:
        return ""
    panel = f'<div class="panel" tabindex="0" role="region" aria-label="{title}">{body}</div>'
    return f"<h2>{title}</h2>{panel}\n"


def _render_stems(report: Mapping[str, Any]) -> str:
    return "".join(f" · {_render_link(path, Path(path).stem)}" for path in report.get("stems") or ())


def _render_link(path: str | Path, label: str, of: str = "") -> str:
    aria = f' aria-label="{escape(label + " " + of, quote=True)}"' if of else ""
    return f'<a href="{quote(str(path))}"{aria}>{escape(label)}</a>'


def _render_tiles(report: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """Render the numbers that decide, coloured: good, to be looked at, bad."""
    review = sum(line.get("status") == "needs_review" for line in lines)
    tiles = [_render_tile("lines to review", str(review), "bad" if review else "good")]
    tiles += _render_line_tiles(report.get("file") or {})
    tiles += _render_loudness_tiles(report.get("loudness") or {})
    tiles += _render_picture_tiles(report.get("picture") or {})
    return f'<div class="tiles">{"".join(tiles)}</div>\n'


def _render_line_tiles(file: Mapping[str, Any]) -> Iterator[str]:
    """Render the summary of all lines. file: of mouthpiece.evaluation.dub_metrics.summarize_lines."""
    for name, label in (("start_err_ms_p95", "start error, p95"), ("end_err_ms_p95", "end error, p95")):
        if file.get(name) is not None:
            yield _render_tile(label, f"{file[name]:.0f} ms", _grade(file[name], ERROR_FINE_MS, ERROR_BAD_MS))
    stretch, lost = file.get("stretch_p95"), file.get("lost_words")
    if stretch is not None:
        yield _render_tile("stretch, p95", f"× {stretch:.2f}", _grade(stretch, STRETCH_FINE, STRETCH_BAD))
    if lost is not None:
        yield _render_tile("words lost", str(lost), "bad" if lost else "good")


def _render_loudness_tiles(loudness: Mapping[str, Any]) -> Iterator[str]:
    lufs, target = loudness.get("integrated_lufs"), loudness.get("target_lufs")
    if lufs is not None:
        grade = "" if target is None else _grade(abs(lufs - target), LOUDNESS_FINE_LU, LOUDNESS_BAD_LU)
        label = "loudness" + ("" if target is None else f", wanted {target:g}")
        yield _render_tile(label, f"{lufs:.1f} LUFS", grade)
    peak, limit = loudness.get("true_peak_dbtp"), loudness.get("limit_dbtp")
    if peak is not None:
        grade = "" if limit is None else "good" if peak <= limit + PEAK_TOLERANCE_DB else "bad"
        label = "true peak" + ("" if limit is None else f", at most {limit:g}")
        yield _render_tile(label, f"{peak:.1f} dBTP", grade)


def _render_picture_tiles(picture: Mapping[str, Any]) -> Iterator[str]:
    if picture.get("frames_match") is not None:
        label = f"frames of {picture.get('frames_source', '?')}"
        yield _render_tile(label, str(picture.get("frames", "?")), "good" if picture["frames_match"] else "bad")
    if picture.get("outside_changed_share") is not None:
        percent = 100 * picture["outside_changed_share"]
        grade = _grade(percent, OUTSIDE_FINE_PERCENT, OUTSIDE_BAD_PERCENT)
        yield _render_tile("pixels changed outside of mouths", f"{percent:.3f} %", grade)


def _render_tile(label: str, value: str, grade: str) -> str:
    return f'<div class="tile {grade}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def _grade(value: float, fine: float, bad: float) -> str:
    return "good" if value <= fine else "warn" if value <= bad else "bad"


def _render_remarks(report: Mapping[str, Any]) -> str:
    items = [f"<li>{escape(str(remark))}</li>" for remark in report.get("remarks") or ()]
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _render_legend(lines: Sequence[Mapping[str, Any]]) -> str:
    present = [status for status in STATUS_ORDER if any(line.get("status") == status for line in lines)]
    marks = [f'<span><i class="{status}"></i>{status.replace("_", " ")}</span>' for status in present]
    if any(line.get("spoken_s") for line in lines):
        marks.append('<span><i class="said"></i>where it sounds</span>')
    return f'<div class="key">{"".join(marks)}</div>'


def compute_severity(line: Mapping[str, Any]) -> tuple[int, float, float]:
    """Compute a key that sorts lines worst first: by what a person has to look at, then by how far numbers are off."""
    status = line.get("status", "draft")
    off = [abs(line[name]) / ERROR_FINE_MS for name in ("start_err_ms", "end_err_ms") if line.get(name) is not None]
    off.append(abs(math.log(line["stretch"])) / math.log(STRETCH_FINE) if line.get("stretch") else 0.0)
    off.append(LOST_WORD_SEVERITY * len(line.get("lost_words") or ()))
    rank = STATUS_ORDER.index(status) if status in STATUS_ORDER else 0
    return rank, -max(off), line["start_s"] if line.get("start_s") is not None else math.inf


class Column(NamedTuple):
    """Describe a column of the table of lines. key: of a line.  format: gives the text of a value and its grade."""

    key: str
    label: str
    format: Callable[[Any], tuple[str, str]]


def _format_error(value: float) -> tuple[str, str]:
    return f"{value:+.0f}", _grade(abs(value), ERROR_FINE_MS, ERROR_BAD_MS)


def _format_stretch(value: float) -> tuple[str, str]:
    return f"{value:.2f}", _grade(max(value, 1 / value), STRETCH_FINE, STRETCH_BAD) if value > 0 else "bad"


def _format_percent(value: float) -> tuple[str, str]:
    return f"{100 * value:.0f} %", ""


def _format_number(value: float) -> tuple[str, str]:
    return f"{value:.2f}", ""


def _format_wer(value: float) -> tuple[str, str]:
    return f"{100 * value:.0f} %", "good" if value == 0 else "warn" if value < WER_BAD else "bad"


_COLUMNS = (
    Column("start_err_ms", "start, ms", _format_error),
    Column("end_err_ms", "end, ms", _format_error),
    Column("stretch", "stretch", _format_stretch),
    Column("overlap", "overlap", _format_percent),
    Column("pause_match", "pauses", _format_percent),
    Column("rate_ratio", "rate", _format_number),
    Column("f0_correlation", "melody", _format_number),
    Column("wer", "WER", _format_wer),
    Column("lost_words", "lost words", lambda words: (", ".join(map(str, words)), "bad")),
    Column("lufs", "LUFS", lambda value: (f"{value:.1f}", "")),
    Column("take", "take", lambda value: (f"{value}", "")),
)


def _render_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Render the table of lines, worst first, with the columns for which any line has a value."""
    if not lines:
        return ""
    columns = [column for column in _COLUMNS if any(line.get(column.key) not in (None, (), []) for line in lines)]
    first = "".join(f'<th scope="col">{name}</th>' for name in ("Line", "Status", "Slot", "Text"))
    heads = "".join(f'<th scope="col" class="number">{column.label}</th>' for column in columns)
    rows = "\n".join(_render_row(line, columns) for line in sorted(lines, key=compute_severity))
    return f"<table><thead><tr>{first}{heads}</tr></thead><tbody>\n{rows}\n</tbody></table>"


def _render_row(line: Mapping[str, Any], columns: Sequence[Column]) -> str:
    line_id = escape(str(line["id"]), quote=True)
    status = str(line.get("status", "draft"))
    slot = _DASH
    if line.get("start_s") is not None:
        length_s = line["end_s"] - line["start_s"]
        slot = f"{format_time_label(line['start_s'])}<br><span class=soft>{length_s:.2f} s</span>"
    if line.get("sound"):
        slot += "<br>" + _render_link(line["sound"], "listen", f"to line {line['id']}")
    cells = "".join(_render_cell(line.get(column.key), column) for column in columns)
    badge = f'<span class="badge {escape(status, quote=True)}">{escape(status.replace("_", " "))}</span>'
    return (
        f'<tr id="line-{line_id}"><td>{line_id}</td><td>{badge}</td><td class="time">{slot}</td>'
        f'<td class="text">{_render_text(line)}</td>{cells}</tr>'
    )


def _render_text(line: Mapping[str, Any]) -> str:
    """Render who says what, and in small letters below it the original, how it was fitted and timed, and why."""
    speaker = f"<b>{escape(str(line['speaker']))}</b> " if line.get("speaker") else ""
    below = [line["original"]] if line.get("original") else []
    if line.get("rungs"):
        below.append(" → ".join(_format_rung(rung) for rung in line["rungs"]))
    if line.get("aimed_s"):
        first_s, last_s = line["aimed_s"]
        below.append(f"{TIMING_NOTES[line['timed_by']]}, {first_s:.2f} to {last_s:.2f} s")
    if line.get("why"):
        below.append(line["why"])
    notes = "".join(f"<small>{escape(str(note))}</small>" for note in below)
    return f"{speaker}{escape(str(line.get('text', '')))}{notes}"


def _format_rung(rung: str | Mapping[str, Any]) -> str:
    """Format a rung of the ladder of fitting. rung: its name, or a dict with name, amount and note."""
    if not isinstance(rung, dict):
        return str(rung)
    amount = rung.get("amount")
    note = f" ({rung['note']})" if rung.get("note") else ""
    return f"{rung.get('name', '?')}{'' if amount is None else f' {amount:.3g}'}{note}"


def _render_cell(value: Any, column: Column) -> str:
    if value is None or value == () or value == []:
        return f'<td class="number">{_DASH}</td>'
    text, grade = column.format(value)
    return f'<td class="number {grade}">{escape(text)}</td>'


def _render_mouths(mouths: Sequence[tuple[str, float, bytes]]) -> str:
    figures = []
    for line_id, time_s, png in mouths:
        name = escape(str(line_id), quote=True)
        source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        image = f'<a href="#line-{name}"><img src="{source}" alt="mouth in line {name}"></a>'
        caption = f"<figcaption>{name} · {format_time_label(time_s)}</figcaption>"
        figures.append(f"<figure>{image}{caption}</figure>")
    return f'<div class="mouths">{"".join(figures)}</div>' if figures else ""


def _render_facts(facts: Mapping[str, Any] | None) -> str:
    if not facts:
        return ""
    rows = (
        f"<dt>{escape(str(name).replace('_', ' '))}</dt><dd>{escape(_format_value(value))}</dd>"
        for name, value in facts.items()
        if value not in ((), [], {})
    )
    return f"<dl>{''.join(rows)}</dl>"


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

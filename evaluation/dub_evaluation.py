"""Evaluate a finished dub from its files: its project says what should sound when, its stems and the film what does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mouthpiece.engine.audio.loudness import measure_file_loudness
from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.engine.timeline import count_samples
from mouthpiece.evaluation.dub_metrics import measure_picture_changes, summarize_lines
from mouthpiece.evaluation.dub_report import MAX_MEASURED_S, RECORDING_HZ, measure_project_lines
from mouthpiece.voice.asr.wer import get_base_language
from mouthpiece.voice.scripts.project_file import read_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from mouthpiece.engine.progress import Progress
    from mouthpiece.voice.scripts.project import Project

    BoxLookup = Callable[[int], Iterable[tuple[float, float, float, float]]]

DIALOGUE_FILE = "dialogue.wav"  # beside the project
CONTEXT_S = 0.05  # before and after a line that are recognized with it


class FinishedDub(NamedTuple):
    """Hold the project of a finished dub and the path of its dialogue stem, which may be missing."""

    project: Project
    stem: Path


def check_dub(video: Path, project_path: Path, recognizer: str) -> FinishedDub:
    """Check what can be known to be wrong with a dub before anything is measured; give its project and its stem.

    video, project_path, recognizer: as in evaluate_dub.
    Raises InvalidInputError for a project that cannot be read or a dub without sound, MissingDependencyError for
    weights of whisper that were asked for and are not installed.
    """
    project, stem = read_project(project_path), Path(project_path).parent / DIALOGUE_FILE
    if not stem.is_file() and not probe(video).has_audio:
        message = f"{video}: no sound in it, and no {DIALOGUE_FILE} beside its project."
        raise InvalidInputError(message, hint="Is this the dub of that project?", code="no_sound")
    if recognizer == "whisper":
        from mouthpiece.voice.asr.whisper_weights import locate_whisper_weights

        locate_whisper_weights(get_base_language(project.language or "en") == "en")
    return FinishedDub(project, stem)


def evaluate_dub(
    video: Path,
    source: Path | None,
    project_path: Path,
    get_boxes: BoxLookup | None,
    recognizer: str,
    progress: Progress,
) -> dict[str, Any]:
    """Evaluate a finished dub, JSON-ready; what cannot be measured is None, with the reason under "reasons".

    video: the dub.  source: the film before it.  project_path: of its project; the stems lie beside it.
    get_boxes: called with the number of a frame, gives the boxes that may change; None: none may.
    recognizer: one of auto, whisper, pocketsphinx, off.
    Gives project, measured_in (what was listened to), recogniser, file (of summarize_lines), lines (as in the report of
    a dub, recognized anew), loudness (integrated_lufs, true_peak_dbtp), picture (of measure_picture_changes), reasons.
    Raises what check_dub raises; InvalidInputError for a file that cannot be read.
    """
    project, stem = check_dub(video, project_path, recognizer)
    reasons: dict[str, str] = {}
    has_stem = stem.is_file()
    dialogue = read_sound(stem if has_stem else video, mono=True)
    if not has_stem:
        missing = f"no {DIALOGUE_FILE} beside the project"
        reasons["lines"] = f"{missing}: words are heard in the mix, times cannot be told in it"
    film = _read_film_sound(source, float(dialogue.duration), reasons)
    timed = dialogue if has_stem else Sound(np.zeros_like(dialogue.samples), dialogue.rate_hz)
    rows = measure_project_lines(project, timed, film)
    recognizer_name = recognize_lines(rows, dialogue, project.language or None, recognizer, progress)
    if recognizer_name is None:
        reasons["wer"] = "--recognizer off"
    return {
        "project": str(project_path),
        "measured_in": DIALOGUE_FILE if has_stem else "mix",
        "recogniser": recognizer_name,
        "file": summarize_lines(rows),
        "lines": rows,
        "loudness": report_loudness(video, reasons),
        "picture": _compare_pictures(video, source, get_boxes, reasons, progress),
        "reasons": reasons,
    }


def _read_film_sound(source: Path | None, duration_s: float, reasons: dict[str, str]) -> Sound | None:
    """Read the film's own sound for comparing; None, with the reason, where there is none or it is too long."""
    if source is None:
        reasons["overlap"] = "needs the film: --against VIDEO"
    elif not probe(source).has_audio:
        reasons["overlap"] = f"{source}: no sound in it"
    elif duration_s > MAX_MEASURED_S:
        reasons["overlap"] = f"longer than {MAX_MEASURED_S:.0f} s"
    else:
        return read_sound(source, RECORDING_HZ, mono=True)
    return None


def recognize_lines(
    rows: list[dict[str, Any]], dialogue: Sound, language: str | None, recognizer: str, progress: Progress
) -> str | None:
    """Replace what the rows of lines say of words by what is recognized in the dialogue now.

    rows: of measure_project_lines, changed in place.  language: of the dialogue, None for unknown.
    Gives the name of the recognizer, None for "off".
    """
    for row in rows:
        row |= {"wer": None, "lost_words": None, "heard": None, "recogniser": None}
    if recognizer == "off":
        return None
    from mouthpiece.voice.asr.transcription import check_intelligibility, open_transcriber

    transcriber = open_transcriber(recognizer, language)
    spoken = [row for row in rows if row.get("spoken_s")]
    with progress.stage("hearing", len(spoken), "line") as advance:
        for row in spoken:
            start_s, end_s = row["spoken_s"]
            edges_s = (start_s - CONTEXT_S, end_s + CONTEXT_S)
            first, last = (count_samples(max(0.0, time_s), dialogue.rate_hz) for time_s in edges_s)
            sound = Sound(dialogue.samples[:, first:last], dialogue.rate_hz)
            hearing = check_intelligibility(transcriber, sound, row["text"], language or "en")
            row |= {"wer": round(hearing.error.rate, 4), "lost_words": list(hearing.lost_words)}
            row |= {"heard": hearing.text, "recogniser": transcriber.name}
            advance(1)
    return transcriber.name


def report_loudness(path: Path, reasons: dict[str, str]) -> dict[str, float | None]:
    """Measure integrated_lufs and true_peak_dbtp of a file's sound, in constant memory.

    reasons: takes "loudness" where the file has no sound.
    """
    if not probe(path).has_audio:
        reasons["loudness"] = "no sound"
        return {"integrated_lufs": None, "true_peak_dbtp": None}
    measured = measure_file_loudness(path)
    return {"integrated_lufs": _round(measured.lufs), "true_peak_dbtp": _round(measured.true_peak_db)}


def _round(value: float | None) -> float | None:
    return None if value is None else round(float(value), 2)


def _compare_pictures(
    video: Path, source: Path | None, get_boxes: BoxLookup | None, reasons: dict[str, str], progress: Progress
) -> dict[str, Any] | None:
    """Measure what changed in the picture; None, with the reason, where one of the two has none."""
    if source is None:
        reasons["picture"] = "needs the film: --against VIDEO"
        return None
    if not (probe(source).has_video and probe(video).has_video):
        reasons["picture"] = "no moving picture in one of the two"
        return None
    with progress.stage("comparing pictures", 1, "film") as advance:
        changes = measure_picture_changes(source, video, get_boxes)
        advance(1)
    return changes

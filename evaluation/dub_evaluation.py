"""A finished dub judged from its files: its project says what should be heard when, its stems and the film what is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.loudness import measure_file_loudness
from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.engine.timeline import count_samples
from mouthpiece.evaluation.dub_metrics import measure_picture_changes, summarize_lines
from mouthpiece.evaluation.dub_report import MAX_MEASURED_S, measure_project_lines
from mouthpiece.voice.asr.wer import get_base_language
from mouthpiece.voice.scripts.project_file import read_project

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.engine.progress import Progress
    from mouthpiece.voice.scripts.project import Project

DIALOGUE_FILE = "dialogue.wav"
CONTEXT_S = 0.05  # of sound heard before and after a line


def check_dub(video: Path, project: Path, listen: str) -> tuple[Project, Path] | None:
    """The Project of a dub and the Path of its stem, after what can be known to be wrong before anything is measured.

    video, project, listen: as in judge_dub.
    Raises Refused for a project that cannot be read or a dub that nothing can be heard of, Missing for weights of
    whisper that are asked for and not there.
    """
    told, stem = read_project(project), Path(project).parent / DIALOGUE_FILE
    if not stem.is_file() and not probe(video).has_audio:
        raise InvalidInputError(
            f"{video}: no sound in it, and no {DIALOGUE_FILE} beside its project.",
            hint="Is this the dub of that project?",
            code="no_sound",
        )
    if listen == "whisper":
        from mouthpiece.voice.asr.whisper_weights import locate_whisper_weights

        locate_whisper_weights(get_base_language(told.language or "en") == "en")
    return told, stem


def evaluate_dub(
    video: Path, source: Path | None, project: Path, mouths, listen: str, progress: Progress
) -> dict[str, Any]:
    """Numbers of a finished dub, JSON-ready; what could not be measured is None and its reason stands in "reasons".

    video: the dub.  source: the film before it, or None.  project: path of its project; the stems lie beside it.
    mouths: called with the number of a frame, gives boxes that may change; None: none may.
    listen: one of LISTENERS.  progress: Progress.
    lines: as in the report of `dub`, heard anew · file: of mouthpiece.evaluation.dub_metrics.summarize_lines ·
    recogniser · measured_in: what was heard
    loudness: integrated_lufs, true_peak_dbtp of the dub · picture: of
    mouthpiece.evaluation.dub_metrics.measure_picture_changes.
    Raises what check_dub raises; Refused for a file that cannot be read.
    Source: ours; docs/evaluate.md.
    """
    (told, stem), reasons = check_dub(video, project, listen), {}
    dialogue = read_sound(stem if stem.is_file() else video, mono=True)
    if not stem.is_file():
        reasons["lines"] = (
            f"no {DIALOGUE_FILE} beside the project: words are heard in the mix, times cannot be told in it"
        )
    film = None
    if source is None:
        reasons["overlap"] = "needs the film: --against VIDEO"
    elif not probe(source).has_audio:
        reasons["overlap"] = f"{source}: no sound in it"
    elif float(dialogue.duration) > MAX_MEASURED_S:
        reasons["overlap"] = f"longer than {MAX_MEASURED_S:.0f} s"
    else:
        film = read_sound(source, 16_000, mono=True)
    alone = dialogue if stem.is_file() else Sound(np.zeros_like(dialogue.samples), dialogue.rate_hz)
    rows = measure_project_lines(told, alone, film)
    recogniser = recognize_lines(rows, dialogue, told.language or None, listen, progress)
    if recogniser is None:
        reasons["wer"] = "--recognizer off"
    judged = dict(
        project=str(project),
        measured_in=DIALOGUE_FILE if stem.is_file() else "mix",
        recogniser=recogniser,
        file=summarize_lines(rows),
        lines=rows,
    )
    judged["loudness"] = report_loudness(video, reasons)
    judged["picture"] = _compare_pictures(video, source, mouths, reasons, progress)
    return judged | dict(reasons=reasons)


def recognize_lines(
    rows: list[dict[str, str]], dialogue: Sound, language, listen: str, progress: Progress
) -> str | None:
    """Replaces what the rows say of words by what is heard in the dialogue now; gives the recogniser's name, None for
    "off". Source: mouthpiece.voice.asr.transcription.
    """
    for row in rows:
        row |= dict(wer=None, lost_words=None, heard=None, recogniser=None)
    if listen == "off":
        return None
    from mouthpiece.voice.asr.transcription import check_intelligibility, open_transcriber

    ears = open_transcriber(listen, language)
    spoken = [row for row in rows if row.get("spoken_s")]
    with progress.stage("hearing", len(spoken), "line") as advance:
        for row in spoken:
            first, last = (
                count_samples(max(0.0, t), dialogue.rate_hz)
                for t in (row["spoken_s"][0] - CONTEXT_S, row["spoken_s"][1] + CONTEXT_S)
            )
            hearing = check_intelligibility(
                ears, Sound(dialogue.samples[:, first:last], dialogue.rate_hz), row["text"], language or "en"
            )
            row |= dict(
                wer=round(hearing.error.rate, 4),
                lost_words=list(hearing.lost_words),
                heard=hearing.text,
                recogniser=ears.name,
            )
            advance(1)
    return ears.name


def report_loudness(path: Path, reasons: dict[str, Any]) -> dict[str, float | None]:
    """Measure integrated_lufs and true_peak_dbtp of a file's sound, in constant memory.

    reasons: takes "loudness" where the file has no sound.
    """
    if not probe(path).has_audio:
        reasons["loudness"] = "no sound"
        return dict(integrated_lufs=None, true_peak_dbtp=None)
    found = measure_file_loudness(path)
    return dict(integrated_lufs=_round(found.lufs), true_peak_dbtp=_round(found.true_peak_db))


def _round(value: float | None) -> float | None:
    return None if value is None else round(float(value), 2)


def _compare_pictures(
    video: Path, source: Path | None, mouths, reasons: dict[str, str], progress: Progress
) -> dict[str, Any] | None:
    if source is None:
        reasons["picture"] = "needs the film: --against VIDEO"
        return None
    if not (probe(source).has_video and probe(video).has_video):
        reasons["picture"] = "no moving picture in one of the two"
        return None
    with progress.stage("comparing pictures", 1, "film") as advance:
        found = measure_picture_changes(source, video, mouths)
        advance(1)
    return found

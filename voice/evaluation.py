"""A finished dub judged from its files: its project says what should be heard when, its stems and the film what is."""

from pathlib import Path

import numpy as np

from engine.errors import Refused
from engine.media import probe, read_sound, sound_stream
from engine.sound import Sound
from engine.timeline import samples_at
from voice.loudness import RATE_HZ, Meter
from voice.project import read_project
from voice.quality import file_numbers, picture_changes
from voice.report import LONGEST_MEASURED_S, rows_of
from voice.words import language_of

STEM = "dialogue.wav"
LISTENERS = ("auto", "whisper", "pocketsphinx", "off")
BESIDE_S = 0.05                        # of sound heard before and after a line


def check_dub(video, project, listen):
    """The Project of a dub and the Path of its stem, after what can be known to be wrong before anything is measured.

    video, project, listen: as in judge_dub.
    Raises Refused for a project that cannot be read or a dub that nothing can be heard of, Missing for weights of whisper that are asked for and not there.
    Source: ours.
    """
    told, stem = read_project(project), Path(project).parent / STEM
    if not stem.is_file() and not probe(video).has_audio:
        raise Refused(f"{video}: no sound in it, and no {STEM} beside its project.", hint="Is this the dub of that project?", code="no_sound")
    if listen == "whisper":
        from voice.ears import whisper_weights

        whisper_weights(language_of(told.language or "en") == "en")
    return told, stem


def judge_dub(video, source, project, mouths, listen, progress):
    """Numbers of a finished dub, JSON-ready; what could not be measured is None and its reason stands in "reasons".

    video: the dub.  source: the film before it, or None.  project: path of its project; the stems lie beside it.
    mouths: called with the number of a frame, gives boxes that may change; None: none may.
    listen: one of LISTENERS.  progress: Progress.
    lines: as in the report of `dub`, heard anew · file: of voice.quality.file_numbers · recogniser · measured_in: what was heard
    loudness: integrated_lufs, true_peak_dbtp of the dub · picture: of voice.quality.picture_changes.
    Raises what check_dub raises; Refused for a file that cannot be read.
    Source: ours; docs/evaluate.md.
    """
    (told, stem), reasons = check_dub(video, project, listen), {}
    dialogue = read_sound(stem if stem.is_file() else video, mono=True)
    if not stem.is_file():
        reasons["lines"] = f"no {STEM} beside the project: words are heard in the mix, times cannot be told in it"
    film = None
    if source is None:
        reasons["overlap"] = "needs the film: --against VIDEO"
    elif not probe(source).has_audio:
        reasons["overlap"] = f"{source}: no sound in it"
    elif float(dialogue.duration) > LONGEST_MEASURED_S:
        reasons["overlap"] = f"longer than {LONGEST_MEASURED_S:.0f} s"
    else:
        film = read_sound(source, 16_000, mono=True)
    alone = dialogue if stem.is_file() else Sound(np.zeros_like(dialogue.samples), dialogue.rate_hz)
    rows = rows_of(told, alone, film)
    recogniser = heard_anew(rows, dialogue, told.language or None, listen, progress)
    if recogniser is None:
        reasons["wer"] = "--listen off"
    judged = dict(project=str(project), measured_in=STEM if stem.is_file() else "mix", recogniser=recogniser, file=file_numbers(rows), lines=rows)
    judged["loudness"] = loudness_of(video, reasons)
    judged["picture"] = _picture(video, source, mouths, reasons, progress)
    return judged | dict(reasons=reasons)


def heard_anew(rows, dialogue, language, listen, progress):
    """Replaces what the rows say of words by what is heard in the dialogue now; gives the recogniser's name, None for "off". Source: voice.listen."""
    for row in rows:
        row |= dict(wer=None, lost_words=None, heard=None, recogniser=None)
    if listen == "off":
        return None
    from voice.listen import heard_back, recogniser

    ears = recogniser(listen, language)
    spoken = [row for row in rows if row.get("spoken_s")]
    with progress.stage("hearing", len(spoken), "line") as advance:
        for row in spoken:
            first, last = (samples_at(max(0.0, t), dialogue.rate_hz) for t in (row["spoken_s"][0] - BESIDE_S, row["spoken_s"][1] + BESIDE_S))
            hearing = heard_back(ears, Sound(dialogue.samples[:, first:last], dialogue.rate_hz), row["text"], language or "en")
            row |= dict(wer=round(hearing.error.rate, 4), lost_words=list(hearing.lost_words), heard=hearing.text, recogniser=ears.name)
            advance(1)
    return ears.name


def loudness_of(path, reasons):
    """integrated_lufs and true_peak_dbtp of a file's sound, in constant memory. Source: BS.1770-4; voice.loudness."""
    if not probe(path).has_audio:
        reasons["loudness"] = "no sound"
        return dict(integrated_lufs=None, true_peak_dbtp=None)
    with sound_stream(path, RATE_HZ) as (_, blocks):
        meter = None
        for block in blocks:
            meter = meter or Meter(block.shape[0])
            meter.add(block)
    found = meter.result()
    return dict(integrated_lufs=_rounded(found.lufs), true_peak_dbtp=_rounded(found.true_peak_db))


def _rounded(value):
    return None if value is None else round(float(value), 2)


def _picture(video, source, mouths, reasons, progress):
    if source is None:
        reasons["picture"] = "needs the film: --against VIDEO"
        return None
    if not (probe(source).has_video and probe(video).has_video):
        reasons["picture"] = "no moving picture in one of the two"
        return None
    with progress.stage("comparing pictures", 1, "film") as advance:
        found = picture_changes(source, video, mouths)
        advance(1)
    return found

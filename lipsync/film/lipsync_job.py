"""The job of moving the lips of a film: which faces, which seconds, which sound; everything that is checked before a
frame is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import measure_sound_duration, read_sound
from mouthpiece.face.detect import parse_face_choice
from mouthpiece.lipsync.film.spans import find_changed_spans, merge_spans, parse_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from mouthpiece.engine.contracts import Articulation
    from mouthpiece.engine.media.film import Film
    from mouthpiece.engine.types import MediaInfo
    from mouthpiece.lipsync.models import LipsyncModels
    from mouthpiece.lipsync.options import LipsyncOptions

SILENT_PEAK = 1e-3  # amplitude; sound that goes on after the film below this peak is cut without asking
FALLBACK_RATE = Fraction(25)  # frames a second, of a film whose header names no rate


class FaceEdit(NamedTuple):
    """Say which face of a film is to speak, and when.

    spans_s: (start, end) pairs in seconds; None: all of the film.
    face: as for `face.detect.parse_face_choice`.
    articulation: as in `LipsyncJob`, for this face alone; None: the job's.
    predict: called with the models and the starts of the frames (F,) in seconds, returns mouth and jaw codes (F, 21);
    None: they are predicted from articulation and sound.
    """

    spans_s: Sequence[tuple[float, float]] | None
    face: str = "largest"
    articulation: Articulation | None = None
    predict: Callable[[LipsyncModels, np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class LipsyncJob:
    """Hold a change of lips that has passed every check of its inputs; no frame has been looked at.

    sound: path, what is to be heard.
    edits: one for each face.
    info: of the video.
    wave: (S,) float32 at RATE_HZ, the sound that the lips follow.
    articulation: from time zero; replaces what is recognised in the ticks that it knows; None: in none.
    """

    video: Path
    sound: Path
    options: LipsyncOptions
    edits: tuple[FaceEdit, ...]
    info: MediaInfo
    wave: np.ndarray = field(repr=False)
    articulation: Articulation | None = field(default=None, repr=False)

    def plan(self) -> dict[str, Any]:
        """Describe what will be written, JSON-ready: rate, size, spans_s of each face, duration_s as the
        header has it.
        """
        info = self.info
        faces = [
            {"face": str(edit.face), "spans_s": None if edit.spans_s is None else [list(span) for span in edit.spans_s]}
            for edit in self.edits
        ]
        return {
            "rate": str(info.rate),
            "width_px": info.width_px,
            "height_px": info.height_px,
            "variable_rate": info.variable_rate,
            "duration_s": None if info.duration is None else float(info.duration),
            "faces": faces,
        }


def prepare_lipsync(
    video: Path,
    sound: Path,
    options: LipsyncOptions,
    spans: Sequence[tuple[float, float]] | None = None,
    articulation: Articulation | None = None,
    *,
    faces: Sequence[FaceEdit] | None = None,
    lips_from: Path | None = None,
) -> LipsyncJob:
    """Check a film and its new sound as far as that needs no look at the frames, and return the job.

    video: path with a moving picture.  sound: sound or video file, what is to be heard.
    options: its face and spans are for jobs with one face.
    spans: (start, end) pairs in seconds to change; None: those of the options, else wherever the sound differs from the
    film's own.
    articulation: as in `LipsyncJob`.
    faces: edits of several faces; None: the face of the options in `spans`.
    lips_from: recording that the lips follow instead of the sound, such as the dialogue of a mix.
    Raises InvalidInputError for a film without picture, a file without sound, sound longer than the film, spans beyond
    its end; UsageError for a choice of face that cannot be read.
    """
    info = probe(video)
    if not info.has_video:
        raise InvalidInputError(
            f"{video}: no moving picture in it.", hint="Give a video; for a still picture use animate.", code="no_video"
        )
    wave = read_sound(sound if lips_from is None else lips_from, RATE_HZ, mono=True).samples[0]
    if info.duration is not None:
        check_length(sound, info.duration, info.rate, options)
    if faces is None:
        spans = parse_spans(options.spans) if spans is None else spans
        if spans is None and articulation is None and info.has_audio:
            original = read_sound(video, RATE_HZ, mono=True).samples[0]
            spans = find_changed_spans(original, read_sound(sound, RATE_HZ, mono=True).samples[0])
        faces = [FaceEdit(spans, options.face)]
    return LipsyncJob(Path(video), Path(sound), options, _check_edits(faces, info, video), info, wave, articulation)


def prepare_edits(film: Film, sound: Path, options: LipsyncOptions, edits: Sequence[FaceEdit]) -> LipsyncJob:
    """Return the job of edits that are already planned, in a film that was opened; its frames set the length.

    sound: what is to be heard; what goes on after the film is cut.
    Raises InvalidInputError for spans beyond the end of the film, UsageError for a choice of face that cannot be read.
    """
    wave = read_sound(sound, RATE_HZ, mono=True).samples[0]
    return LipsyncJob(film.path, sound, options, _check_edits(edits, film.info, film.path), film.info, wave)


def _check_edits(edits: Sequence[FaceEdit], info: MediaInfo, video: Path) -> tuple[FaceEdit, ...]:
    """Check faces and spans of edits; return them with spans that overlap merged."""
    merged = tuple(edit._replace(spans_s=None if edit.spans_s is None else merge_spans(edit.spans_s)) for edit in edits)
    for edit in merged:
        parse_face_choice(edit.face)
        check_spans(edit.spans_s, info, video)
    return merged


def check_spans(spans: Sequence[tuple[float, float]] | None, info: MediaInfo, video: Path) -> None:
    """Check that spans, in order, begin before the film ends. Raises InvalidInputError."""
    if spans and info.duration is not None and spans[-1][0] >= info.duration:
        start, stop = spans[-1]
        raise InvalidInputError(
            f"{video}: ends at {float(info.duration):.2f} s, a span to change is {start:g}-{stop:g} s.",
            hint="Give spans within the film; is this the right one?",
            code="span_outside",
        )


def check_length(sound: Path, duration: Fraction, rate: Fraction | None, options: LipsyncOptions) -> None:
    """Check that sound goes on after the film by at most a frame, unless the remainder is silent or may be cut.

    duration: of the film, seconds.  rate: frames a second.
    Raises InvalidInputError.
    """
    over, frame_s = measure_sound_duration(sound) - duration, 1 / (rate or FALLBACK_RATE)
    if over <= frame_s or options.long_sound == "cut":
        return
    remainder = read_sound(sound, RATE_HZ, mono=True).samples[0][int((duration + frame_s) * RATE_HZ) :]
    if np.abs(remainder).max(initial=0) > SILENT_PEAK:
        raise InvalidInputError(
            f"{sound}: goes on for {float(over):.2f} s after the film has ended ({float(duration):.2f} s).",
            hint="Shorten it, or give --long-sound cut; the film's frames set the length.",
            code="sound_too_long",
        )

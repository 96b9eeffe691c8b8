"""Prepare dialogue for synthesis: the script read and timed, every speaker with a voice, every line with its slot."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.timeline import DELIVERY_HZ, round_half_up
from mouthpiece.voice.backends.casting import assign_voices, parse_casting
from mouthpiece.voice.backends.registry import load_voice
from mouthpiece.voice.plan.slot_fitting import TimeSlot
from mouthpiece.voice.scripts.formats import read_script

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.media.film import Film
    from mouthpiece.engine.provenance.consent import Consent
    from mouthpiece.face.film_tracks import FilmFaceTracker
    from mouthpiece.voice.options import DialogueOptions
    from mouthpiece.voice.scripts.script import Line, Script
    from mouthpiece.voice.scripts.script_format import ScriptFile

MIN_SLOT_S = Fraction(1, 50)  # shorter slots hold no speech


@dataclass(frozen=True, eq=False)
class SpeechJob:
    """Hold dialogue that is known to be possible.

    film: picture, sound or both.  script: its lines all have times.  options: of the dialogue.
    casting: voice or mix by speaker.  language: of the dialogue.
    line_voices: voice or mix by line id, of lines with a voice of their own.
    speaker_faces: face by speaker; the others have the options' face.
    consent: of the person whose voice is matched.
    face_tracker: of the film's faces; None tracks them anew, without keeping anything.
    """

    film: Film
    script: Script
    options: DialogueOptions
    casting: dict[str, str]
    language: str
    line_voices: dict[str, str] = field(default_factory=dict)
    speaker_faces: dict[str, str] = field(default_factory=dict)
    consent: Consent | None = None
    face_tracker: FilmFaceTracker | None = None

    @property
    def duration(self) -> Fraction:
        """Get the length of the film, exact seconds."""
        return self.film.duration

    @property
    def samples(self) -> int:
        """Get the length of the dialogue in samples at 48 kHz."""
        return round_half_up(self.duration * DELIVERY_HZ)

    def get_face(self, speaker: str) -> str:
        """Get the face of a speaker: his own, else the options'."""
        return self.speaker_faces.get(speaker, self.options.face)

    def plan(self) -> dict[str, Any]:
        """Describe what will be done, JSON-ready."""
        remarks = [{"kind": r.kind, "text": r.text, "line": r.line_id} for r in self.script.remarks]
        return {
            "lines": len(self.script.lines),
            "duration_s": float(self.duration),
            "language": self.language,
            "voices": self.casting,
            "remarks": remarks,
        }


def prepare_speech(
    film: Film,
    script_path: str | Path,
    options: DialogueOptions,
    script_file: ScriptFile | None = None,
) -> SpeechJob:
    """Read a film's script and check that all of it can be spoken.

    script_path, script_file: as for mouthpiece.voice.scripts.formats.read_script.
    Raises InvalidInputError for what cannot be read, UsageError for what has to be said on the command line.
    """
    script = read_script(script_path, options=options.get_script_reading(film.duration), file=script_file)
    return make_speech_job(film, script, options)


def make_speech_job(
    film: Film, script: Script, options: DialogueOptions, default_casting: dict[str, str] | None = None
) -> SpeechJob:
    """Make the job of a film and a script; raise what prepare_speech raises.

    default_casting: voices by speaker for those whom the options give none, such as a project's.
    """
    script = time_script(script, film, options)
    language = _resolve_language(options, script)
    speakers = tuple(dict.fromkeys(line.speaker for line in script.lines))
    casting = parse_casting(options.voice)
    if "" not in casting:
        known = {name: spec for name, spec in (default_casting or {}).items() if name in speakers and spec}
        casting = known | casting
    return SpeechJob(film, script, options, assign_voices(casting, speakers, language), language)


def _resolve_language(options: DialogueOptions, script: Script) -> str:
    """Resolve the language of the dialogue: the options', the script's, a line's, else the voice's own."""
    from mouthpiece.voice.backends.registry import load_voice_facts, normalize_language

    asked = options.language or script.language or next((line.language for line in script.lines if line.language), "")
    if not asked:
        spec = next((spec for spec in parse_casting(options.voice).values() if spec != "match"), None)
        return "en-us" if spec is None else load_voice(spec).language
    return normalize_language(asked) if asked not in load_voice_facts()["languages"] else asked


def time_script(script: Script, film: Film, options: DialogueOptions) -> Script:
    """Give a script without times those of the speech that is recognized in the film; leave a timed one as it is."""
    if all(line.start is not None for line in script.lines):
        return script
    from mouthpiece.voice.asr.transcription import open_transcriber
    from mouthpiece.voice.scripts.line_placement import place_lines

    hint = "Give a script with times, such as SRT."
    if not film.info.has_audio:
        message = f"{script.source}: the script has no times, and the film has no sound to find them in."
        raise UsageError(message, hint=hint, code="no_times")
    choice = "auto" if options.recognizer == "off" else options.recognizer
    spans = [(p.start_s, p.stop_s, p.text) for p in open_transcriber(choice).transcribe(film.path)]
    if not spans:
        message = f"{film.path}: nobody speaks in it, so a script without times has no place."
        raise InvalidInputError(message, hint=hint, code="no_speech")
    return place_lines(script, spans)


def build_slots(job: SpeechJob) -> dict[str, TimeSlot]:
    """Build the slot of each line within the film, by line id, with the silence beside it; skip lines without one."""
    timed: list[tuple[Fraction, Fraction, Line]] = []
    for line in job.script.lines:
        if line.times is not None and is_speakable(line):
            start, end = line.times[0], min(line.times[1], job.duration)
            if start < job.duration and end - start >= MIN_SLOT_S:
                timed.append((start, end, line))
    timed.sort(key=lambda row: row[:2])
    slots: dict[str, TimeSlot] = {}
    latest: tuple[Fraction, Line] | None = None  # end of what sounds longest so far, and whose it is
    for k, (start, end, line) in enumerate(timed):
        later = timed[k + 1 :]
        after = next((row for row in later if row[0] >= end), None)
        before_s = start if latest is None else start - latest[0]
        after_s = (after[0] if after else job.duration) - end
        overlapped = any(row[0] < end for row in later[:1])
        slots[line.id] = TimeSlot(
            start,
            end,
            max(0.0, float(before_s)),
            0.0 if overlapped else max(0.0, float(after_s)),
            latest is not None and latest[1].speaker == line.speaker,
            after is not None and after[2].speaker == line.speaker,
            on_screen=line.on_screen == "on",
        )
        if latest is None or end > latest[0]:
            latest = (end, line)
    return slots


def is_speakable(line: Line) -> bool:
    """Say whether a line has text and a time to speak it in."""
    return line.times is not None and bool(line.text.strip()) and line.times[1] > line.times[0]

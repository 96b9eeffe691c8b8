"""Speak the lines of a script in their slots, as near to the actor's timing as the film shows it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.errors import InvalidInputError, MouthpieceError
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.engine.timeline import round_half_up
from mouthpiece.face.film_tracks import track_faces
from mouthpiece.voice.backends.registry import load_voice
from mouthpiece.voice.delivery import place_sound
from mouthpiece.voice.line_synthesis import (
    GuideTrack,
    SpokenTake,
    plan_text,
    review_intelligibility,
    speak_untimed_in_slot,
    synthesize_line,
)
from mouthpiece.voice.speech_job import build_slots, is_speakable
from mouthpiece.voice.timing.prosody_transfer import parse_prosody_amount

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import Any

    from mouthpiece.engine.contracts import FaceTracks
    from mouthpiece.engine.progress import Progress
    from mouthpiece.voice.asr.transcription import Transcriber
    from mouthpiece.voice.backends.backend import Voice
    from mouthpiece.voice.backends.voice_matching import VoiceMatch
    from mouthpiece.voice.mix.mixdown import PlacedSound
    from mouthpiece.voice.options import DialogueOptions
    from mouthpiece.voice.plan.slot_fitting import TimeSlot
    from mouthpiece.voice.scripts.script import Line
    from mouthpiece.voice.speech_job import SpeechJob
    from mouthpiece.voice.text.phones import Utterance
    from mouthpiece.voice.timing.lip_timing import LipReading

RECORDING_HZ = 16000
RECORDING_MARGIN_S = 0.3  # of the recording before and after a slot in which the actor's line is looked for
AFTER_END = "it begins after the film has ended: nothing is spoken"


@dataclass(frozen=True)
class SpokenLine:
    """Hold what was spoken for a line of the script.

    line: of the script.  takes: the first is in use; empty where nothing could be said.
    why: the reason where a take is missing.
    """

    line: Line
    takes: tuple[SpokenTake, ...]
    why: str = ""

    @property
    def needs_review(self) -> bool:
        """Say whether a person should listen."""
        return bool(self.why) or any(take.needs_review for take in self.takes[:1])

    def as_dict(self) -> dict[str, Any]:
        """Describe the line and its takes, JSON-ready."""
        line = self.line
        return {
            "id": line.id,
            "speaker": line.speaker,
            "text": line.text,
            "start_s": _round_seconds(line.start),
            "end_s": _round_seconds(line.end),
            "needs_review": self.needs_review,
            "why": "; ".join(filter(None, [self.why, *(take.why for take in self.takes[:1])])),
            "takes": [take.as_dict() for take in self.takes],
        }


def _round_seconds(time: Fraction | None) -> float | None:
    return None if time is None else round(float(time), 4)


@dataclass(frozen=True, eq=False)
class FilmEvidence:
    """Hold what the film shows and sounds of its actors.

    recording: (S,) float32 at 16 kHz, the film's sound; None where it has no say.
    lips: what was read from the lips, by line id.
    """

    recording: np.ndarray | None = field(default=None, repr=False)
    lips: Mapping[str, LipReading] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class LineSettings:
    """Say how a line is spoken.

    options: of the dialogue.  transcriber: checks that the takes are intelligible; None checks nothing.
    match: of the voice to the actor, where it was matched.  first_take: index of the first take.
    """

    options: DialogueOptions
    transcriber: Transcriber | None = None
    match: VoiceMatch | None = None
    first_take: int = 0


def speak_lines(
    job: SpeechJob,
    progress: Progress,
    line_ids: Collection[str] | None = None,
    first_takes: Mapping[str, int] | None = None,
) -> Iterator[SpokenLine]:
    """Speak the lines of a job in the script's order; a line that cannot be spoken is given with the reason.

    line_ids: of the lines that are wanted; None is all.
    first_takes: index of the first take by line id, 0 for those not named.
    """
    from mouthpiece.voice.asr.transcription import open_transcriber

    options, slots = job.options, build_slots(job)
    lines = [line for line in job.script.lines if line_ids is None or line.id in line_ids]
    with_sound = job.film.info.has_audio and needs_film_sound(job)
    recording = read_sound(job.film.path, RECORDING_HZ, mono=True).samples[0] if with_sound else None
    evidence = FilmEvidence(recording, _read_lips(job, [line for line in lines if line.id in slots], slots, progress))
    casting, matches = _match_voices(job, recording, slots)
    transcriber = None if options.recognizer == "off" else open_transcriber(options.recognizer, job.language)
    with progress.stage("speaking", len(lines), "line") as advance:
        for line in lines:
            slot = slots.get(line.id)
            if slot is None and is_speakable(line) and line.times and line.times[0] >= job.duration:
                yield SpokenLine(line, (), AFTER_END)
            else:
                voice = load_voice(job.line_voices.get(line.id) or casting[line.speaker])
                first_take = (first_takes or {}).get(line.id, 0)
                settings = LineSettings(options, transcriber, matches.get(line.speaker), first_take)
                yield speak_line(line, slot, voice, make_guide(job, line, slot, evidence, transcriber), settings)
            advance(1)


def needs_film_sound(job: SpeechJob) -> bool:
    """Say whether the film's own sound is needed: for its prosody, or to match voices."""
    return parse_prosody_amount(job.options.prosody) > 0 or "match" in job.casting.values()


def _read_lips(
    job: SpeechJob, lines: list[Line], slots: Mapping[str, TimeSlot], progress: Progress
) -> dict[str, LipReading]:
    """Read the lips of visible speakers, by line id."""
    if not job.film.info.has_video or job.options.lip_timing == "off":
        return {}
    by_face: dict[str, list[Line]] = {}
    for line in lines:
        if line.on_screen != "off":
            by_face.setdefault(job.get_face(line.speaker), []).append(line)
    lips: dict[str, LipReading] = {}
    for face, own_lines in by_face.items():
        lips |= _read_face_lips(job, face, {line.id: slots[line.id] for line in own_lines}, progress)
    return lips


def _read_face_lips(
    job: SpeechJob, face: str, slots: Mapping[str, TimeSlot], progress: Progress
) -> dict[str, LipReading]:
    """Read the lips of one face in the slots of its lines, by line id; nothing where the largest face is nobody's."""
    from mouthpiece.voice.timing.lip_timing import read_lip_spans

    spans = [(float(slot.start_s), float(slot.end_s)) for slot in slots.values()]
    try:
        tracks = _track_face(job, face, progress)
        with progress.stage("watching lips", None, "frame"):
            readings = read_lip_spans(job.film.path, spans, tracks)
    except InvalidInputError as problem:
        if problem.code not in ("no_face", "no_such_face") or face != "largest":
            raise
        return {}  # nobody is seen: slots and recordings set the times
    return {line_id: lips for line_id, lips in zip(slots, readings) if lips is not None}


def _track_face(job: SpeechJob, face: str, progress: Progress) -> FaceTracks:
    """Track a face through the film, with the job's tracker where it has one."""
    if job.face_tracker is not None:
        return job.face_tracker.track((face,), progress)
    with progress.stage("following the face", job.film.info.frames) as advance:
        return track_faces(job.film.path, (face,), advance, identify=False)


def _match_voices(
    job: SpeechJob, recording: np.ndarray | None, slots: Mapping[str, TimeSlot]
) -> tuple[dict[str, str], dict[str, VoiceMatch]]:
    """Put the nearest voices in place of "match" in the casting; give it and the match by speaker."""
    casting, matches = dict(job.casting), {}
    for speaker, spec in job.casting.items():
        if spec != "match":
            continue
        from mouthpiece.voice.backends.registry import list_castable_voices
        from mouthpiece.voice.backends.voice_matching import make_reader, match_voice

        own_slots = [slots[line.id] for line in job.script.lines if line.speaker == speaker and line.id in slots]
        if recording is None or not own_slots:
            who = f"speaker '{speaker}'" if speaker else "the speaker"
            message = f"--voice match: there is no sound of {who} in the film."
            raise InvalidInputError(message, hint="Name a voice.", code="no_reference")
        edges = [[round_half_up(Fraction(t) * RECORDING_HZ) for t in (s.start_s, s.end_s)] for s in own_slots]
        own_recording = np.concatenate([recording[start:stop] for start, stop in edges])
        names = [candidate.name for candidate in list_castable_voices() if candidate.speaks(job.language)]
        matches[speaker] = match_voice(own_recording, names, make_reader(load_voice, job.language), job.consent)
        casting[speaker] = matches[speaker].spec
    return casting, matches


def make_guide(
    job: SpeechJob,
    line: Line,
    slot: TimeSlot | None,
    evidence: FilmEvidence,
    transcriber: Transcriber | None,
) -> GuideTrack:
    """Make the guide of a line: the actor's own line where the film's sound has a say, and his lips."""
    lips = evidence.lips.get(line.id)
    if evidence.recording is None or slot is None:
        return GuideTrack(lips=lips)
    start = max(0, round_half_up((Fraction(slot.start_s) - Fraction(RECORDING_MARGIN_S)) * RECORDING_HZ))
    end = round_half_up((Fraction(slot.end_s) + Fraction(RECORDING_MARGIN_S)) * RECORDING_HZ)
    translated = bool(line.original) and line.original.strip() != line.text.strip()
    return GuideTrack(
        evidence.recording[start : min(len(evidence.recording), end)],
        start / RECORDING_HZ,
        (job.script.original_language or "another") if translated else None,
        job.options.get_prosody_options(),
        transcriber and transcriber.whisper,
        lips,
    )


def speak_line(
    line: Line, slot: TimeSlot | None, voice: Voice, guide: GuideTrack, settings: LineSettings
) -> SpokenLine:
    """Speak the takes of one line; give it with the reason where a take cannot be made."""
    if slot is None:
        return SpokenLine(line, (), explain_unspoken(line))
    takes, options = [], settings.options
    try:
        for index in range(settings.first_take, settings.first_take + options.takes):
            take = _speak_take(line, slot, voice, guide, settings, index)
            if settings.transcriber is not None:
                take = review_intelligibility(take, line.text, settings.transcriber, voice.language)
            takes.append(take)
    except MouthpieceError as problem:
        if problem.exit_code != InvalidInputError.exit_code:
            raise
        return SpokenLine(line, tuple(takes), str(problem))
    return SpokenLine(line, tuple(takes))


def _speak_take(
    line: Line, slot: TimeSlot, voice: Voice, guide: GuideTrack, settings: LineSettings, index: int
) -> SpokenTake:
    """Speak take `index` of a line in its slot."""
    options, match = settings.options, settings.match
    utterances: Sequence[Utterance] = ()
    if voice.timed:
        plans, utterances = plan_text(voice, line.text, options.speed, options.dictionary, index, options.seed)
        if match is not None:
            factor = np.float32(2 ** (match.pitch_shift_st / 12))
            plans = [plan.replace_curves(f0=plan.f0 * factor) for plan in plans]
        take = synthesize_line(voice, plans, slot, guide)
    else:
        take = speak_untimed_in_slot(voice, line.text, slot, options)
    notes = [note for utterance in utterances for note in utterance.notes]
    omitted = [word for utterance in utterances for word in utterance.omitted_words]
    why = f"not said: {' '.join(omitted)}" if omitted else ""
    take = take.add_review(why, notes=notes, voice=voice.name)
    return take if match is None else apply_timbre(take, match)


def apply_timbre(take: SpokenTake, match: VoiceMatch) -> SpokenTake:
    """Shift the formants of a take towards the actor's, and record the match in its facts."""
    from mouthpiece.voice.backends.voice_matching import apply_formant_shift

    wave = apply_formant_shift(take.sound.samples[0], take.sound.rate_hz, match.formant_ratio)
    return replace(take, sound=Sound(wave[None], take.sound.rate_hz), facts=take.facts | {"match": match.as_dict()})


def explain_unspoken(line: Line) -> str:
    """Explain why a line without a slot is not spoken."""
    if not line.text.strip():
        return "no text: nothing is spoken"
    if line.times is None:
        return "no times: nothing is spoken"
    start, end = line.times
    return f"its slot has {float(end - start) * 1000:.0f} ms: nothing is spoken"


def place_take(spoken_line: SpokenLine, index: int = 0, watermark: bool = False) -> PlacedSound | None:
    """Place a take of a line in the programme at 48 kHz, its last one where it has fewer; None where it has none."""
    if not spoken_line.takes:
        return None
    take = spoken_line.takes[min(index, len(spoken_line.takes) - 1)]
    return place_sound(take.sound, take.start_s, watermark)

"""speak: every line of a script spoken into its slot, as a dialogue stem of exactly the film's length."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.errors import InvalidInputError, MouthpieceError, UsageError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import measure_sound_duration, read_sound
from mouthpiece.engine.media.writing import read_delivery_blocks
from mouthpiece.engine.timeline import DELIVERY_HZ, round_half_up
from mouthpiece.voice.backends.casting import assign_voices, parse_casting
from mouthpiece.voice.backends.registry import load_voice
from mouthpiece.voice.line_synthesis import GuideTrack, SpokenTake, plan_text, review_intelligibility, synthesize_line
from mouthpiece.voice.mix.mixdown import PlacedSound
from mouthpiece.voice.options import DialogueOptions
from mouthpiece.voice.plan.slot_fitting import FitLimits, TimeSlot
from mouthpiece.voice.scripts.formats import read_script
from mouthpiece.voice.scripts.script import Script
from mouthpiece.voice.timing.prosody_transfer import parse_prosody_amount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from mouthpiece.engine.progress import Progress
    from mouthpiece.engine.types import MediaInfo
    from mouthpiece.voice.backends.backend import Voice
    from mouthpiece.voice.options import SpeakOptions
    from mouthpiece.voice.scripts.script import Line
    from mouthpiece.voice.scripts.script_format import ScriptFile

RECORDING_HZ = 16000
# of the recording around a slot in which the actor's line is looked for
RECORDING_MARGIN_S = 0.3
MIN_SLOT_S = Fraction(1, 50)


@dataclass(frozen=True, eq=False)
class SpeechJob:
    """Dialogue known to be possible: script read, film probed, every speaker with a voice.

    video: path.  script: Script.  options: DialogueOptions.
    duration: Fraction, seconds of the film.  casting: {speaker: spec}.  language: of the dialogue.
    has_sound, has_picture: of the film.
    """

    video: Path
    script: Script
    options: DialogueOptions
    duration: Fraction
    casting: dict
    language: str
    has_sound: bool
    has_picture: bool
    line_voices: dict = field(default_factory=dict)  # {line id: spec} of lines with a voice of their own
    # mouthpiece.engine.provenance.consent.Consent of the person whose voice is matched
    consent: object = None
    # {speaker: face} of those who have one of their own; the others have the options'
    speaker_faces: dict = field(default_factory=dict)
    # called with a face, gives it as mouthpiece.voice.timing.lip_timing.track_speaker_face does; None looks itself
    follow: object = None

    @property
    def samples(self) -> int:
        """Length of the dialogue at 48 kHz."""
        return round_half_up(self.duration * DELIVERY_HZ)

    def plan(self) -> dict[str, Any]:
        """What will be done, JSON-ready."""
        remarks = [dict(kind=r.kind, text=r.text, line=r.line_id) for r in self.script.remarks]
        return dict(
            lines=len(self.script.lines),
            duration_s=float(self.duration),
            language=self.language,
            voices=self.casting,
            remarks=remarks,
        )


@dataclass(frozen=True)
class SpokenLine:
    """A line of the script with what was spoken for it: takes, the first being used; empty where nothing could be said,
    then why says it.
    """

    line: object
    takes: tuple[SpokenTake, ...]
    why: str = ""
    facts: dict = field(default_factory=dict)

    @property
    def needs_review(self) -> bool:
        """Whether a person should look."""
        return bool(self.why) or any(take.needs_review for take in self.takes[:1])

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready facts of the line."""
        line = self.line
        rows = [dict(start_s=round(float(t.start_s), 4), duration_s=round(float(t.sound.duration), 4), timed_by=t.timed_by, needs_review=t.needs_review,
                     why=t.why, plans=[plan.as_dict() | dict(start_s=float(at)) for plan, at in t.plans]) | t.facts for t in self.takes]  # fmt: skip
        why = "; ".join(filter(None, [self.why, *(t.why for t in self.takes[:1])]))
        return dict(id=line.id, speaker=line.speaker, text=line.text, start_s=_round_seconds(line.start), end_s=_round_seconds(line.end),
                    needs_review=self.needs_review, why=why, takes=rows) | self.facts  # fmt: skip


def _round_seconds(time: Fraction) -> float:
    return None if time is None else round(float(time), 4)


def prepare_speech(
    video: Path, script_path: Path, options: SpeakOptions, script_file: ScriptFile | None = None
) -> SpeechJob | None:
    """The Job of a film and its script, after every check of them.

    video: film with picture, sound or both.  script_path, said: as for read_script.  options: DialogueOptions.
    Raises Refused for what cannot be read, UsageProblem for what must be told.
    """
    return make_speech_job(
        video,
        read_script(script_path, options=options.get_script_reading(probe_film(video)[1]), file=script_file),
        options,
    )


def probe_film(video: Path) -> tuple[MediaInfo, Fraction] | None:
    """(MediaInfo, duration as Fraction seconds) of a film or of a sound alone. Raises Refused."""
    info = probe(video)
    duration = info.duration if info.has_video else measure_sound_duration(video)
    if duration == 0:
        raise InvalidInputError(f"{video}: it lasts 0 s.", hint="Give a complete recording or video.", code="too_short")
    if duration is None:
        raise InvalidInputError(
            f"{video}: its length is not known.",
            hint="Remux it, for instance to .mkv, and try again.",
            code="no_duration",
        )
    return info, duration


def make_speech_job(
    video: Path, script: Script, options: DialogueOptions, default_casting: dict[str, str] | None = None
) -> SpeechJob | None:
    """The Job of a film and a Script.

    given: {speaker: spec} for whom the options give none, such as a project's.
    Raises what prepare raises.
    """
    info, duration = probe_film(video)
    if any(line.start is None for line in script.lines):
        script = _time_script(script, video, info, options)
    language = _resolve_language(options, script)
    speakers = tuple(dict.fromkeys(line.speaker for line in script.lines))
    asked = parse_casting(options.voice)
    if "" not in asked:
        asked = {name: spec for name, spec in (default_casting or {}).items() if name in speakers and spec} | asked
    casting = assign_voices(asked, speakers, language)
    return SpeechJob(Path(video), script, options, duration, casting, language, info.has_audio, info.has_video)


def _resolve_language(options: DialogueOptions, script: Script) -> str:
    from mouthpiece.voice.backends.registry import load_voice_facts, normalize_language

    asked = options.language or script.language or next((line.language for line in script.lines if line.language), "")
    if not asked:
        casting = parse_casting(options.voice)
        spec = next((s for s in casting.values() if s != "match"), None)
        return "en-us" if spec is None else load_voice(spec).language
    return normalize_language(asked) if asked not in load_voice_facts()["languages"] else asked


def _time_script(script, video, info, options):
    """The script with times, from the speech that is found in the film."""
    from mouthpiece.voice.asr.transcription import open_transcriber
    from mouthpiece.voice.scripts.line_placement import place_lines

    if not info.has_audio:
        hint = "Give a script with times, such as SRT."
        raise UsageError(
            f"{script.source}: the script has no times, and the film has no sound to find them in.",
            hint=hint,
            code="no_times",
        )
    choice = "auto" if options.recognizer == "off" else options.recognizer
    spans = [(p.start_s, p.stop_s, p.text) for p in open_transcriber(choice).transcribe(video)]
    if not spans:
        hint = "Give a script with times, such as SRT."
        raise InvalidInputError(
            f"{video}: nobody speaks in it, so a script without times has no place.", hint=hint, code="no_speech"
        )
    return place_lines(script, spans)


def build_slots(job: SpeechJob) -> dict[str, Any]:
    """{line id: Slot} within the film, with the silence beside each line; lines whose times make no slot are left out."""
    within = (
        replace(line, end=min(line.end, job.duration))
        for line in job.script.lines
        if _is_speakable(line) and line.start < job.duration
    )
    lines = sorted(
        (line for line in within if line.end - line.start >= MIN_SLOT_S), key=lambda line: (line.start, line.end)
    )
    out, latest = {}, None
    for k, line in enumerate(lines):
        after = next((other for other in lines[k + 1 :] if other.start >= line.end), None)
        before_s = line.start if latest is None else line.start - latest.end
        after_s = (after.start if after else job.duration) - line.end
        overlapped = any(other.start < line.end for other in lines[k + 1 : k + 2])
        out[line.id] = TimeSlot(line.start, line.end, max(0.0, float(before_s)), 0.0 if overlapped else max(0.0, float(after_s)),
                            latest is not None and latest.speaker == line.speaker, after is not None and after.speaker == line.speaker,
                            on_screen=line.on_screen == "on")  # fmt: skip
        latest = line if latest is None or line.end > latest.end else latest
    return out


def _is_speakable(line: Line) -> bool:
    return line.start is not None and line.text.strip() and line.end > line.start


def speak_lines(
    job: SpeechJob, progress: Progress, line_ids: set | None = None, first_takes: dict[str, Any] | None = None
) -> Iterator[SpokenLine]:
    """An Answer for every line of the job, in the script's order, one after another.

    progress: Progress.  only: ids of the lines that are wanted; None is all.
    firsts: {line id: index of its first take}, 0 for those not named.
    A line that cannot be spoken is answered with the reason; the others go on.
    """
    from mouthpiece.voice.asr.transcription import open_transcriber

    options, slots = job.options, build_slots(job)
    lines = [line for line in job.script.lines if line_ids is None or line.id in line_ids]
    wave = (
        read_sound(job.video, RECORDING_HZ, mono=True).samples[0] if job.has_sound and needs_film_sound(job) else None
    )
    lips = _read_lips(job, [line for line in lines if line.id in slots], slots, progress)
    casting, matched = _match_voices(job, wave, slots)
    ears = None if options.recognizer == "off" else open_transcriber(options.recognizer, job.language)
    with progress.stage("speaking", len(lines), "line") as advance:
        for line in lines:
            if line.id not in slots and _is_speakable(line) and line.start >= job.duration:
                yield SpokenLine(line, (), "it begins after the film has ended: nothing is spoken")
                advance(1)
                continue
            guide = make_guide(job, line, slots.get(line.id), (wave, lips.get(line.id)), ears)
            voice, first = (
                load_voice(job.line_voices.get(line.id) or casting[line.speaker]),
                (first_takes or {}).get(line.id, 0),
            )
            yield speak_line(line, slots.get(line.id), voice, guide, (options, ears, matched.get(line.speaker), first))
            advance(1)


def needs_film_sound(job: SpeechJob) -> bool:
    """Whether the film's own sound has a say."""
    return parse_prosody_amount(job.options.prosody) > 0 or "match" in job.casting.values()


def _read_lips(job: SpeechJob, lines: list[Line], slots: dict[str, Any], progress: Progress) -> dict:
    """{line id: Lips} where the mouth may have a say."""
    if not job.has_picture or job.options.lip_timing == "off" or not lines:
        return {}
    out, by_face = {}, {}
    for line in lines:
        if line.on_screen != "off":
            by_face.setdefault(job.speaker_faces.get(line.speaker, job.options.face), []).append(line)
    for face, seen in by_face.items():
        out |= _read_face_lips(job, face, [(line.id, slots[line.id]) for line in seen], progress)
    return out


def _read_face_lips(
    job: SpeechJob, face: str, face_slots: list[tuple[str, TimeSlot]], progress: Progress
) -> dict | None:
    """The same for the lines (id, Slot) of one face."""
    from mouthpiece.voice.timing.lip_timing import read_lip_spans

    try:
        followed = None if job.follow is None else job.follow(face)
        with progress.stage("watching lips", None, "frame") as advance:
            found = read_lip_spans(
                job.video, [(slot.start_s, slot.end_s) for _, slot in face_slots], face, advance, followed
            )
    except InvalidInputError as problem:
        if problem.code not in ("no_face", "no_such_face") or face != "largest":
            raise
        return {}  # nobody is seen: slots and recordings tell the times
    return {line_id: lips for (line_id, _), lips in zip(face_slots, found) if lips is not None}


def _match_voices(job: SpeechJob, wave: np.ndarray, slots: dict[str, Any]) -> tuple[dict[str, str], dict]:
    """(casting with the nearest voices in place of "match", {speaker:
    mouthpiece.voice.backends.voice_matching.VoiceMatch}).
    """
    casting, matched = dict(job.casting), {}
    for speaker, spec in job.casting.items():
        if spec != "match":
            continue
        from mouthpiece.voice.backends.registry import list_castable_voices
        from mouthpiece.voice.backends.voice_matching import make_reader, match_voice

        spans = [slots[line.id] for line in job.script.lines if line.speaker == speaker and line.id in slots]
        if wave is None or not spans:
            who = f"speaker '{speaker}'" if speaker else "the speaker"
            raise InvalidInputError(
                f"--voice match: there is no sound of {who} in the film.", hint="Name a voice.", code="no_reference"
            )
        own = np.concatenate(
            [
                wave[
                    round_half_up(Fraction(s.start_s) * RECORDING_HZ) : round_half_up(Fraction(s.end_s) * RECORDING_HZ)
                ]
                for s in spans
            ]
        )
        names = [candidate.name for candidate in list_castable_voices() if candidate.speaks(job.language)]
        matched[speaker] = match_voice(own, names, make_reader(load_voice, job.language), job.consent)
        casting[speaker] = matched[speaker].spec
    return casting, matched


def make_guide(
    job: SpeechJob, line: Line, slot: TimeSlot | None, film_evidence: tuple[np.ndarray, None], transcriber
) -> GuideTrack:
    """The Guide of a line: the actor's own line where the film has one, and his lips. film: (its sound or None, Lips or
    None).
    """
    wave, lips = film_evidence
    if wave is None or slot is None:
        return GuideTrack(lips=lips)
    start = max(0, round_half_up((Fraction(slot.start_s) - Fraction(RECORDING_MARGIN_S)) * RECORDING_HZ))
    stop = min(len(wave), round_half_up((Fraction(slot.end_s) + Fraction(RECORDING_MARGIN_S)) * RECORDING_HZ))
    other = bool(line.original) and line.original.strip() != line.text.strip()
    said = (job.script.original_language or "another") if other else None
    return GuideTrack(
        wave[start:stop],
        start / RECORDING_HZ,
        said,
        job.options.get_prosody_options(),
        transcriber and transcriber.whisper,
        lips,
    )


def speak_line(line: Line, slot: TimeSlot | None, voice: Voice, guide: GuideTrack, how: tuple) -> SpokenLine:
    """The Answer of one line; how: (DialogueOptions, Recogniser or None, Matched or None, index of the first take)."""
    options, ears, matched, first = how
    if slot is None:
        return SpokenLine(line, (), explain_unspoken(line))
    takes = []
    try:
        for index in range(first, first + options.takes):
            plans, parts = (
                plan_text(voice, line.text, options.speed, options.dictionary, index, options.seed)
                if voice.timed
                else ([], [])
            )
            if matched is not None:
                plans = [
                    plan.replace_curves(f0=plan.f0 * np.float32(2 ** (matched.pitch_shift_st / 12))) for plan in plans
                ]
            spoken = (
                synthesize_line(voice, plans, slot, guide)
                if voice.timed
                else speak_untimed(voice, line.text, slot, options)
            )
            notes = [note for part in parts for note in part.notes]
            unsaid = [word for part in parts for word in part.omitted_words]
            spoken = spoken.add_review(f"not said: {' '.join(unsaid)}" if unsaid else "", notes=notes, voice=voice.name)
            if matched is not None:
                spoken = apply_timbre(spoken, matched)
            takes.append(spoken if ears is None else review_intelligibility(spoken, line.text, ears, voice.language))
    except MouthpieceError as problem:
        if problem.exit_code != InvalidInputError.exit_code:
            raise
        return SpokenLine(line, tuple(takes), str(problem))
    return SpokenLine(line, tuple(takes))


def apply_timbre(spoken, matched):
    """The Spoken with the tract length of the actor's, and the match in its facts. Source:
    mouthpiece.voice.backends.voice_matching.
    """
    from mouthpiece.voice.backends.voice_matching import apply_formant_shift

    wave = apply_formant_shift(spoken.sound.samples[0], spoken.sound.rate_hz, matched.formant_ratio)
    return replace(
        spoken, sound=Sound(wave[None], spoken.sound.rate_hz), facts=spoken.facts | dict(match=matched.as_dict())
    )


def speak_untimed(voice, text, slot, options):
    """Spoken of a voice that is not on our clock: its wave stretched into the slot, within the ladder's last rung."""
    from mouthpiece.voice.plan.time_stretch import stretch_wave
    from mouthpiece.voice.text.phones import split_into_utterances

    waves = [
        voice.speak_utterance(part, options.seed)
        for part in split_into_utterances(text, voice.language, options.dictionary)
    ]
    wave = np.concatenate(waves, 1)[0]
    limits, wanted = FitLimits(), float(slot.length_s)
    factor = float(np.clip(wanted / (len(wave) / voice.rate_hz), 1 / limits.stretch_most, limits.stretch_most))
    made = stretch_wave(wave, voice.rate_hz, factor)
    over = len(made) / voice.rate_hz - wanted
    why = (
        ""
        if abs(over) < 0.05
        else f"lasts {abs(over):.2f} s {'longer' if over > 0 else 'shorter'} than its slot after stretching"
    )
    return SpokenTake(
        Sound(made[None], voice.rate_hz),
        Fraction(slot.start_s),
        (),
        "slot",
        bool(why),
        why,
        dict(parts=[dict(stretch=round(factor, 4))]),
    )


def explain_unspoken(line: Line) -> str:
    """Why a line is not spoken."""
    if not line.text.strip():
        return "no text: nothing is spoken"
    return (
        "no times: nothing is spoken"
        if line.start is None
        else f"its slot has {float(line.end - line.start) * 1000:.0f} ms: nothing is spoken"
    )


def add_watermark(sound):
    """The Sound with a watermark where the package for it is installed, else as it is. Source:
    mouthpiece.engine.provenance.watermark.
    """
    from mouthpiece.engine.provenance.watermark import embed_watermark, get_unavailable_reason

    return sound if get_unavailable_reason() else embed_watermark(sound)


def report_watermark(path):
    """What is told of the watermark in a finished file: whether it was embedded, and how well it is heard again.
    Source: mouthpiece.engine.provenance.watermark.
    """
    from mouthpiece.engine.provenance.watermark import detect_in_file, get_unavailable_reason

    why = get_unavailable_reason()
    return dict(embedded=False, reason=why) if why else dict(embedded=True) | (detect_in_file(path) or {})


def place_take(spoken_line: SpokenLine, index: int = 0, watermark: bool = False) -> PlacedSound | None:
    """The line as mouthpiece.voice.mix.mixdown.PlacedSound at 48 kHz, or None where nothing was spoken. watermark:
    whether it shall carry one.
    """
    if not spoken_line.takes:
        return None
    spoken = spoken_line.takes[min(index, len(spoken_line.takes) - 1)]
    sound = Sound(np.concatenate(list(read_delivery_blocks(spoken.sound)), 1), DELIVERY_HZ)
    return PlacedSound(add_watermark(sound) if watermark else sound, round_half_up(spoken.start_s * DELIVERY_HZ))

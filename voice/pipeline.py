"""speak: every line of a script spoken into its slot, as a dialogue stem of exactly the film's length."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from engine.errors import MouthpieceError, Refused, UsageProblem
from engine.media import DELIVERY_HZ, delivery_blocks, probe, read_sound, sound_duration
from engine.sound import Sound
from engine.timeline import nearest
from voice.actor import amount_of
from voice.casting import cast, parse_casting
from voice.fit import Limits, Slot
from voice.mix import Placed
from voice.options import DialogueOptions
from voice.script import Script, read_script
from voice.speech import Guide, Spoken, heard, planned, speak_line
from voice.voices import load_voice

LISTEN_HZ = 16000
BESIDE_S = 0.3                         # of the recording around a slot in which the actor's line is looked for
LEAST_SLOT_S = Fraction(1, 50)


@dataclass(frozen=True, eq=False)
class Job:
    """Dialogue known to be possible: script read, film probed, every speaker with a voice.

    video: path.  script: Script.  options: DialogueOptions.
    duration: Fraction, seconds of the film.  casting: {speaker: spec}.  language: of the dialogue.
    has_sound, has_picture: of the film.
    Source: ours.
    """

    video: Path
    script: Script
    options: DialogueOptions
    duration: Fraction
    casting: dict
    language: str
    has_sound: bool
    has_picture: bool
    voices: dict = field(default_factory=dict)   # {line id: spec} of lines with a voice of their own
    consent: object = None                       # engine.consent.Consent of the person whose voice is matched
    faces: dict = field(default_factory=dict)    # {speaker: face} of those who have one of their own; the others have the options'
    follow: object = None                        # called with a face, gives it as voice.mouth.follow does; None looks itself

    @property
    def samples(self):
        """Length of the dialogue at 48 kHz."""
        return nearest(self.duration * DELIVERY_HZ)

    def plan(self):
        """What will be done, JSON-ready."""
        remarks = [dict(kind=r.kind, text=r.text, line=r.line_id) for r in self.script.remarks]
        return dict(lines=len(self.script.lines), duration_s=float(self.duration), language=self.language, voices=self.casting, remarks=remarks)


@dataclass(frozen=True)
class Answer:
    """A line of the script with what was spoken for it: takes, the first being used; empty where nothing could be said, then why says it. Source: ours."""

    line: object
    takes: tuple[Spoken, ...]
    why: str = ""
    facts: dict = field(default_factory=dict)

    @property
    def needs_review(self):
        """Whether a person should look."""
        return bool(self.why) or any(take.needs_review for take in self.takes[:1])

    def as_dict(self):
        """JSON-ready facts of the line."""
        line = self.line
        rows = [dict(start_s=round(float(t.start_s), 4), duration_s=round(float(t.sound.duration), 4), timed_by=t.timed_by, needs_review=t.needs_review,
                     why=t.why, plans=[plan.as_dict() | dict(start_s=float(at)) for plan, at in t.plans]) | t.facts for t in self.takes]  # fmt: skip
        why = "; ".join(filter(None, [self.why, *(t.why for t in self.takes[:1])]))
        return dict(id=line.id, speaker=line.speaker, text=line.text, start_s=_seconds(line.start), end_s=_seconds(line.end),
                    needs_review=self.needs_review, why=why, takes=rows) | self.facts  # fmt: skip


def _seconds(time):
    return None if time is None else round(float(time), 4)


def prepare(video, script_path, options, said=None):
    """The Job of a film and its script, after every check of them.

    video: film with picture, sound or both.  script_path, said: as for read_script.  options: DialogueOptions.
    Raises Refused for what cannot be read, UsageProblem for what must be told.
    Source: ours.
    """
    return job_of(video, read_script(script_path, reading=options.reading(film_of(video)[1]), said=said), options)


def film_of(video):
    """(MediaInfo, duration as Fraction seconds) of a film or of a sound alone. Raises Refused. Source: ours."""
    info = probe(video)
    duration = info.duration if info.has_video else sound_duration(video)
    if duration == 0:
        raise Refused(f"{video}: it lasts 0 s.", hint="Give a complete recording or video.", code="too_short")
    if duration is None:
        raise Refused(f"{video}: its length is not known.", hint="Remux it, for instance to .mkv, and try again.", code="no_duration")
    return info, duration


def job_of(video, script, options, given=None):
    """The Job of a film and a Script.

    given: {speaker: spec} for whom the options give none, such as a project's.
    Raises what prepare raises.
    Source: ours.
    """
    info, duration = film_of(video)
    if any(line.start is None for line in script.lines):
        script = _placed_on(script, video, info, options)
    language = _language(options, script)
    speakers = tuple(dict.fromkeys(line.speaker for line in script.lines))
    asked = parse_casting(options.voice)
    if "" not in asked:
        asked = {name: spec for name, spec in (given or {}).items() if name in speakers and spec} | asked
    casting = cast(asked, speakers, language)
    return Job(Path(video), script, options, duration, casting, language, info.has_audio, info.has_video)


def _language(options, script):
    from voice.voices import facts, language_code

    asked = options.language or script.language or next((line.language for line in script.lines if line.language), "")
    if not asked:
        casting = parse_casting(options.voice)
        spec = next((s for s in casting.values() if s != "match"), None)
        return "en-us" if spec is None else load_voice(spec).language
    return language_code(asked) if asked not in facts()["languages"] else asked


def _placed_on(script, video, info, options):
    """The script with times, from the speech that is found in the film."""
    from voice.listen import recogniser
    from voice.script import place

    if not info.has_audio:
        hint = "Give a script with times, such as SRT."
        raise UsageProblem(f"{script.source}: the script has no times, and the film has no sound to find them in.", hint=hint, code="no_times")
    choice = "auto" if options.listen == "off" else options.listen
    spans = [(p.start_s, p.stop_s, p.text) for p in recogniser(choice).transcribe(video)]
    if not spans:
        hint = "Give a script with times, such as SRT."
        raise Refused(f"{video}: nobody speaks in it, so a script without times has no place.", hint=hint, code="no_speech")
    return place(script, spans)


def slots_of(job):
    """{line id: Slot} within the film, with the silence beside each line; lines whose times make no slot are left out. Source: ours."""
    within = (replace(line, end=min(line.end, job.duration)) for line in job.script.lines if _spoken(line) and line.start < job.duration)
    lines = sorted((line for line in within if line.end - line.start >= LEAST_SLOT_S), key=lambda line: (line.start, line.end))
    out, latest = {}, None
    for k, line in enumerate(lines):
        after = next((other for other in lines[k + 1 :] if other.start >= line.end), None)
        before_s = line.start if latest is None else line.start - latest.end
        after_s = (after.start if after else job.duration) - line.end
        overlapped = any(other.start < line.end for other in lines[k + 1 : k + 2])
        out[line.id] = Slot(line.start, line.end, max(0.0, float(before_s)), 0.0 if overlapped else max(0.0, float(after_s)),
                            latest is not None and latest.speaker == line.speaker, after is not None and after.speaker == line.speaker,
                            on_screen=line.on_screen == "on")  # fmt: skip
        latest = line if latest is None or line.end > latest.end else latest
    return out


def _spoken(line):
    return line.start is not None and line.text.strip() and line.end > line.start


def answers(job, progress, only=None, firsts=None):
    """An Answer for every line of the job, in the script's order, one after another.

    progress: Progress.  only: ids of the lines that are wanted; None is all.
    firsts: {line id: index of its first take}, 0 for those not named.
    A line that cannot be spoken is answered with the reason; the others go on.
    Source: ours.
    """
    from voice.listen import recogniser

    options, slots = job.options, slots_of(job)
    lines = [line for line in job.script.lines if only is None or line.id in only]
    wave = read_sound(job.video, LISTEN_HZ, mono=True).samples[0] if job.has_sound and needs_sound(job) else None
    lips = _lips(job, [line for line in lines if line.id in slots], slots, progress)
    casting, matched = _matched(job, wave, slots)
    ears = None if options.listen == "off" else recogniser(options.listen, job.language)
    with progress.stage("speaking", len(lines), "line") as advance:
        for line in lines:
            if line.id not in slots and _spoken(line) and line.start >= job.duration:
                yield Answer(line, (), "it begins after the film has ended: nothing is spoken")
                advance(1)
                continue
            guide = guide_of(job, line, slots.get(line.id), (wave, lips.get(line.id)), ears)
            voice, first = load_voice(job.voices.get(line.id) or casting[line.speaker]), (firsts or {}).get(line.id, 0)
            yield answer(line, slots.get(line.id), voice, guide, (options, ears, matched.get(line.speaker), first))
            advance(1)


def needs_sound(job):
    """Whether the film's own sound has a say. Source: ours."""
    return amount_of(job.options.prosody) > 0 or "match" in job.casting.values()


def _lips(job, lines, slots, progress):
    """{line id: Lips} where the mouth may have a say."""
    if not job.has_picture or job.options.mouth == "off" or not lines:
        return {}
    out, by_face = {}, {}
    for line in lines:
        if line.on_screen != "off":
            by_face.setdefault(job.faces.get(line.speaker, job.options.face), []).append(line)
    for face, seen in by_face.items():
        out |= _lips_of(job, face, [(line.id, slots[line.id]) for line in seen], progress)
    return out


def _lips_of(job, face, rows, progress):
    """The same for the lines (id, Slot) of one face."""
    from voice.mouth import watch

    try:
        followed = None if job.follow is None else job.follow(face)
        with progress.stage("watching lips", None, "frame") as advance:
            found = watch(job.video, [(slot.start_s, slot.end_s) for _, slot in rows], face, advance, followed)
    except Refused as problem:
        if problem.code not in ("no_face", "no_such_face") or face != "largest":
            raise
        return {}                       # nobody is seen: slots and recordings tell the times
    return {line_id: lips for (line_id, _), lips in zip(rows, found) if lips is not None}


def _matched(job, wave, slots):
    """(casting with the nearest voices in place of "match", {speaker: voice.match.Matched})."""
    casting, matched = dict(job.casting), {}
    for speaker, spec in job.casting.items():
        if spec != "match":
            continue
        from voice.match import match, reading
        from voice.voices import list_voices

        spans = [slots[line.id] for line in job.script.lines if line.speaker == speaker and line.id in slots]
        if wave is None or not spans:
            who = f"speaker '{speaker}'" if speaker else "the speaker"
            raise Refused(f"--voice match: there is no sound of {who} in the film.", hint="Name a voice.", code="no_reference")
        own = np.concatenate([wave[nearest(Fraction(s.start_s) * LISTEN_HZ) : nearest(Fraction(s.end_s) * LISTEN_HZ)] for s in spans])
        names = [r["name"] for r in list_voices() if r["language"].split("-")[0] == job.language.split("-")[0] and r["at_hand"] and r["backend"] == "kokoro"]
        matched[speaker] = match(own, names, reading(load_voice, job.language), job.consent)
        casting[speaker] = matched[speaker].spec
    return casting, matched


def guide_of(job, line, slot, film, ears):
    """The Guide of a line: the actor's own line where the film has one, and his lips. film: (its sound or None, Lips or None). Source: ours."""
    wave, lips = film
    if wave is None or slot is None:
        return Guide(lips=lips)
    start = max(0, nearest((Fraction(slot.start_s) - Fraction(BESIDE_S)) * LISTEN_HZ))
    stop = min(len(wave), nearest((Fraction(slot.end_s) + Fraction(BESIDE_S)) * LISTEN_HZ))
    other = bool(line.original) and line.original.strip() != line.text.strip()
    said = (job.script.original_language or "another") if other else None
    return Guide(wave[start:stop], start / LISTEN_HZ, said, job.options.way_of_speaking(), ears and ears.whisper, lips)


def answer(line, slot, voice, guide, how):
    """The Answer of one line; how: (DialogueOptions, Recogniser or None, Matched or None, index of the first take). Source: ours."""
    options, ears, matched, first = how
    if slot is None:
        return Answer(line, (), why_not(line))
    takes = []
    try:
        for index in range(first, first + options.takes):
            plans, parts = planned(voice, line.text, options.speed, options.dictionary, index, options.seed) if voice.timed else ([], [])
            if matched is not None:
                plans = [plan.voiced_as(f0=plan.f0 * np.float32(2 ** (matched.pitch_shift_st / 12))) for plan in plans]
            spoken = speak_line(voice, plans, slot, guide) if voice.timed else untimed(voice, line.text, slot, options)
            notes = [note for part in parts for note in part.notes]
            unsaid = [word for part in parts for word in part.unsaid]
            spoken = spoken.reviewed(f"not said: {' '.join(unsaid)}" if unsaid else "", notes=notes, voice=voice.name)
            if matched is not None:
                spoken = coloured(spoken, matched)
            takes.append(spoken if ears is None else heard(spoken, line.text, ears, voice.language))
    except MouthpieceError as problem:
        if problem.exit_code != Refused.exit_code:
            raise
        return Answer(line, tuple(takes), str(problem))
    return Answer(line, tuple(takes))


def coloured(spoken, matched):
    """The Spoken with the tract length of the actor's, and the match in its facts. Source: voice.match."""
    from voice.match import dressed

    wave = dressed(spoken.sound.samples[0], spoken.sound.rate_hz, matched.formant_ratio)
    return replace(spoken, sound=Sound(wave[None], spoken.sound.rate_hz), facts=spoken.facts | dict(match=matched.as_dict()))


def untimed(voice, text, slot, options):
    """Spoken of a voice that is not on our clock: its wave stretched into the slot, within the ladder's last rung. Source: ours."""
    from voice.phones import utterances
    from voice.stretch import stretched_wave

    waves = [voice.say(part, options.seed) for part in utterances(text, voice.language, options.dictionary)]
    wave = np.concatenate(waves, 1)[0]
    limits, wanted = Limits(), float(slot.length_s)
    factor = float(np.clip(wanted / (len(wave) / voice.rate_hz), 1 / limits.stretch_most, limits.stretch_most))
    made = stretched_wave(wave, voice.rate_hz, factor)
    over = len(made) / voice.rate_hz - wanted
    why = "" if abs(over) < 0.05 else f"lasts {abs(over):.2f} s {'longer' if over > 0 else 'shorter'} than its slot after stretching"
    return Spoken(Sound(made[None], voice.rate_hz), Fraction(slot.start_s), (), "slot", bool(why), why, dict(parts=[dict(stretch=round(factor, 4))]))


def why_not(line):
    """Why a line is not spoken. Source: ours."""
    if not line.text.strip():
        return "no text: nothing is spoken"
    return "no times: nothing is spoken" if line.start is None else f"its slot has {float(line.end - line.start) * 1000:.0f} ms: nothing is spoken"


def marked(sound):
    """The Sound with a watermark where the package for it is installed, else as it is. Source: engine.watermark."""
    from engine.watermark import available, embed

    return sound if available() else embed(sound)


def heard_mark(path):
    """What is told of the watermark in a finished file: whether it was embedded, and how well it is heard again. Source: engine.watermark."""
    from engine.watermark import available, listen

    why = available()
    return dict(embedded=False, reason=why) if why else dict(embedded=True) | (listen(path) or {})


def placed(answered, index=0, watermark=False):
    """The line as voice.mix.Placed at 48 kHz, or None where nothing was spoken. watermark: whether it shall carry one. Source: ours."""
    if not answered.takes:
        return None
    spoken = answered.takes[min(index, len(answered.takes) - 1)]
    sound = Sound(np.concatenate(list(delivery_blocks(spoken.sound)), 1), DELIVERY_HZ)
    return Placed(marked(sound) if watermark else sound, nearest(spoken.start_s * DELIVERY_HZ))

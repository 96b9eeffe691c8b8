"""The voice nearest to an actor's: the best single voice or convex mix by speaker embedding, then pitch and formants within limits."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import nnls
from scipy.signal import resample_poly

from engine.cache import cache_folder
from engine.consent import ABSENT
from engine.encoders.audio import RATE_HZ as LISTEN_HZ
from engine.errors import Missing, Refused
from engine.files import replacing
from voice.contour import melody_of, semitones
from voice.plan import RATE_HZ
from voice.speaker import SHA256, embedding_of, similarity, speech_of

SENTENCE = "The boat was late again, so we sat by the harbour and talked about the old town."
CANDIDATES = 6               # single voices from which mixes are made
MOST_IN_MIX = 3
LEAST_SHARE = 0.15           # a voice with less is not heard in a mix
TRIED_MIXES = 4              # best by their embeddings; these are spoken and compared
LEAST_SHIFT_ST = 0.5         # a voice that lies so near need not move
SHIFT_ST = 6.0               # beyond this a voice no longer sounds like a person
FORMANTS = (0.9, 0.95, 1.0, 1.05, 1.1)   # tract lengths tried; Praat's result is clean within them
LEAST_GAIN = 0.01            # a step that brings less similarity than this is not taken
REGISTER_WEIGHT = 0.01       # similarity that a semitone of register beyond SHIFT_ST costs
FOLDER, VERSION = "voices", 1


@dataclass(frozen=True)
class Matched:
    """The voice that comes nearest to an actor, and how near.

    spec: for load_voice, such as "af_heart:0.6+bf_emma:0.4".
    similarity_before: of the best single voice as it is.  similarity_after: of what will be heard.
    pitch_shift_st: semitones to move the F0 of plans of this voice by where the actor's own melody is not used.
    formant_ratio: for `dressed`; 1 leaves the sound alone.
    single: name of the best single voice.  consent: what is recorded of it.
    Source: ours.
    """

    spec: str
    similarity_before: float
    similarity_after: float
    pitch_shift_st: float
    formant_ratio: float
    single: str
    consent: object = ABSENT

    def as_dict(self):
        """JSON-ready, for the side-car. Source: ours."""
        return dict(voice=self.spec, best_single=self.single, similarity_before=round(self.similarity_before, 3),
                    similarity_after=round(self.similarity_after, 3), pitch_shift_st=round(self.pitch_shift_st, 2),
                    formant_ratio=self.formant_ratio, consent=self.consent)


def match(recording, names, speak, consent=None, progress=None):
    """The Matched voice for a recording of an actor.

    recording: (S,) float32 at 16 kHz, a second of speech or more.
    names: voices that may be used, such as those of one language.
    speak: called with a spec and a pitch shift in semitones, gives the fixed sentence as (S,) float32 at 24 kHz (`reading`).
    consent: engine.consent.Consent; None is recorded as "consent not recorded".
    progress: called with (done, all) while voices are read for the first time.
    Raises Refused for a recording without enough speech or an empty list, Missing without the speaker encoder.
    Source: ours; embeddings 1710.10467.
    """
    names = sorted(names)
    if not names:
        raise Refused("--voice match: there is no voice to choose from.", hint="Run 'mouthpiece voices list'.", code="no_voice")
    target = embedding_of(recording)
    actor_hz = melody_of(speech_of(recording), LISTEN_HZ).median_hz
    if actor_hz is None:
        raise Refused("--voice match: the recording holds no voiced sound.", hint="Give a recording of speech.", code="no_speech")
    known, registers = voices_known(names, speak, progress)
    likeness = np.array([similarity(e, target) for e in known])
    shifts = np.array([float(semitones(actor_hz, hz)) for hz in registers])
    order = np.argsort(-(likeness - REGISTER_WEIGHT * np.maximum(0, np.abs(shifts) - SHIFT_ST)))
    first = int(order[0])
    best = (float(likeness[first]), names[first], 0.0, 1.0)
    pitch = dict(zip(names, registers))
    for spec in [names[first], *mixes([names[k] for k in order[:CANDIDATES]], known[order[:CANDIDATES]], target)]:
        shift = float(np.clip(semitones(actor_hz, _register(spec, pitch)), -SHIFT_ST, SHIFT_ST))
        for moved in (0.0, shift / 2, shift) if abs(shift) > LEAST_SHIFT_ST else (0.0,):
            value = _likeness(speak(spec, moved), target)
            if value > best[0] + LEAST_GAIN:
                best = (value, spec, moved, 1.0)
    best = _formed(best, speak, target)
    record = ABSENT if consent is None else consent.record()
    return Matched(best[1], float(likeness[first]), best[0], best[2], best[3], names[first], record)


def _register(spec, pitch):
    """Median F0 in Hz of a mix: that of its voices, by their shares, in octaves."""
    parts = [part.partition(":")[::2] for part in spec.split("+")]
    shares = [float(share or 1) for _, share in parts]
    return float(np.exp(np.average([np.log(max(pitch[name], 1.0)) for name, _ in parts], weights=shares)))


def _formed(best, speak, target):
    """The same with the tract length that comes nearest."""
    value, spec, shift, _ = best
    wave = speak(spec, shift)
    found = [(_likeness(dressed(wave, RATE_HZ, ratio), target), spec, shift, ratio) for ratio in FORMANTS if ratio != 1.0]
    nearest = max(found, key=lambda f: f[0])
    return nearest if nearest[0] > value + LEAST_GAIN else best


def _likeness(wave, target):
    return similarity(embedding_of(_listened(wave)), target)


def _listened(wave):
    return resample_poly(wave, LISTEN_HZ // 8000, RATE_HZ // 8000).astype(np.float32)


def mixes(names, embeddings, target):
    """Specs of the mixes of two and three voices whose weighted embeddings come nearest to a target, best first.

    names: N voices.  embeddings: (N, 256).  target: (256,).
    Source: non-negative least squares; styles mix convexly, embeddings nearly so.
    """
    found = {}
    for size in range(2, MOST_IN_MIX + 1):
        for chosen in combinations(range(len(names)), size):
            shares, _ = nnls(embeddings[list(chosen)].T.astype(float), target.astype(float))
            shares = shares / max(shares.sum(), 1e-9)
            if shares.min() < LEAST_SHARE:
                continue
            spec = "+".join(f"{names[k]}:{share:.2f}" for k, share in zip(chosen, shares))
            found[spec] = similarity(shares @ embeddings[list(chosen)], target)
    return sorted(found, key=found.get, reverse=True)[:TRIED_MIXES]


def voices_known(names, speak, progress=None):
    """(embeddings (N, 256), median F0 in Hz (N,)) of voices that read the fixed sentence; kept in the cache folder.

    names: voices.  speak, progress: as for `match`.
    Source: ours.
    """
    path = cache_folder(FOLDER) / f"speakers-{VERSION}-{SHA256[:8]}.npz"
    known = _read(path)
    missing = [n for n in names if n not in known]
    for done, name in enumerate(missing):
        wave = speak(name, 0.0)
        known[name] = np.r_[embedding_of(_listened(wave)), melody_of(wave, RATE_HZ).median_hz or 0.0].astype(np.float32)
        if progress:
            progress(done + 1, len(missing))
    if missing:
        with replacing(path, overwrite=True) as part:
            np.savez(part, **known)
    rows = np.stack([known[n] for n in names])
    return rows[:, :-1], rows[:, -1]


def _read(path):
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files if file[name].shape == (257,)}
    except (OSError, ValueError, KeyError, EOFError):
        return {}


def reading(load, language="en-us"):
    """A `speak` for `match`: (spec, shift in semitones) -> (S,) at 24 kHz, the fixed sentence by a timed voice.

    load: called with a spec, gives a timed voice.  language: of the sentence's reading.
    Source: ours.
    """
    from voice.phones import utter

    kept = {}

    def speak(spec, shift_st):
        if (spec, shift_st) not in kept:
            voice = load(spec)
            if not voice.timed:
                raise Missing(f"voice {spec} has no times of its own; --voice match needs one that has.", hint="Use Kokoro's voices.", code="untimed")
            plan = voice.natural(utter(SENTENCE, voice.language if voice.language.startswith("en") else language))
            kept[spec, shift_st] = voice.speak(plan.voiced_as(f0=plan.f0 * np.float32(2 ** (shift_st / 12))))[0]
        return kept[spec, shift_st]

    return speak


def dressed(wave, rate_hz, formant_ratio=1.0, shift_st=0.0):
    """The sound with another tract length and pitch: (S,) float32, as long as before.

    wave: (S,) float32.  formant_ratio: 0.9 deeper to 1.1 brighter.  shift_st: semitones, for voices without plans.
    Source: Praat, "Change gender" (overlap-add).
    """
    if formant_ratio == 1.0 and not shift_st:
        return np.asarray(wave, np.float32)
    import parselmouth
    from parselmouth.praat import call

    median_hz = melody_of(wave, rate_hz).median_hz
    if median_hz is None:
        return np.asarray(wave, np.float32)
    sound = parselmouth.Sound(np.asarray(wave, np.float64), rate_hz)
    new_hz = median_hz * 2 ** (shift_st / 12) if shift_st else 0.0
    out = call(sound, "Change gender", 60.0, 600.0, formant_ratio, new_hz, 1.0, 1.0).values[0].astype(np.float32)
    out = out[: len(wave)] if len(out) >= len(wave) else np.pad(out, (0, len(wave) - len(out)))
    level = np.sqrt((np.asarray(wave, np.float64) ** 2).mean() / max((out.astype(np.float64) ** 2).mean(), 1e-12))
    return np.clip(out * np.float32(level), -1, 1)

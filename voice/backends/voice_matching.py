"""The voice nearest to an actor's: the best single voice or convex mix by speaker embedding, then pitch and formants
within limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.encoders.phonetic import RATE_HZ as LISTEN_HZ
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.folders import make_cache_folder
from mouthpiece.engine.provenance.consent import NOT_RECORDED
from mouthpiece.voice.backends.speaker_encoder import (
    WEIGHTS_SHA256,
    compute_speaker_similarity,
    embed_speaker,
    extract_speech,
)
from mouthpiece.voice.plan.speech_plan import VOICE_RATE_HZ
from mouthpiece.voice.timing.pitch import compute_interval_st, estimate_f0

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

REFERENCE_SENTENCE = "The boat was late again, so we sat by the harbour and talked about the old town."
MAX_CANDIDATES = 6  # single voices from which mixes are made
MAX_VOICES_IN_MIX = 3
MIN_SHARE = 0.15  # a voice with less is not heard in a mix
MAX_TRIED_MIXES = 4  # best by their embeddings; these are spoken and compared
MIN_SHIFT_ST = 0.5  # a voice that lies so near need not move
MAX_SHIFT_ST = 6.0  # beyond this a voice no longer sounds like a person
FORMANT_RATIOS = (0.9, 0.95, 1.0, 1.05, 1.1)  # tract lengths tried; Praat's result is clean within them
MIN_SIMILARITY_GAIN = 0.01  # a step that brings less similarity than this is not taken
REGISTER_PENALTY_PER_ST = 0.01  # similarity that a semitone of register beyond SHIFT_ST costs
CACHE_FOLDER_NAME, CACHE_VERSION = "voices", 1


@dataclass(frozen=True)
class VoiceMatch:
    """The voice that comes nearest to an actor, and how near.

    spec: for load_voice, such as "af_heart:0.6+bf_emma:0.4".
    similarity_before: of the best single voice as it is.  similarity_after: of what will be heard.
    pitch_shift_st: semitones to move the F0 of plans of this voice by where the actor's own melody is not used.
    formant_ratio: for `dressed`; 1 leaves the sound alone.
    single: name of the best single voice.  consent: what is recorded of it.
    """

    spec: str
    similarity_before: float
    similarity_after: float
    pitch_shift_st: float
    formant_ratio: float
    single: str
    consent: object = NOT_RECORDED

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, for the side-car."""
        return dict(
            voice=self.spec,
            best_single=self.single,
            similarity_before=round(self.similarity_before, 3),
            similarity_after=round(self.similarity_after, 3),
            pitch_shift_st=round(self.pitch_shift_st, 2),
            formant_ratio=self.formant_ratio,
            consent=self.consent,
        )


def match_voice(
    recording: np.ndarray, names: list[str], speak: Callable, consent: None = None, progress=None
) -> VoiceMatch | None:
    """The Matched voice for a recording of an actor.

    recording: (S,) float32 at 16 kHz, a second of speech or more.
    names: voices that may be used, such as those of one language.
    speak: called with a spec and a pitch shift in semitones, gives the fixed sentence as (S,) float32 at 24 kHz
    (`reading`).
    consent: mouthpiece.engine.provenance.consent.Consent; None is recorded as "consent not recorded".
    progress: called with (done, all) while voices are read for the first time.
    Raises Refused for a recording without enough speech or an empty list, Missing without the speaker encoder.
    Source: ours; embeddings 1710.10467.
    """
    names = sorted(names)
    if not names:
        raise InvalidInputError(
            "--voice match: there is no voice to choose from.", hint="Run 'mouthpiece voices list'.", code="no_voice"
        )
    target = embed_speaker(recording)
    actor_hz = estimate_f0(extract_speech(recording), LISTEN_HZ).median_hz
    if actor_hz is None:
        raise InvalidInputError(
            "--voice match: the recording holds no voiced sound.", hint="Give a recording of speech.", code="no_speech"
        )
    known, registers = embed_voices(names, speak, progress)
    likeness = np.array([compute_speaker_similarity(e, target) for e in known])
    shifts = np.array([float(compute_interval_st(actor_hz, hz)) for hz in registers])
    order = np.argsort(-(likeness - REGISTER_PENALTY_PER_ST * np.maximum(0, np.abs(shifts) - MAX_SHIFT_ST)))
    first = int(order[0])
    best = (float(likeness[first]), names[first], 0.0, 1.0)
    pitch = dict(zip(names, registers))
    for spec in [
        names[first],
        *rank_mixes([names[k] for k in order[:MAX_CANDIDATES]], known[order[:MAX_CANDIDATES]], target),
    ]:
        shift = float(
            np.clip(compute_interval_st(actor_hz, _estimate_mix_f0(spec, pitch)), -MAX_SHIFT_ST, MAX_SHIFT_ST)
        )
        for moved in (0.0, shift / 2, shift) if abs(shift) > MIN_SHIFT_ST else (0.0,):
            value = _compute_similarity(speak(spec, moved), target)
            if value > best[0] + MIN_SIMILARITY_GAIN:
                best = (value, spec, moved, 1.0)
    best = _search_formant_ratio(best, speak, target)
    record = NOT_RECORDED if consent is None else consent.record()
    return VoiceMatch(best[1], float(likeness[first]), best[0], best[2], best[3], names[first], record)


def _estimate_mix_f0(spec: str, pitch: dict[str, float]) -> float:
    """Median F0 in Hz of a mix: that of its voices, by their shares, in octaves."""
    parts = [part.partition(":")[::2] for part in spec.split("+")]
    shares = [float(share or 1) for _, share in parts]
    return float(np.exp(np.average([np.log(max(pitch[name], 1.0)) for name, _ in parts], weights=shares)))


def _search_formant_ratio(
    best: tuple[float, str, float, float], speak: Callable, target: np.ndarray
) -> tuple[float, str, float, float]:
    """The same with the tract length that comes nearest."""
    value, spec, shift, _ = best
    wave = speak(spec, shift)
    found = [
        (_compute_similarity(apply_formant_shift(wave, VOICE_RATE_HZ, ratio), target), spec, shift, ratio)
        for ratio in FORMANT_RATIOS
        if ratio != 1.0
    ]
    nearest = max(found, key=lambda f: f[0])
    return nearest if nearest[0] > value + MIN_SIMILARITY_GAIN else best


def _compute_similarity(wave: np.ndarray, target: np.ndarray) -> float:
    return compute_speaker_similarity(embed_speaker(_resample_for_encoder(wave)), target)


def _resample_for_encoder(wave: np.ndarray) -> np.ndarray:
    return resample(wave, VOICE_RATE_HZ, LISTEN_HZ)


def rank_mixes(names: list[str], embeddings: np.ndarray, target: np.ndarray) -> list[str]:
    """Specs of the mixes of two and three voices whose weighted embeddings come nearest to a target, best first.

    names: N voices.  embeddings: (N, 256).  target: (256,).
    Source: non-negative least squares; styles mix convexly, embeddings nearly so.
    """
    found = {}
    for size in range(2, MAX_VOICES_IN_MIX + 1):
        for chosen in combinations(range(len(names)), size):
            shares, _ = nnls(embeddings[list(chosen)].T.astype(float), target.astype(float))
            shares = shares / max(shares.sum(), 1e-9)
            if shares.min() < MIN_SHARE:
                continue
            spec = "+".join(f"{names[k]}:{share:.2f}" for k, share in zip(chosen, shares))
            found[spec] = compute_speaker_similarity(shares @ embeddings[list(chosen)], target)
    return sorted(found, key=found.get, reverse=True)[:MAX_TRIED_MIXES]


def embed_voices(names: list[str], speak: Callable, progress=None) -> tuple[np.ndarray, np.ndarray]:
    """(embeddings (N, 256), median F0 in Hz (N,)) of voices that read the fixed sentence; kept in the cache folder.

    names: voices.  speak, progress: as for `match`.
    """
    path = make_cache_folder(CACHE_FOLDER_NAME) / f"speakers-{CACHE_VERSION}-{WEIGHTS_SHA256[:8]}.npz"
    known = _read_cached_embeddings(path)
    missing = [n for n in names if n not in known]
    for done, name in enumerate(missing):
        wave = speak(name, 0.0)
        known[name] = np.r_[
            embed_speaker(_resample_for_encoder(wave)), estimate_f0(wave, VOICE_RATE_HZ).median_hz or 0.0
        ].astype(np.float32)
        if progress:
            progress(done + 1, len(missing))
    if missing:
        with atomic_write(path, overwrite=True) as part:
            np.savez(part, **known)
    rows = np.stack([known[n] for n in names])
    return rows[:, :-1], rows[:, -1]


def _read_cached_embeddings(path: Path) -> dict[str, Any]:
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files if file[name].shape == (257,)}
    except (OSError, ValueError, KeyError, EOFError):
        return {}


def make_reader(load, language: str = "en-us"):
    """A `speak` for `match`: (spec, shift in semitones) -> (S,) at 24 kHz, the fixed sentence by a timed voice.

    load: called with a spec, gives a timed voice.  language: of the sentence's reading.
    """
    from mouthpiece.voice.text.phones import make_utterance

    kept = {}

    def speak(spec, shift_st):
        if (spec, shift_st) not in kept:
            voice = load(spec)
            if not voice.timed:
                raise MissingDependencyError(
                    f"voice {spec} has no times of its own; --voice match needs one that has.",
                    hint="Use Kokoro's voices.",
                    code="untimed",
                )
            plan = voice.predict_plan(
                make_utterance(REFERENCE_SENTENCE, voice.language if voice.language.startswith("en") else language)
            )
            kept[spec, shift_st] = voice.speak(plan.replace_curves(f0=plan.f0 * np.float32(2 ** (shift_st / 12))))[0]
        return kept[spec, shift_st]

    return speak


def apply_formant_shift(
    wave: np.ndarray, rate_hz: int, formant_ratio: float = 1.0, shift_st: float = 0.0
) -> np.ndarray:
    """The sound with another tract length and pitch: (S,) float32, as long as before.

    wave: (S,) float32.  formant_ratio: 0.9 deeper to 1.1 brighter.  shift_st: semitones, for voices without plans.
    Source: Praat, "Change gender" (overlap-add).
    """
    if formant_ratio == 1.0 and not shift_st:
        return np.asarray(wave, np.float32)
    import parselmouth
    from parselmouth.praat import call

    median_hz = estimate_f0(wave, rate_hz).median_hz
    if median_hz is None:
        return np.asarray(wave, np.float32)
    sound = parselmouth.Sound(np.asarray(wave, np.float64), rate_hz)
    new_hz = median_hz * 2 ** (shift_st / 12) if shift_st else 0.0
    out = call(sound, "Change gender", 60.0, 600.0, formant_ratio, new_hz, 1.0, 1.0).values[0].astype(np.float32)
    out = out[: len(wave)] if len(out) >= len(wave) else np.pad(out, (0, len(wave) - len(out)))
    level = np.sqrt((np.asarray(wave, np.float64) ** 2).mean() / max((out.astype(np.float64) ** 2).mean(), 1e-12))
    return np.clip(out * np.float32(level), -1, 1)

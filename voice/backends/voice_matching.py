"""Voice matching: the single voice or convex mix nearest to an actor by speaker embedding, then pitch and formants."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from scipy.optimize import nnls

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.encoders.phonetic import RATE_HZ
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
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.provenance.consent import Consent
    from mouthpiece.voice.backends.backend import Voice

Speak: TypeAlias = "Callable[[str, float], np.ndarray]"  # (voice specification, semitones) -> (S,) float32 at 24 kHz

REFERENCE_SENTENCE = "The boat was late again, so we sat by the harbour and talked about the old town."
MAX_CANDIDATES = 6  # single voices from which mixes are made
MAX_VOICES_IN_MIX = 3
MIN_SHARE = 0.15  # of a voice in a mix; a smaller one is not audible
MAX_TRIED_MIXES = 4  # best by their embeddings; these are spoken and compared
MIN_SHIFT_ST = 0.5  # a voice that lies nearer is not moved
MAX_SHIFT_ST = 6.0  # beyond this a voice no longer sounds like a person
FORMANT_RATIOS = (0.9, 0.95, 1.0, 1.05, 1.1)  # tried vocal tract lengths; Praat's result is clean within them
MIN_SIMILARITY_GAIN = 0.01  # a step that gains less is not taken
REGISTER_PENALTY_PER_ST = 0.01  # similarity that a semitone of register beyond MAX_SHIFT_ST costs
CACHE_FOLDER_NAME = "voices"
CACHE_VERSION = 1  # of the cached embeddings


class _Candidate(NamedTuple):
    """A voice with a pitch shift and a formant ratio, and its similarity to the actor."""

    similarity: float
    spec: str
    shift_st: float = 0.0
    formant_ratio: float = 1.0


@dataclass(frozen=True)
class VoiceMatch:
    """The voice nearest to an actor.

    spec: for load_voice, such as "af_heart:0.6+bf_emma:0.4".
    similarity_before: of the best single voice as it is.  similarity_after: of what will be heard.
    pitch_shift_st: semitones by which the F0 of this voice's plans is moved where the actor's own is not used.
    formant_ratio: for `apply_formant_shift`; 1 leaves the sound alone.
    single: name of the best single voice.  consent: record of the person's consent.
    """

    spec: str
    similarity_before: float
    similarity_after: float
    pitch_shift_st: float
    formant_ratio: float
    single: str
    consent: object = NOT_RECORDED

    def as_dict(self) -> dict[str, Any]:
        """Convert to JSON-ready facts for the side-car."""
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
    recording: np.ndarray,
    names: Sequence[str],
    speak: Speak,
    consent: Consent | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VoiceMatch:
    """Match a voice to the recording of an actor.

    recording: (S,) float32 at 16 kHz, a second of speech or more.
    names: voices that may be used, such as those of one language.
    speak: speaks the reference sentence (`make_reader`).
    consent: None is recorded as "consent not recorded".
    progress: called with (done, all) while voices are embedded for the first time.
    Raises InvalidInputError for a recording without enough speech or an empty list, MissingDependencyError without the
    speaker encoder.
    Source: embeddings of 1710.10467.
    """
    names = sorted(names)
    if not names:
        raise InvalidInputError(
            "--voice match: there is no voice to choose from.", hint="Run 'mouthpiece voices list'.", code="no_voice"
        )
    target = embed_speaker(recording)
    actor_hz = estimate_f0(extract_speech(recording), RATE_HZ).median_hz
    if actor_hz is None:
        raise InvalidInputError(
            "--voice match: the recording holds no voiced sound.", hint="Give a recording of speech.", code="no_speech"
        )
    embeddings, medians_hz = embed_voices(names, speak, progress)
    similarity = np.array([compute_speaker_similarity(embedding, target) for embedding in embeddings])
    shifts_st = np.array([float(compute_interval_st(actor_hz, hz)) for hz in medians_hz])
    order = np.argsort(-(similarity - REGISTER_PENALTY_PER_ST * np.maximum(0, np.abs(shifts_st) - MAX_SHIFT_ST)))
    first, nearest = int(order[0]), order[:MAX_CANDIDATES]
    best = _Candidate(float(similarity[first]), names[first])
    median_hz = dict(zip(names, medians_hz))
    for spec in [names[first], *rank_mixes([names[k] for k in nearest], embeddings[nearest], target)]:
        interval_st = compute_interval_st(actor_hz, _estimate_mix_f0(spec, median_hz))
        shift_st = float(np.clip(interval_st, -MAX_SHIFT_ST, MAX_SHIFT_ST))
        for tried_st in (0.0, shift_st / 2, shift_st) if abs(shift_st) > MIN_SHIFT_ST else (0.0,):
            candidate = _Candidate(_compute_similarity(speak(spec, tried_st), target), spec, tried_st)
            if candidate.similarity > best.similarity + MIN_SIMILARITY_GAIN:
                best = candidate
    best = _search_formant_ratio(best, speak, target)
    return VoiceMatch(
        spec=best.spec,
        similarity_before=float(similarity[first]),
        similarity_after=best.similarity,
        pitch_shift_st=best.shift_st,
        formant_ratio=best.formant_ratio,
        single=names[first],
        consent=NOT_RECORDED if consent is None else consent.as_record(),
    )


def _estimate_mix_f0(spec: str, median_hz: dict[str, float]) -> float:
    """Estimate the median F0 in Hz of a mix: the mean of its voices' in octaves, weighted by their shares."""
    parts = [part.partition(":")[::2] for part in spec.split("+")]
    shares = [float(share or 1) for _, share in parts]
    return float(np.exp(np.average([np.log(max(median_hz[name], 1.0)) for name, _ in parts], weights=shares)))


def _search_formant_ratio(best: _Candidate, speak: Speak, target: np.ndarray) -> _Candidate:
    """Search the formant ratio that comes nearest to a target embedding; the candidate itself where none gains."""
    wave = speak(best.spec, best.shift_st)
    shifted = [
        best._replace(
            similarity=_compute_similarity(apply_formant_shift(wave, VOICE_RATE_HZ, ratio), target), formant_ratio=ratio
        )
        for ratio in FORMANT_RATIOS
        if ratio != 1.0
    ]
    nearest = max(shifted, key=lambda candidate: candidate.similarity)
    return nearest if nearest.similarity > best.similarity + MIN_SIMILARITY_GAIN else best


def _compute_similarity(wave: np.ndarray, target: np.ndarray) -> float:
    return compute_speaker_similarity(embed_speaker(_resample_for_encoder(wave)), target)


def _resample_for_encoder(wave: np.ndarray) -> np.ndarray:
    return resample(wave, VOICE_RATE_HZ, RATE_HZ)


def rank_mixes(names: list[str], embeddings: np.ndarray, target: np.ndarray) -> list[str]:
    """Rank mixes of two and three voices by how near their weighted embeddings come to a target, best first.

    names: N voices.  embeddings: (N, 256).  target: (256,).
    Shares are found by non-negative least squares: styles mix convexly, embeddings nearly so.
    """
    similarity: dict[str, float] = {}
    for size in range(2, MAX_VOICES_IN_MIX + 1):
        for chosen in combinations(range(len(names)), size):
            shares, _ = nnls(embeddings[list(chosen)].T.astype(float), target.astype(float))
            shares = shares / max(shares.sum(), 1e-9)
            if shares.min() < MIN_SHARE:
                continue
            spec = "+".join(f"{names[k]}:{share:.2f}" for k, share in zip(chosen, shares))
            similarity[spec] = compute_speaker_similarity(shares @ embeddings[list(chosen)], target)
    return sorted(similarity, key=lambda spec: similarity[spec], reverse=True)[:MAX_TRIED_MIXES]


def embed_voices(
    names: Sequence[str], speak: Speak, progress: Callable[[int, int], None] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Embed voices that read the reference sentence: (embeddings (N, 256), median F0 in Hz (N,)); cached on disk.

    speak, progress: as for `match_voice`.
    """
    path = make_cache_folder(CACHE_FOLDER_NAME) / f"speakers-{CACHE_VERSION}-{WEIGHTS_SHA256[:8]}.npz"
    known = _read_cached_embeddings(path)
    missing = [n for n in names if n not in known]
    for done, name in enumerate(missing):
        wave = speak(name, 0.0)
        median_hz = estimate_f0(wave, VOICE_RATE_HZ).median_hz or 0.0
        known[name] = np.r_[embed_speaker(_resample_for_encoder(wave)), median_hz].astype(np.float32)
        if progress:
            progress(done + 1, len(missing))
    if missing:
        with atomic_write(path, overwrite=True) as part:
            np.savez(part, **known)
    rows = np.stack([known[n] for n in names])
    return rows[:, :-1], rows[:, -1]


def _read_cached_embeddings(path: Path) -> dict[str, np.ndarray]:
    """Read {voice: embedding and median F0 (257,)}; empty where there is no such file."""
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files if file[name].shape == (257,)}
    except (OSError, ValueError, KeyError, EOFError):
        return {}


def make_reader(load: Callable[[str], Voice], language: str = "en-us") -> Speak:
    """Make the function that speaks the reference sentence for `match_voice`, by timed voices.

    load: loads a voice by its specification.  language: of the reading, where the voice is not English.
    """
    from mouthpiece.voice.text.phones import make_utterance

    spoken: dict[tuple[str, float], np.ndarray] = {}

    def speak(spec: str, shift_st: float) -> np.ndarray:
        if (spec, shift_st) not in spoken:
            voice = load(spec)
            if not voice.timed:
                raise MissingDependencyError(
                    f"voice {spec} cannot be planned; --voice match needs one that can.",
                    hint="Use Kokoro's voices.",
                    code="untimed",
                )
            read_as = voice.language if voice.language.startswith("en") else language
            plan = voice.predict_plan(make_utterance(REFERENCE_SENTENCE, read_as))
            shifted = plan.replace_curves(f0=plan.f0 * np.float32(2 ** (shift_st / 12)))
            spoken[spec, shift_st] = voice.speak(shifted)[0]
        return spoken[spec, shift_st]

    return speak


def apply_formant_shift(
    wave: np.ndarray, rate_hz: int, formant_ratio: float = 1.0, shift_st: float = 0.0
) -> np.ndarray:
    """Shift the formants and pitch of a sound: (S,) float32, as long as before.

    wave: (S,) float32.  formant_ratio: 0.9 deeper to 1.1 brighter.  shift_st: semitones, for untimed voices.
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

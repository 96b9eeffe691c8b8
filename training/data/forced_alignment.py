"""Forced alignment of transcribed speech by pocketsphinx, and F0 by Praat: the labels of the phonetic encoder."""

from __future__ import annotations

import multiprocessing
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.encoders.phonetic import HOP_SAMPLES, PHONES, RATE_HZ, compute_log_mel, normalize_level
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.training.data.manifest import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # (name, speaker, log-mel, phone ids, F0)
    LabelledClip = tuple[str, str, np.ndarray, np.ndarray, np.ndarray]

UNKNOWN_PHONE = 255  # label of a tick nobody knows
JOBS = 32  # parts that the recordings are aligned in
# silence put at both ends: where the decoder loses its way without, it mostly finds it with
PADDINGS_S = (0.0, 0.25)


def split_words(text: str) -> list[str]:
    """Return the lower-case words of an English sentence, without punctuation."""
    return [w.strip("'") for w in re.sub(r"[^a-z' ]", " ", text.lower()).split() if w.strip("'")]


def align_phones(wave: np.ndarray, text: str, decoder: Any) -> list[tuple[str, int, int]] | None:
    """Return phones of a sentence as [(name, start, length)] in 10 ms frames, or None where words and sound do not fit.

    wave: (S,) float32 at 16 kHz.  text: its transcript.  decoder: a pocketsphinx Decoder without language model.
    Source: pocketsphinx two-pass alignment.
    """
    words = split_words(text)
    if not words or any(decoder.lookup_word(w) is None for w in words):
        return None
    for quiet_s in PADDINGS_S:
        found = _align_words(np.pad(wave, round(quiet_s * RATE_HZ)), words, decoder)
        if found is not None:
            skipped, last = round(quiet_s * 100), len(wave) // HOP_SAMPLES
            spans = [(n, max(0, a - skipped), min(last, a + length - skipped)) for n, a, length in found]
            return [(name, a, b - a) for name, a, b in spans if b > a]
    return None


def _align_words(wave: np.ndarray, words: list[str], decoder: Any) -> list[tuple[str, int, int]] | None:
    """Return phones as [(name, start, length)] of words in a wave, or None where the decoder loses its way."""
    raw = (np.clip(wave, -1, 1) * 32767).astype(np.int16).tobytes()
    try:
        decoder.set_align_text(" ".join(words))
        for prepare in (lambda: None, decoder.set_alignment):
            prepare()
            decoder.start_utt()
            decoder.process_raw(raw, full_utt=True)
            decoder.end_utt()
        return [(p.name, p.start, p.duration) for w in decoder.get_alignment() for p in w]
    except RuntimeError:
        return None


def track_pitch(wave: np.ndarray, ticks: int) -> np.ndarray:
    """Return the F0 in Hz (ticks,) float32 at 50 Hz, 0 where unvoiced.

    wave: (S,) float32 at 16 kHz.
    Source: Praat autocorrelation (Boersma 1993).
    """
    import parselmouth

    pitch = parselmouth.Sound(wave.astype(np.float64), RATE_HZ).to_pitch_ac(0.01, 65.0, pitch_ceiling=600.0)
    at = (np.arange(ticks) + 0.5) * 0.02
    return np.nan_to_num(np.array([pitch.get_value_at_time(t) for t in at], np.float32))


def label_sentence(wave: np.ndarray, text: str, decoder: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return (log-mel (80, T) float16, phone ids (T,) uint8, F0 (T // 2,) float16 Hz) of a sentence, or None where it
    does not
    align.

    wave, text, decoder: as for `align_phones`; any level.
    Ticks between phones are silence.
    """
    found = align_phones(wave / (np.abs(wave).max() + 1e-6) * 0.5, text, decoder)
    if found is None:
        return None
    mel = compute_log_mel(normalize_level(wave))
    ids = np.full(mel.shape[1], PHONES.index("SIL"), np.uint8)
    for name, start, length in found:
        ids[start : start + length] = PHONES.index(name) if name in PHONES else UNKNOWN_PHONE
    return mel.numpy().astype(np.float16), ids, track_pitch(wave, mel.shape[1] // 2).astype(np.float16)


def _align_part(job: tuple[Path, list[dict[str, str]]]) -> list[LabelledClip]:
    from pocketsphinx import Decoder

    data, rows = job
    decoder, done = Decoder(lm=None, loglevel="FATAL"), []
    for row in rows:
        wave = read_sound(Path(data) / row["sound"], RATE_HZ, mono=True).samples[0]
        labels = label_sentence(wave, row.get("text") or "", decoder)
        if labels is not None:
            done.append((row["sound"], row.get("speaker") or "", *labels))
    return done


def align_clips(data: Path, out: Path, workers: int = 2, progress: Callable[..., Any] | None = None) -> tuple[int, int]:
    """Write OUT/phones.npz: log-mel, phone per 10 ms and F0 per 20 ms of every English clip that aligns; returns
    (aligned, all).

    data: folder with manifest.jsonl.  out: working folder.  workers: processes.
    progress: called with (aligned, all).
    Raises what `read_rows` raises, InvalidInputError when nothing aligns.
    """
    rows = [dict(r, sound=r["path"]) for r in read_rows(data, ("speech",)) if r.get("language") == "en"]
    rows += [dict(r, sound=r["audio"]) for r in read_rows(data, ("talk",))]
    jobs = [(data, part) for i in range(JOBS) if (part := rows[i::JOBS])]
    done = []
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for labelled in pool.imap_unordered(_align_part, jobs):
            done += labelled
            if progress:
                progress(len(done), len(rows))
    if not done:
        raise InvalidInputError(
            f"{data}: not one English clip with text aligns.", hint="See docs/training.md for rows of kind 'speech'."
        )
    done.sort(key=lambda d: d[0])
    save_labels(Path(out) / "phones.npz", done)
    return len(done), len(rows)


def save_labels(path: Path, done: list[LabelledClip]) -> None:
    """Write phones.npz from rows (name, speaker, log-mel, phone ids, F0) of all clips."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lengths = np.array([d[2].shape[1] for d in done])
    with atomic_write(path, overwrite=True) as part:
        np.savez(
            part,
            names=np.array([d[0] for d in done]),
            speakers=np.array([d[1] for d in done]),
            lengths=lengths,
            mel=np.concatenate([d[2] for d in done], 1),
            phones=np.concatenate([d[3] for d in done]),
            f0=np.concatenate([np.pad(d[4], (0, -(-d[2].shape[1] // 2) - len(d[4]))) for d in done]),
        )


def load_synthetic_voices(out: Path) -> dict:
    """Return clips of OUT/voices.npz as `load_labelled_clips` gives them; {} where `train voices` did not run."""
    path = Path(out) / "voices.npz"
    return load_labelled_clips(path) if path.exists() else {}


def load_labelled_clips(path: Path) -> dict[str, dict[str, Any]]:
    """Return {name: dict(mel (80, T) float16, phones (T,), f0 (ceil T/2,), speaker)} from phones.npz. Source:
    `save_labels`.
    """
    d = np.load(path)
    mel, phones, f0, at, half = d["mel"], d["phones"], d["f0"], 0, 0
    out = {}
    for name, who, n in zip(d["names"], d["speakers"], d["lengths"]):
        m = -(-n // 2)
        out[str(name)] = dict(
            mel=mel[:, at : at + n], phones=phones[at : at + n], f0=f0[half : half + m], speaker=str(who)
        )
        at, half = at + n, half + m
    return out

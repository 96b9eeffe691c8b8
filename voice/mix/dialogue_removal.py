"""Removal of dialogue from a sound track: replaced by the room tone near it, or ducked over music and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.audio.sound import CHANNEL_NAMES, make_mix_matrix
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.media.reading import open_sound_stream
from mouthpiece.engine.timeline import DELIVERY_HZ, merge_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    Span = tuple[int, int]  # (start, stop) in samples at 48 kHz

RATE_HZ = DELIVERY_HZ
CHUNK_S = 60  # held at once; a chunk ends outside of every span
MAX_CHUNK_S = 300  # then it ends wherever it is
TONE_SEARCH_S = 15  # room tone comes from pauses this near to the line
MIN_TONE_S = 0.25
MAX_TONE_S = 3.0
MIN_TONE_DISTANCE_DB = 15.0  # less far below the line is music or noise, not room tone: then the line is ducked
SILENT_POWER = 1e-9  # room tone below it needs no distance
DUCK_DB = -18.0
FADE_S = 0.05  # into and out of a span, and from one piece of tone to the next
MAX_OVERHANG_S = 0.6  # speech that hangs over the edge of a span by less goes with it
_SPEECH_HZ = 16_000


def write_without_dialogue(
    source: Path, spans: Sequence[tuple[float, float]], path: Path, advance: Callable[[int], object] | None = None
) -> list[dict[str, Any]]:
    """Write a sound track without the dialogue in some spans as 32-bit float WAV; return what was done to each.

    source: recording or video.
    spans: (start_s, stop_s) in any order, may overlap.
    path: in a working folder; replaced when it is there.
    advance: called with samples done.
    Returns dicts as `remove_dialogue` reports them. Raises what open_sound_stream and atomic_write raise.
    """
    import soundfile

    report: list[dict[str, Any]] = []
    with open_sound_stream(source, RATE_HZ) as (_, blocks), atomic_write(path, True, (source,)) as part:
        file = None
        try:
            for block in remove_dialogue(blocks, spans, report):
                file = file or soundfile.SoundFile(part, "w", RATE_HZ, len(block), "FLOAT", format="RF64")
                file.write(block.T)
                if advance:
                    advance(block.shape[1])
        finally:
            if file:
                file.close()
    return report


def remove_dialogue(
    blocks: Iterable[np.ndarray], spans: Sequence[tuple[float, float]], report: list[dict[str, Any]] | None = None
) -> Iterator[np.ndarray]:
    """Replace spans of a sound by room tone, or duck them; yield it in (C, S) float32, elsewhere the same to the bit.

    blocks: (C, S) float32 at 48 kHz.
    spans: (start_s, stop_s).
    report: takes a dict for every span: start_s, stop_s, how ("room tone" or "ducked").
    """
    merged = merge_spans([(round(a * RATE_HZ), round(b * RATE_HZ)) for a, b in spans])
    rng = np.random.default_rng(0)
    for offset, chunk in _split_chunks(blocks, merged):
        inside = [(a - offset, b - offset) for a, b in merged if b > offset and a < offset + chunk.shape[1]]
        if not inside:
            yield chunk
            continue
        out, ways = _fill_spans(chunk, inside, rng)
        if report is not None:
            report += [
                {"start_s": round((offset + a) / RATE_HZ, 3), "stop_s": round((offset + b) / RATE_HZ, 3), "how": how}
                for (a, b), how in ways.items()
            ]
        yield out


def _split_chunks(blocks: Iterable[np.ndarray], spans: list[Span]) -> Iterator[tuple[int, np.ndarray]]:
    """Join blocks to (first sample, (C, S)) chunks of about CHUNK_S that end a little outside of every span."""
    held, length, offset, guard = [], 0, 0, int(MAX_OVERHANG_S * RATE_HZ)
    for block in blocks:
        held.append(block)
        length += block.shape[1]
        end = offset + length
        if length < CHUNK_S * RATE_HZ:
            continue
        if length >= MAX_CHUNK_S * RATE_HZ or not any(a - guard <= end <= b + guard for a, b in spans):
            yield offset, np.concatenate(held, 1)
            held, length, offset = [], 0, end
    if length:
        yield offset, np.concatenate(held, 1)


def _fill_spans(chunk: np.ndarray, spans: list[Span], rng: np.random.Generator) -> tuple[np.ndarray, dict[Span, str]]:
    """Fill or duck spans of a chunk; return the chunk and {span: how}. spans: in samples of the chunk."""
    from mouthpiece.voice.asr.transcription import find_speech_regions

    mono = make_mix_matrix(CHANNEL_NAMES[len(chunk)], 1)[0] @ chunk
    scale = RATE_HZ // _SPEECH_HZ
    regions = [(scale * a, scale * b) for a, b in find_speech_regions(resample(mono, RATE_HZ, _SPEECH_HZ))]
    spans = merge_spans([extend_span(span, regions, chunk.shape[1]) for span in spans])
    pauses = _find_pauses(spans + regions, chunk.shape[1])
    out, ways = chunk.copy(), {}
    for a, b in spans:
        tone = find_room_tone(chunk, mono, (a, b), pauses)
        gain = _make_fades(b - a)
        if tone is None:
            out[:, a:b] *= gain + (1 - gain) * np.float32(10 ** (DUCK_DB / 20))
        else:
            out[:, a:b] = out[:, a:b] * gain + loop_tone(tone, b - a, rng) * np.sqrt(1 - gain**2)
        ways[a, b] = "ducked" if tone is None else "room tone"
    return out, ways


def _make_fades(samples: int) -> np.ndarray:
    """Make the gain of a span that fades out at its start and in at its end: (samples,) float32, 0 between."""
    gain, fade = np.zeros(samples, np.float32), min(int(FADE_S * RATE_HZ), samples // 2)
    gain[:fade] = np.linspace(1, 0, fade)
    gain[samples - fade :] = np.linspace(0, 1, fade)
    return gain


def extend_span(span: Span, regions: Iterable[Span], length: int) -> Span:
    """Extend a span by the speech that hangs over its edges by less than MAX_OVERHANG_S.

    span, regions of speech: (start, stop).
    length: of the sound; all in samples at 48 kHz.
    """
    reach, (a, b) = int(MAX_OVERHANG_S * RATE_HZ), span
    for start, stop in regions:
        if start < span[1] and stop > span[0]:
            a = min(a, start) if span[0] - start < reach else a
            b = max(b, stop) if stop - span[1] < reach else b
    return max(0, a), min(b, length)


def _find_pauses(taken: list[Span], length: int) -> list[Span]:
    """Find what lies between spans and lasts MIN_TONE_S. length: of the sound in samples."""
    edges = merge_spans(taken)
    starts, stops = [0] + [b for _, b in edges], [a for a, _ in edges] + [length]
    return [(a, b) for a, b in zip(starts, stops) if b - a >= MIN_TONE_S * RATE_HZ]


def find_room_tone(chunk: np.ndarray, mono: np.ndarray, span: Span, pauses: list[Span]) -> np.ndarray | None:
    """Find the quietest pause near a line: (C, S) float32; None when none is near, or none is a quiet room.

    chunk: (C, S) float32.
    mono: (S,), the same on one channel.
    span, pauses: (start, stop) in samples.
    """
    near, longest = TONE_SEARCH_S * RATE_HZ, int(MAX_TONE_S * RATE_HZ)
    found = []
    for a, b in pauses:
        if a < span[1] + near and b > span[0] - near:
            a = max(a, b - longest) if b <= span[0] else a  # the part nearest to the line
            found.append((a, min(b, a + longest)))
    if not found:
        return None
    a, b = min(found, key=lambda pause: _compute_mean_power(mono[pause[0] : pause[1]]))
    line, tone = _compute_mean_power(mono[span[0] : span[1]]), _compute_mean_power(mono[a:b])
    return chunk[:, a:b] if tone <= line * 10 ** (-MIN_TONE_DISTANCE_DB / 10) or tone < SILENT_POWER else None


def _compute_mean_power(wave: np.ndarray) -> float:
    return float((wave.astype(np.float64) ** 2).mean()) if len(wave) else np.inf


def loop_tone(tone: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Loop room tone to any length: (C, samples) float32.

    tone: (C, S) float32; pieces from random places, which leave no pitch of the repetition, fade into each other at
    constant power.
    """
    fade = min(int(FADE_S * RATE_HZ), tone.shape[1] // 4)
    rise = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
    out, at = np.zeros((len(tone), samples + tone.shape[1]), np.float32), 0
    while at < samples:
        start = int(rng.integers(0, tone.shape[1] // 2))
        piece = tone[:, start:].copy()
        if at:
            piece[:, :fade] *= rise
        if fade:
            piece[:, -fade:] *= rise[::-1]
        out[:, at : at + piece.shape[1]] += piece
        at += piece.shape[1] - fade
    return out[:, :samples]

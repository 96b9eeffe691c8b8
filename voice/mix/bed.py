"""What lies under the new dialogue: the separated bed, the original with the old dialogue taken out, the user's own, or
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.audio.sound import CHANNEL_NAMES, make_mix_matrix
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import atomic_write, check_input_file
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import open_sound_stream
from mouthpiece.engine.timeline import DELIVERY_HZ, merge_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

BED_CHOICES = ("separate", "keep", "mute")
RATE_HZ = DELIVERY_HZ
CHUNK_S = 60  # held at once; a chunk ends outside of every span
TONE_SEARCH_S = 15  # room tone comes from pauses this near to the line
TONE_MIN_S, TONE_MAX_S = 0.25, 3.0
# what is not this far below the line is music or noise, no room tone: then the line is ducked
TONE_MIN_DISTANCE_DB = 15.0
DUCK_DB = -18.0
FADE_S = 0.05  # into and out of a span, and from one piece of tone to the next
MAX_OVERHANG_S = 0.6  # speech that hangs over the edge of a span by less goes with it
_SPEECH_HZ = 16_000


@dataclass(frozen=True)
class Bed:
    """A bed for mix.Programme.

    source: path of a sound at 48 kHz or of the user's own; None for silence.
    facts: JSON-ready: how it came about.
    """

    source: Path | None
    facts: dict = field(repr=False)


def make_bed(
    choice: str, video: Path, spans: list[tuple[float, float]], folder: Path, advance: Callable | None = None
) -> Bed:
    """Bed of a programme; what it writes goes to a folder of ours.

    choice: one of CHOICES, or the path of a music-and-effects track.
    video: path of the programme with its original sound; one without sound has a silent bed.
    spans: (start_s, stop_s) of the old dialogue, used by "keep".
    folder: Path of a working folder.  advance: called with samples done.
    Raises UsageProblem for a file that is not there, Refused for one without sound, what stems.load_spleeter raises.
    """
    if str(choice) not in BED_CHOICES:
        return _open_own_bed(Path(choice))
    if choice == "mute":
        return Bed(None, {"bed": "mute"})
    if not probe(video).has_audio:
        return Bed(None, {"bed": choice, "note": "the video has no sound: the bed is silent"})
    path = Path(folder) / "bed.wav"
    if choice == "separate":
        from mouthpiece.voice.mix.source_separation import separate_file

        samples = separate_file(video, Path(folder) / "original-dialogue.wav", path, advance=advance)
        return Bed(path, {"bed": "separate", "by": "Spleeter 2 stems", "samples": samples})
    return Bed(path, {"bed": "keep", "spans": write_without_dialogue(video, spans, path, advance)})


def check_bed(choice: str) -> None:
    """Refuses a bed of one's own that cannot be one, before any line is spoken. choice: as for make_bed. Raises what
    make_bed raises of it.
    """
    if str(choice) not in BED_CHOICES:
        _open_own_bed(Path(choice))


def _open_own_bed(path: Path) -> Bed | None:
    try:
        info = probe(check_input_file(path, "music-and-effects track"))
    except InvalidInputError as error:
        hint = f"--bed takes {', '.join(BED_CHOICES)}, or a sound file."
        raise (UsageError if error.code == "no_such_file" else InvalidInputError)(
            f"--bed {error.message}", hint=hint, code="bad_bed"
        ) from error
    if not info.has_audio:
        raise InvalidInputError(
            f"--bed {path}: no sound in it.", hint="Give a recording or a video with sound.", code="no_sound"
        )
    return Bed(
        path,
        {
            "bed": "own",
            "path": str(path),
            "rate_hz": info.audio_rate_hz,
            "channels": info.channels,
            "duration_s": None if info.duration is None else float(info.duration),
        },
    )


def write_without_dialogue(
    source: Path, spans: list[tuple[float, float]], path: Path, advance: Callable | None = None
) -> list[dict[str, Any]]:
    """Writes the original with the dialogue in `spans` replaced by room tone, or ducked, as 32-bit float WAV; gives
    what was done to each.

    source: path of a recording or video.  spans: (start_s, stop_s), any order, may overlap.
    path: of our own working folder; replaced when it is there.  advance: called with samples done.
    Raises what media.sound_stream and files.replacing raise.
    """
    import soundfile

    done = []
    with open_sound_stream(source, RATE_HZ) as (_, blocks), atomic_write(path, True, (source,)) as part:
        file = None
        try:
            for block in remove_dialogue(blocks, spans, done):
                file = file or soundfile.SoundFile(part, "w", RATE_HZ, len(block), "FLOAT", format="RF64")
                file.write(block.T)
                if advance:
                    advance(block.shape[1])
        finally:
            if file:
                file.close()
    return done


def remove_dialogue(blocks: Iterator, spans: list, done: list[dict[str, Any]] | None = None) -> Iterator[np.ndarray]:
    """The sound with spans replaced by room tone or ducked, in (C, S) float32 pieces; outside of them it is the same to
    the bit.

    blocks: iterable of (C, S) float32 at 48 kHz.  spans: (start_s, stop_s).
    done: list; gets a dict for every span: start_s, stop_s, how ("room tone", "ducked").
    """
    spans = merge_spans([(round(a * RATE_HZ), round(b * RATE_HZ)) for a, b in spans])
    rng, done = np.random.default_rng(0), [] if done is None else done
    for offset, chunk in _split_chunks(blocks, spans):
        inside = [(a - offset, b - offset) for a, b in spans if b > offset and a < offset + chunk.shape[1]]
        yield _fill_spans(chunk, inside, offset, rng, done) if inside else chunk


def _split_chunks(blocks: Iterator, spans: list[tuple[int, int]]) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, (C, S)) pieces of about CHUNK_S that end a little outside of every span, unless one is endless."""
    held, length, offset, guard = [], 0, 0, int(MAX_OVERHANG_S * RATE_HZ)
    for block in blocks:
        held.append(block)
        length += block.shape[1]
        end = offset + length
        if length >= CHUNK_S * RATE_HZ and (
            length >= 5 * CHUNK_S * RATE_HZ or not any(a - guard <= end <= b + guard for a, b in spans)
        ):
            yield offset, np.concatenate(held, 1)
            held, length, offset = [], 0, end
    if length:
        yield offset, np.concatenate(held, 1)


def _fill_spans(
    chunk: np.ndarray, spans: list[tuple[int, int]], offset: int, rng: np.random.Generator, done: list
) -> np.ndarray:
    """A chunk with its spans (samples of the chunk) replaced or ducked."""
    from mouthpiece.voice.asr.transcription import find_speech_regions

    mono = make_mix_matrix(CHANNEL_NAMES[len(chunk)], 1)[0] @ chunk
    scale = RATE_HZ // _SPEECH_HZ
    regions = [(scale * a, scale * b) for a, b in find_speech_regions(resample(mono, RATE_HZ, _SPEECH_HZ))]
    spans = merge_spans([extend_span(span, regions, chunk.shape[1]) for span in spans])
    pauses = _find_pauses(spans + regions, chunk.shape[1])
    out = chunk.copy()
    for a, b in spans:
        tone = find_room_tone(chunk, mono, (a, b), pauses)
        gain = np.ones(chunk.shape[1], np.float32)[a:b]
        fade = min(int(FADE_S * RATE_HZ), (b - a) // 2)
        gain[:fade], gain[len(gain) - fade :] = np.linspace(1, 0, fade), np.linspace(0, 1, fade)
        gain[fade : len(gain) - fade] = 0
        if tone is None:
            out[:, a:b] *= gain + (1 - gain) * np.float32(10 ** (DUCK_DB / 20))
        else:
            out[:, a:b] = out[:, a:b] * gain + loop_tone(tone, b - a, rng) * np.sqrt(1 - gain**2)
        done.append(
            {
                "start_s": round((offset + a) / RATE_HZ, 3),
                "stop_s": round((offset + b) / RATE_HZ, 3),
                "how": "ducked" if tone is None else "room tone",
            }
        )
    return out


def extend_span(span: tuple[int, int], regions: list, length: int) -> tuple[int, int]:
    """A span with the speech that hangs over its edges by less than REACH_S.

    span: (start, stop).  regions: (start, stop) of speech.  length: of the sound; all in samples at 48 kHz.
    """
    reach, (a, b) = int(MAX_OVERHANG_S * RATE_HZ), span
    for start, stop in regions:
        if start < span[1] and stop > span[0]:
            a = min(a, start) if span[0] - start < reach else a
            b = max(b, stop) if stop - span[1] < reach else b
    return max(0, a), min(b, length)


def _find_pauses(taken: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    edges = merge_spans(taken)
    starts, stops = [0] + [b for _, b in edges], [a for a, _ in edges] + [length]
    return [(a, b) for a, b in zip(starts, stops) if b - a >= TONE_MIN_S * RATE_HZ]


def find_room_tone(chunk: np.ndarray, mono: np.ndarray, span: tuple[int, int], pauses: list[tuple[int, int]]) -> None:
    """The quietest pause near a line: (C, S) float32, or None when none is near or what is there is no quiet room.

    chunk: (C, S) float32.  mono: (S,), the same on one channel.  span, pauses: (start, stop) in samples.
    """
    near, longest = TONE_SEARCH_S * RATE_HZ, int(TONE_MAX_S * RATE_HZ)
    found = []
    for a, b in pauses:
        if a < span[1] + near and b > span[0] - near:
            a = max(a, b - longest) if b <= span[0] else a  # the part nearest to the line
            found.append((a, min(b, a + longest)))
    if not found:
        return None
    a, b = min(found, key=lambda pause: _compute_mean_power(mono[pause[0] : pause[1]]))
    line, tone = _compute_mean_power(mono[span[0] : span[1]]), _compute_mean_power(mono[a:b])
    return chunk[:, a:b] if tone <= line * 10 ** (-TONE_MIN_DISTANCE_DB / 10) or tone < 1e-9 else None


def _compute_mean_power(wave: np.ndarray) -> float:
    return float((wave.astype(np.float64) ** 2).mean()) if len(wave) else np.inf


def loop_tone(tone, samples, rng):
    """Room tone of any length: pieces from random places, each faded into the next at constant power; (C, samples)
    float32.

    tone: (C, S) float32.  samples: int.  rng: numpy Generator.
    Source: ours; random places leave no pitch of the repetition.
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

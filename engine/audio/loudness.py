"""Loudness and true peak of a programme, as ITU-R BS.1770-4 measures them: the one meter of mixes and evaluations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import firwin, lfilter, upfirdn

from mouthpiece.engine.audio.resample import iterate_delivery_blocks
from mouthpiece.engine.audio.sound import CHANNEL_NAMES
from mouthpiece.engine.media.reading import open_sound_stream
from mouthpiece.engine.timeline import DELIVERY_HZ

if TYPE_CHECKING:
    from pathlib import Path

    from mouthpiece.engine.audio.sound import Sound

RATE_HZ = DELIVERY_HZ
HOP_SAMPLES = RATE_HZ // 1000  # power and peak are kept for every millisecond
BLOCK_HOPS = 400  # a gating block lasts 400 ms
STEP_HOPS = 100  # a new one starts every 100 ms
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
LUFS_OFFSET = -0.691  # of a power of 1: a full-scale sine of 997 Hz on one front channel then has -3.01 LUFS
OVERSAMPLING = 4  # of the true-peak meter
PEAK_TAPS = 12  # of its filter, a phase to each side
SURROUND_WEIGHT = 1.41
MIN_PEAK = 1e-7  # quieter is digital silence


@dataclass(frozen=True)
class Loudness:
    """Integrated loudness and true peak of a programme.

    lufs: integrated loudness; None for silence and for less than 0.4 s.
    true_peak_db: dBTP; None for digital silence.
    Source: ITU-R BS.1770-4.
    """

    lufs: float | None
    true_peak_db: float | None

    def as_dict(self) -> dict[str, float | None]:
        """Convert to a JSON-ready dict, rounded to hundredths."""
        return {name: None if value is None else round(value, 2) for name, value in vars(self).items()}


class PowerMeter:
    """Measure K-weighted power block by block: one number a hop, channels weighted and summed.

    channels: of a layout of mouthpiece.engine.audio.sound.CHANNEL_NAMES, at 48 kHz.
    hop_samples: length of a hop.
    Source: ITU-R BS.1770-4 annex 1; K-weighting from pyloudnorm.
    """

    def __init__(self, channels: int, hop_samples: int) -> None:
        self._hop_samples = hop_samples
        self._weights = get_channel_weights(channels)[:, None]
        self._filters = [(b, a, np.zeros((channels, max(len(a), len(b)) - 1))) for b, a in _design_k_weighting()]
        self._rest = np.zeros((channels, 0))

    def add(self, block: np.ndarray) -> np.ndarray:
        """Take the next (C, S) float32; return the mean square of the hops that it completes, (N,) float64."""
        weighted = block.astype(np.float64)
        for k, (b, a, state) in enumerate(self._filters):
            weighted, state = lfilter(b, a, weighted, axis=1, zi=state)
            self._filters[k] = (b, a, state)
        weighted = np.concatenate([self._rest, weighted], 1)
        whole = weighted.shape[1] // self._hop_samples * self._hop_samples
        hops = weighted[:, :whole].reshape(len(weighted), -1, self._hop_samples)
        self._rest = weighted[:, whole:]
        return (self._weights * (hops**2).mean(2)).sum(0)


class LoudnessMeter:
    """Measure a programme block by block, in little memory: two numbers a millisecond.

    channels: of a layout of mouthpiece.engine.audio.sound.CHANNEL_NAMES, at 48 kHz.
    Source: ITU-R BS.1770-4 annexes 1 and 2.
    """

    def __init__(self, channels: int) -> None:
        self._power_meter = PowerMeter(channels, HOP_SAMPLES)
        self._tail = np.zeros((channels, 2 * PEAK_TAPS), np.float32)
        self._powers: list[np.ndarray] = []
        self._peaks: list[np.ndarray] = []
        self._loose_peaks = np.zeros(0)
        self._delay = PEAK_TAPS
        self._closed = False

    def add(self, block: np.ndarray) -> None:
        """Take the next (C, S) float32."""
        self._powers.append(self._power_meter.add(block).astype(np.float32))
        self._add_peaks(block)

    def _add_peaks(self, block: np.ndarray) -> None:
        joined = np.concatenate([self._tail, block], 1)
        fine = np.abs(upfirdn(_design_peak_filter(), joined, up=OVERSAMPLING, axis=1))
        skip = 2 * PEAK_TAPS * OVERSAMPLING  # what the filter does before it is full
        fine = fine[:, skip : skip + block.shape[1] * OVERSAMPLING].max(0).reshape(-1, OVERSAMPLING).max(1)
        self._tail = joined[:, -2 * PEAK_TAPS :]
        peaks = np.concatenate([self._loose_peaks, fine[self._delay :]])
        self._delay = max(0, self._delay - len(fine))
        whole = len(peaks) // HOP_SAMPLES * HOP_SAMPLES
        self._peaks.append(peaks[:whole].reshape(-1, HOP_SAMPLES).max(1).astype(np.float32))
        self._loose_peaks = peaks[whole:]

    def get_hop_levels(self) -> tuple[np.ndarray, np.ndarray]:
        """End the measurement; return (power, peak), two (N,) float32, one a millisecond."""
        if not self._closed:
            self._closed = True
            silence = np.zeros((len(self._tail), PEAK_TAPS), np.float32)
            self._add_peaks(silence)  # the filter's delay
            if len(self._loose_peaks):
                self._peaks.append(np.array([self._loose_peaks.max()], np.float32))
        power, peaks = (np.concatenate(parts + [np.zeros(0, np.float32)]) for parts in (self._powers, self._peaks))
        return power, peaks

    def result(self) -> Loudness:
        """End the measurement; return the Loudness of all blocks."""
        power, peaks = self.get_hop_levels()
        highest = float(peaks.max(initial=0.0))
        return Loudness(compute_integrated_lufs(power), 20 * np.log10(highest) if highest > MIN_PEAK else None)


def get_channel_weights(channels: int) -> np.ndarray:
    """Get the weight of each loudspeaker, (C,) float64: sides 1.41, low frequencies 0, others 1.

    Source: ITU-R BS.1770-4 table 3.
    """
    names = CHANNEL_NAMES[channels]
    sides = ("SL", "SR") if "SL" in names else ("BL", "BR")
    return np.array([SURROUND_WEIGHT if name in sides else 0.0 if name == "LFE" else 1.0 for name in names])


@lru_cache(maxsize=1)
def _design_k_weighting() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Design the K-weighting as pyloudnorm does: (numerator, denominator) of a high shelf and a high pass."""
    from pyloudnorm import IIRfilter

    shelf = IIRfilter(4.0, 1 / np.sqrt(2), 1500.0, RATE_HZ, "high_shelf")
    high_pass = IIRfilter(0.0, 0.5, 38.0, RATE_HZ, "high_pass")
    return (shelf.b, shelf.a), (high_pass.b, high_pass.a)


@lru_cache(maxsize=1)
def _design_peak_filter() -> np.ndarray:
    taps = 2 * PEAK_TAPS * OVERSAMPLING + 1
    return OVERSAMPLING * firwin(taps, 1 / OVERSAMPLING, window=("kaiser", 5.0))


def compute_integrated_lufs(power: np.ndarray) -> float | None:
    """Compute the integrated loudness in LUFS of K-weighted power, in gating blocks of 400 ms every 100 ms.

    power: (N,) mean square a millisecond, channels weighted and summed.
    None when all of it is below the gate or there is less than 400 ms.
    Source: ITU-R BS.1770-4, equations 4 to 7.
    """
    if len(power) < BLOCK_HOPS:
        return None
    total = np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])
    starts = np.arange(0, len(power) - BLOCK_HOPS + 1, STEP_HOPS)
    return compute_gated_lufs((total[starts + BLOCK_HOPS] - total[starts]) / BLOCK_HOPS)


def compute_gated_lufs(blocks: np.ndarray) -> float | None:
    """Compute the loudness in LUFS of gating blocks; None when none passes the absolute gate.

    blocks: (N,) K-weighted mean squares, channels weighted and summed.
    Source: ITU-R BS.1770-4, equations 5 to 7.
    """
    absolute_gate = 10 ** ((ABSOLUTE_GATE_LUFS - LUFS_OFFSET) / 10)
    blocks = blocks[blocks > absolute_gate]
    if not len(blocks):
        return None
    blocks = blocks[blocks > max(absolute_gate, blocks.mean() * 10 ** (RELATIVE_GATE_LU / 10))]
    return float(LUFS_OFFSET + 10 * np.log10(blocks.mean()))


def measure_loudness(sound: Sound) -> Loudness:
    """Measure the Loudness of a Sound of any rate. Source: ITU-R BS.1770-4."""
    meter = LoudnessMeter(sound.channels)
    for block in iterate_delivery_blocks(sound):
        meter.add(block)
    return meter.result()


def measure_file_loudness(path: Path) -> Loudness:
    """Measure the Loudness of all channels of a file's sound, in constant memory.

    path: recording or video with sound.
    Raises what open_sound_stream raises.
    Source: ITU-R BS.1770-4.
    """
    with open_sound_stream(path, RATE_HZ) as (_, blocks):
        meter = None
        for block in blocks:
            meter = meter or LoudnessMeter(len(block))
            meter.add(block)
    return meter.result() if meter else Loudness(None, None)


def measure_stereo_lufs(path: Path) -> float | None:
    """Measure the integrated loudness in LUFS of a file mixed to two channels, in constant memory.

    path: recording or video with sound.
    None when no 400 ms of it pass the gate.
    Hops are as long as the step of the gating blocks and stay float64: beyond the seventh digit `measure_file_loudness`
    of a stereo file differs, whose hops of a millisecond also drive a limiter.
    Raises what open_sound_stream raises.
    Source: ITU-R BS.1770-4.
    """
    steps = BLOCK_HOPS // STEP_HOPS
    with open_sound_stream(path, RATE_HZ, 2) as (_, blocks):
        meter, powers = None, [np.zeros(0)]
        for block in blocks:
            meter = meter or PowerMeter(len(block), STEP_HOPS * HOP_SAMPLES)
            powers.append(meter.add(block))
    power = np.concatenate(powers)
    if len(power) < steps:
        return None
    return compute_gated_lufs(np.convolve(power, np.ones(steps) / steps, "valid"))


def measure_wave_lufs(wave: np.ndarray, rate_hz: int) -> float | None:
    """Measure the integrated loudness in LUFS of a short piece of one channel, at its own rate.

    wave: (S,) float.
    rate_hz: samples a second.
    None for 0.4 s and less, and for silence.
    Unlike the other meters pyloudnorm rounds the number of gating blocks, so a last one may reach past the end; of a
    line of a second that changes the first decimal.
    Source: ITU-R BS.1770-4 by pyloudnorm.
    """
    import pyloudnorm

    if len(wave) < BLOCK_HOPS / 1000 * rate_hz + 1:
        return None
    value = float(pyloudnorm.Meter(rate_hz).integrated_loudness(wave.astype(np.float64)))
    return value if math.isfinite(value) else None

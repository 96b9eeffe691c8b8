"""How loud a programme is and how it is brought to a target: BS.1770 loudness, true peak, a static gain, a limiter that
looks ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import firwin, lfilter, upfirdn

from mouthpiece.engine.audio.sound import CHANNEL_NAMES
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.timeline import DELIVERY_HZ

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from mouthpiece.engine.audio.sound import Sound

RATE_HZ = DELIVERY_HZ
HOP_SAMPLES = RATE_HZ // 1000  # power and peak are kept for every millisecond
BLOCK_HOPS, STEP_HOPS = 400, 100  # gating blocks of 400 ms, a new one every 100 ms
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0
OVERSAMPLING, PEAK_TAPS = 4, 12  # of the true-peak meter; taps a phase to each side
SURROUND_WEIGHT = 1.41
PEAK_MARGIN_DB = 0.1  # the limiter stays this far below the ceiling
LOOKAHEAD_HOPS, RELEASE_HOPS = 5, 120  # gain starts to fall 5 ms before a peak, and recovers in about 120 ms
_RELEASE_BLOCK_HOPS = 20 * RELEASE_HOPS  # a decay of that length is still a number
MAX_GAIN_DB = 40.0  # a programme this much too quiet is not speech recorded on purpose
LANDING_TOLERANCE_LU, MAX_LANDING_ITERATIONS = 0.02, 12
MIN_TARGET_LUFS, MAX_TARGET_LUFS = -40.0, -5.0


@dataclass(frozen=True)
class LoudnessTarget:
    """What a programme is delivered as.

    name: as asked for.  lufs: integrated loudness.  peak_db: highest true peak, dBTP.
    gated_by: "programme" or "dialogue": on what the loudness is metered.  tolerance_lu: what a check allows.
    Source: EBU R 128 (2020); Netflix sound mix specifications; what streaming services turn down to.
    """

    name: str
    lufs: float
    peak_db: float
    gated_by: str = "programme"
    tolerance_lu: float = 1.0


LOUDNESS_TARGETS = {
    "r128": LoudnessTarget("r128", -23.0, -1.0, tolerance_lu=0.2),
    "netflix": LoudnessTarget("netflix", -27.0, -2.0, gated_by="dialogue", tolerance_lu=2.0),
    "web": LoudnessTarget("web", -14.0, -1.0),
}


def parse_loudness_target(text: str) -> LoudnessTarget:
    """The Target asked for.

    text: a key of TARGETS, or LUFS as a number from LOWEST to HIGHEST (peak at most -1 dBTP).
    Raises UsageProblem for anything else.
    """
    if text in LOUDNESS_TARGETS:
        return LOUDNESS_TARGETS[text]
    try:
        lufs = float(text)
    except (TypeError, ValueError):
        lufs = 0.0
    if not MIN_TARGET_LUFS <= lufs <= MAX_TARGET_LUFS:
        need = f"{', '.join(LOUDNESS_TARGETS)}, or LUFS from {MIN_TARGET_LUFS:.0f} to {MAX_TARGET_LUFS:.0f}"
        raise UsageError(f"--loudness {text}: need {need}.", code="bad_loudness")
    return LoudnessTarget(str(text), lufs, -1.0)


@dataclass(frozen=True)
class Loudness:
    """What a meter says.

    lufs: integrated loudness; None for silence and for less than 0.4 s.
    true_peak_db: dBTP; None for digital silence.
    Source: ITU-R BS.1770-4.
    """

    lufs: float | None
    true_peak_db: float | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, hundredths."""
        return {name: None if value is None else round(value, 2) for name, value in vars(self).items()}


class LoudnessMeter:
    """Measures a programme block by block, in little memory: two numbers a millisecond.

    channels: int, of a layout of mouthpiece.engine.audio.sound.CHANNEL_NAMES, at 48 kHz.
    Source: ITU-R BS.1770-4 annexes 1 and 2; K-weighting from pyloudnorm.
    """

    def __init__(self, channels: int) -> None:
        self._weights = get_channel_weights(channels)[:, None]
        self._filters = [(b, a, np.zeros((channels, max(len(a), len(b)) - 1))) for b, a in _design_k_weighting()]
        self._tail = np.zeros((channels, 2 * PEAK_TAPS), np.float32)
        self._rest = np.zeros((channels, 0))
        self._power, self._peaks, self._loose_peaks = [], [], np.zeros(0)
        self._delay, self._closed = PEAK_TAPS, False

    def add(self, block: np.ndarray) -> None:
        """Takes the next (C, S) float32."""
        weighted = block.astype(np.float64)
        for k, (b, a, state) in enumerate(self._filters):
            weighted, state = lfilter(b, a, weighted, axis=1, zi=state)
            self._filters[k] = (b, a, state)
        weighted = np.concatenate([self._rest, weighted], 1)
        whole = weighted.shape[1] // HOP_SAMPLES * HOP_SAMPLES
        hops = weighted[:, :whole].reshape(len(weighted), -1, HOP_SAMPLES)
        self._power.append((self._weights * (hops**2).mean(2)).sum(0).astype(np.float32))
        self._rest = weighted[:, whole:]
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
        """What was measured: (power, peak), two (N,) float32, one a millisecond; ends the measurement."""
        if not self._closed:
            self._closed = True
            silence = np.zeros((len(self._tail), PEAK_TAPS), np.float32)
            self._add_peaks(silence)  # the filter's delay
            if len(self._loose_peaks):
                self._peaks.append(np.array([self._loose_peaks.max()], np.float32))
        power, peaks = (np.concatenate(parts + [np.zeros(0, np.float32)]) for parts in (self._power, self._peaks))
        return power, peaks

    def result(self) -> Loudness:
        """Loudness of all blocks; ends the measurement."""
        power, peaks = self.get_hop_levels()
        highest = float(peaks.max(initial=0.0))
        return Loudness(compute_integrated_lufs(power), 20 * np.log10(highest) if highest > 1e-7 else None)


def get_channel_weights(channels: int) -> np.ndarray:
    """(C,) float64: what each loudspeaker counts: sides 1.41, low frequencies nothing, others 1. Source: ITU-R
    BS.1770-4 table 3.
    """
    names = CHANNEL_NAMES[channels]
    sides = ("SL", "SR") if "SL" in names else ("BL", "BR")
    return np.array([SURROUND_WEIGHT if name in sides else 0.0 if name == "LFE" else 1.0 for name in names])


@lru_cache(maxsize=1)
def _design_k_weighting() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    from pyloudnorm import Meter as Reference

    return tuple((stage.b, stage.a) for stage in Reference(RATE_HZ)._filters.values())


@lru_cache(maxsize=1)
def _design_peak_filter() -> np.ndarray:
    taps = 2 * PEAK_TAPS * OVERSAMPLING + 1
    return OVERSAMPLING * firwin(taps, 1 / OVERSAMPLING, window=("kaiser", 5.0))


def compute_integrated_lufs(power: np.ndarray) -> float | None:
    """Integrated loudness in LUFS of K-weighted power, None when all of it is below the gate or there is less than 400
    ms.

    power: (N,) mean square a millisecond, channels weighted and summed.
    Source: ITU-R BS.1770-4, equations 4 to 7.
    """
    if len(power) < BLOCK_HOPS:
        return None
    total = np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])
    starts = np.arange(0, len(power) - BLOCK_HOPS + 1, STEP_HOPS)
    blocks = (total[starts + BLOCK_HOPS] - total[starts]) / BLOCK_HOPS
    for gate in (_convert_lufs_to_power(ABSOLUTE_GATE_LUFS), None):
        if gate is None:
            gate = max(_convert_lufs_to_power(ABSOLUTE_GATE_LUFS), blocks.mean() * 10 ** (RELATIVE_GATE_LU / 10))
        blocks = blocks[blocks > gate]
        if not len(blocks):
            return None
    return float(-0.691 + 10 * np.log10(blocks.mean()))


def _convert_lufs_to_power(lufs: float) -> float:
    return 10 ** ((lufs + 0.691) / 10)


def measure_loudness(sound: Sound) -> Loudness:
    """Loudness of a Sound of any rate. sound: mouthpiece.engine.audio.sound.Sound. Source: ITU-R BS.1770-4."""
    meter = LoudnessMeter(sound.channels)
    for block in iterate_delivery_blocks(sound):
        meter.add(block)
    return meter.result()


def iterate_delivery_blocks(sound: Sound) -> Iterator[np.ndarray]:
    """A Sound at 48 kHz in (C, S) float32 blocks of about a second; its length is right to the nearest sample."""
    samples = sound.samples
    if sound.rate_hz != RATE_HZ:
        from scipy.signal import resample_poly

        common = np.gcd(sound.rate_hz, RATE_HZ)
        length = round(samples.shape[1] * RATE_HZ / sound.rate_hz)
        samples = resample_poly(samples, RATE_HZ // common, sound.rate_hz // common, axis=1).astype(np.float32)[
            :, :length
        ]
    for start in range(0, samples.shape[1], RATE_HZ):
        yield samples[:, start : start + RATE_HZ]


def compute_limiter_gain(peaks: np.ndarray, ceiling: float) -> np.ndarray:
    """Gain of a limiter that looks ahead, (N + 1,) in (0, 1]: at the edges of the milliseconds, straight lines between
    them.

    peaks: (N,) true peak of every millisecond.  ceiling: what no peak times its gain exceeds.
    Falls within AHEAD_HOPS before a peak and recovers slowly; where nothing is too loud it is exactly 1.
    Source: ours; least gain ahead, slow release, mean over the fall.
    """
    needed = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9)).astype(np.float64)
    if not len(needed) or needed.min() >= 1:
        return np.ones(len(needed) + 1)
    padded = np.concatenate([[1.0], needed, np.ones(1 + LOOKAHEAD_HOPS)])
    # from the hop before an edge to AHEAD_HOPS after
    least = np.lib.stride_tricks.sliding_window_view(padded, LOOKAHEAD_HOPS + 2).min(1)
    gain = 1 - _apply_release(1 - least)
    gain = np.concatenate([np.full(LOOKAHEAD_HOPS - 1, gain[0]), gain])
    return np.convolve(gain, np.full(LOOKAHEAD_HOPS, 1 / LOOKAHEAD_HOPS), "valid")


def _apply_release(lack: np.ndarray) -> np.ndarray:
    """Each value, or what is left of an earlier one that decays in RELEASE_HOPS: d[k] = max(lack[k], d[k - 1] keep)."""
    out, last = np.empty_like(lack), 0.0
    for start in range(0, len(lack), _RELEASE_BLOCK_HOPS):
        part = lack[start : start + _RELEASE_BLOCK_HOPS]
        decay = np.exp(-np.arange(1, len(part) + 1) / RELEASE_HOPS)
        out[start : start + len(part)] = np.maximum(np.maximum.accumulate(part / decay), last) * decay
        last = out[start + len(part) - 1]
    return out


@dataclass(frozen=True)
class Mastering:
    """A static gain and a limiter, for one programme.

    gain_db: static.  envelope: (N + 1,) limiter's gain at the edges of the milliseconds.  note: what could not be done,
    or "".
    """

    gain_db: float
    envelope: np.ndarray
    note: str = ""

    @property
    def reduction_db(self) -> float:
        """The most the limiter takes away."""
        return abs(float(20 * np.log10(self.envelope.min())))

    def compute_gains(self, start: int, samples: int) -> np.ndarray:
        """(samples,) float32 from a sample number on. start, samples: ints."""
        at = (start + np.arange(samples)) / HOP_SAMPLES
        return (10 ** (self.gain_db / 20) * np.interp(at, np.arange(len(self.envelope)), self.envelope)).astype(
            np.float32
        )


def compute_mastering(
    programme: tuple[np.ndarray, np.ndarray], dialogue: tuple[np.ndarray, np.ndarray], target
) -> Mastering:
    """Mastering that lands a programme on a target, limiter included.

    programme, dialogue: pairs (power, peak) from Meter.hops, of the mix and of its dialogue.
    target: Target, or None for the peaks alone: -1 dBTP.
    Source: ours; the gain is found by trying it on the power of every millisecond.
    """
    power, peaks = programme
    target = target or LoudnessTarget("none", 0.0, -1.0)
    ceiling = 10 ** ((target.peak_db - PEAK_MARGIN_DB) / 20)
    metered, note = power, ""
    if target.gated_by == "dialogue":
        if compute_integrated_lufs(dialogue[0]) is None:
            note = "no dialogue to meter: metered on the whole programme"
        else:
            metered = dialogue[0]
    now = compute_integrated_lufs(metered)
    if target.name == "none" or now is None:
        note = note if target.name == "none" else "silent, or shorter than 0.4 s: no loudness to bring anywhere"
        return Mastering(0.0, compute_limiter_gain(peaks, ceiling), note)
    gain_db = min(target.lufs - now, MAX_GAIN_DB)
    if gain_db == MAX_GAIN_DB:
        note = f"{now:.1f} LUFS: too quiet, raised by {MAX_GAIN_DB:.0f} dB and no more"
        return Mastering(gain_db, compute_limiter_gain(peaks * 10 ** (gain_db / 20), ceiling), note)
    for _ in range(MAX_LANDING_ITERATIONS):
        envelope = compute_limiter_gain(peaks * 10 ** (gain_db / 20), ceiling)
        middle = (envelope[:-1] + envelope[1:])[: len(metered)] / 2
        landed = compute_integrated_lufs(metered[: len(middle)] * middle**2 * 10 ** (gain_db / 10))
        if landed is None or abs(target.lufs - landed) < LANDING_TOLERANCE_LU or gain_db >= MAX_GAIN_DB:
            break
        gain_db = min(gain_db + target.lufs - landed, MAX_GAIN_DB)
    if landed is not None and abs(target.lufs - landed) > target.tolerance_lu:
        note = f"peaks under {target.peak_db:.0f} dBTP allow {landed:.1f} LUFS at most"
    return Mastering(gain_db, envelope, note)

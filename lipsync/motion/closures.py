"""Post-processing of mouth codes: lips that meet on p, b, m and nearly on f, v; an opening neither too small nor too
large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from mouthpiece.engine.contracts import PHONES, SILENCE_COLUMN
from mouthpiece.engine.encoders.motion import BLINK_INDEX

if TYPE_CHECKING:
    from mouthpiece.lipsync.options import AnimateOptions, LipsyncOptions

BILABIALS = [PHONES.index(phone) for phone in "PBM"]  # columns of an articulation
LABIODENTALS = [PHONES.index(phone) for phone in "FV"]  # columns of an articulation
BILABIAL_OPENING = -0.006  # wanted opening, units of the crop: lips pressed, for codes scatter by 0.002
LABIODENTAL_OPENING = 0.008  # wanted opening, units of the crop: a third of a usual one
FULL_POSTERIOR = 0.5  # posterior from which a sound counts fully
CLOSURE_LEAD_S = 0.02  # seconds by which lips meet before the middle of the posterior; mean of recorded mouths
CLOSURE_PAD_TICKS = 1  # of 20 ms: the closure is this much longer than the sound at both ends
CLOSURE_SMOOTHING_TICKS = 1.0  # of 20 ms, deviation of its slopes
TICK_S = 0.02  # seconds of a tick of an articulation
TYPICAL_OPENING_DEVIATION = 0.0155  # deviation of the opening in speech, units of the crop
SMALLEST_GAIN = 0.7  # the least factor on a mouth's opening
LARGEST_GAIN = 1.5  # the largest
PRIOR_TICKS = 25  # of 40 ms: weight of the typical deviation; speech shorter than this says little


def compute_closure(articulation: np.ndarray, phones: list[int]) -> np.ndarray:
    """Compute how far some phones hold the lips together, (T,) float32 in [0, 1] at 25 Hz, with slopes of about 60 ms.

    articulation: (2 T, 43) at 50 Hz.  phones: columns of it.
    Lead and width are those of recorded lips, docs/log.md.
    """
    held = np.clip(articulation[:, phones].sum(1) / FULL_POSTERIOR, 0, 1)
    held = gaussian_filter1d(maximum_filter1d(held, 2 * CLOSURE_PAD_TICKS + 1), CLOSURE_SMOOTHING_TICKS)
    # a posterior is of the middle of its 20 ms
    at = np.arange(len(held) // 2) * 2 + CLOSURE_LEAD_S / TICK_S - 0.25
    return np.interp(at, np.arange(len(held)), held).astype(np.float32)


def enforce_closures(
    mouth: np.ndarray, articulation: np.ndarray, lips: np.ndarray, strength: float = 1.0
) -> np.ndarray:
    """Close the lips of mouth codes (T, 21) on p, b and m, and nearly on f and v, changing as little else as possible.

    articulation: (2 T, 43) at 50 Hz.
    lips: (21,) opening in units of the crop for a unit code.
    strength: 0 changes nothing, 1 closes wholly.
    The least change of a code whose numbers have unit deviation is along `lips`. On p, b and m all else comes to rest
    too:
    lips that meet in another shape are drawn a little apart on many faces.
    """
    power = float(lips @ lips)
    if strength == 0 or power == 0:
        return mouth
    for phones, opening in ((LABIODENTALS, LABIODENTAL_OPENING), (BILABIALS, BILABIAL_OPENING)):
        over = np.maximum(0, mouth @ lips - opening)
        mouth = mouth - (strength * compute_closure(articulation, phones) * over)[:, None] * (lips / power)
    along = np.outer(mouth @ lips / power, lips)
    free = 1 - strength * compute_closure(articulation, BILABIALS)[:, None]
    return (along + free * (mouth - along)).astype(np.float32)


def normalize_opening(mouth: np.ndarray, articulation: np.ndarray, lips: np.ndarray, amount: float = 1.0) -> np.ndarray:
    """Scale mouth codes (T, 21) as a whole, so that the opening in speech has its typical deviation.

    mouth, articulation, lips: as for `enforce_closures`.
    amount: 0 changes nothing, 1 goes all the way, within SMALLEST_GAIN and LARGEST_GAIN; little speech counts little.
    """
    speech = (1 - articulation[:, SILENCE_COLUMN]).reshape(-1, 2).mean(1)
    total = float(speech.sum())
    if amount == 0 or total == 0:
        return mouth
    opening = mouth @ lips
    spread = float((speech * (opening - (speech * opening).sum() / total) ** 2).sum())
    deviation = np.sqrt((spread + PRIOR_TICKS * TYPICAL_OPENING_DEVIATION**2) / (total + PRIOR_TICKS))
    return (mouth * np.clip(TYPICAL_OPENING_DEVIATION / deviation, SMALLEST_GAIN, LARGEST_GAIN) ** amount).astype(
        np.float32
    )


def postprocess_mouth(
    codes: np.ndarray, articulation: np.ndarray, lips: np.ndarray, options: AnimateOptions | LipsyncOptions
) -> np.ndarray:
    """Normalize and close the mouth part (T, 21) of codes (T, 32) as the options want."""
    mouth = normalize_opening(codes[:, :BLINK_INDEX], articulation, lips, options.normalize_mouth)
    return enforce_closures(mouth, articulation, lips, options.closure)

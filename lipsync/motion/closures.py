"""What a mouth owes to its sounds: lips that meet on p, b and m, nearly meet on f and v, and open neither too little
nor too far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from mouthpiece.engine.encoders.motion import BLINK_INDEX
from mouthpiece.engine.encoders.phonetic import PHONES

if TYPE_CHECKING:
    from mouthpiece.lipsync.options import AnimateOptions

SIL_INDEX = PHONES.index("SIL")
BILABIALS, LABIODENTALS = ([PHONES.index(p) for p in names] for names in ("PBM", "FV"))
# opening wanted of the two, in units of the crop: lips pressed, since codes scatter by 0.002; a third of a usual
# opening
BILABIAL_OPENING, LABIODENTAL_OPENING = -0.006, 0.008
FULL_POSTERIOR = 0.5  # posterior from which a sound is taken for said
# lips meet this much before the middle of the posterior; mean of the real mouths
CLOSURE_LEAD_S = 0.02
# of 20 ms: the closure is this much longer than the sound at both ends; deviation of its slopes
CLOSURE_PAD_TICKS, CLOSURE_SMOOTHING_TICKS = 1, 1.0
TICK_S = 0.02
# deviation of the opening while somebody speaks, in units of the crop
TYPICAL_OPENING_DEVIATION = 0.0155
SMALLEST_GAIN, LARGEST_GAIN = 0.7, 1.5  # a performance is never scaled further
PRIOR_TICKS = 25  # of 40 ms: speech less than this says little of the level


def compute_closure(articulation: np.ndarray, phones: list[int]) -> np.ndarray:
    """How far some sounds hold the lips, (T,) float32 in [0, 1] on the 25 Hz clock, with slopes of about 60 ms.

    articulation: (2 T, 43) at 50 Hz.  phones: their numbers.
    Source: ours; shift and width from the lips of recorded people, docs/log.md.
    """
    held = np.clip(articulation[:, phones].sum(1) / FULL_POSTERIOR, 0, 1)
    held = gaussian_filter1d(maximum_filter1d(held, 2 * CLOSURE_PAD_TICKS + 1), CLOSURE_SMOOTHING_TICKS)
    # a posterior is of the middle of its 20 ms
    at = np.arange(len(held) // 2) * 2 + CLOSURE_LEAD_S / TICK_S - 0.25
    return np.interp(at, np.arange(len(held)), held).astype(np.float32)


def enforce_closures(
    mouth: np.ndarray, articulation: np.ndarray, lips: np.ndarray, strength: float = 1.0
) -> np.ndarray:
    """Mouth codes (T, 21) with lips that meet on p, b and m and nearly on f and v; all that can stay as it was does.

    mouth: (T, 21).  articulation: (2 T, 43).
    lips: (21,) opening in units of the crop for a unit code.
    strength: 0 changes nothing, 1 shuts wholly.
    Source: ours; the least change of a code whose numbers have unit deviation is along `lips`. On p, b and m all else
    comes to rest too:
    lips that meet in another shape are drawn a little apart on many faces.
    """
    power = float(lips @ lips)
    if strength == 0 or power == 0:
        return mouth
    for phones, wanted in ((LABIODENTALS, LABIODENTAL_OPENING), (BILABIALS, BILABIAL_OPENING)):
        over = np.maximum(0, mouth @ lips - wanted)
        mouth = mouth - (strength * compute_closure(articulation, phones) * over)[:, None] * (lips / power)
    along = np.outer(mouth @ lips / power, lips)
    free = 1 - strength * compute_closure(articulation, BILABIALS)[:, None]
    return (along + free * (mouth - along)).astype(np.float32)


def normalize_opening(mouth: np.ndarray, articulation: np.ndarray, lips: np.ndarray, amount: float = 1.0) -> np.ndarray:
    """Mouth codes (T, 21) scaled as a whole, so that the opening in speech deviates as it usually does.

    mouth, articulation, lips: as for `closed`.
    amount: 0 changes nothing, 1 goes all the way, within LEAST and MOST.
    Source: ours; a little speech counts little.
    """
    speech = (1 - articulation[:, SIL_INDEX]).reshape(-1, 2).mean(1)
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
    codes: np.ndarray, articulation: np.ndarray, lips: np.ndarray, options: AnimateOptions
) -> np.ndarray:
    """The first 21 numbers of codes (T, 32), levelled and closed as the options want. options: with level and closure.
    """
    mouth = normalize_opening(codes[:, :BLINK_INDEX], articulation, lips, options.normalize_mouth)
    return enforce_closures(mouth, articulation, lips, options.closure)

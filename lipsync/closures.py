"""What a mouth owes to its sounds: lips that meet on p, b and m, nearly meet on f and v, and open neither too little nor too far."""
import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from engine.encoders.audio import PHONES
from engine.encoders.vision import BLINK

SILENCE = PHONES.index("SIL")
MEETING, NEARLY = ([PHONES.index(p) for p in names] for names in ("PBM", "FV"))
SHUT, NARROW = -0.006, 0.008           # opening wanted of the two, in units of the crop: lips pressed, since codes scatter by 0.002; a third of a usual opening
SURE = 0.5                             # posterior from which a sound is taken for said
EARLY_S = 0.02                         # lips meet this much before the middle of the posterior; mean of the real mouths
REACH_TICKS, SOFT_TICKS = 1, 1.0       # of 20 ms: the closure is this much longer than the sound at both ends; deviation of its slopes
TICK_S = 0.02
USUAL = 0.0155                         # deviation of the opening while somebody speaks, in units of the crop
LEAST, MOST = 0.7, 1.5                 # a performance is never scaled further
DOUBT_TICKS = 25                       # of 40 ms: speech less than this says little of the level


def closing(articulation, phones):
    """How far some sounds hold the lips, (T,) float32 in [0, 1] on the 25 Hz clock, with slopes of about 60 ms.

    articulation: (2 T, 43) at 50 Hz.  phones: their numbers.
    Source: ours; shift and width from the lips of recorded people, docs/log.md.
    """
    held = np.clip(articulation[:, phones].sum(1) / SURE, 0, 1)
    held = gaussian_filter1d(maximum_filter1d(held, 2 * REACH_TICKS + 1), SOFT_TICKS)
    at = np.arange(len(held) // 2) * 2 + EARLY_S / TICK_S - 0.25       # a posterior is of the middle of its 20 ms
    return np.interp(at, np.arange(len(held)), held).astype(np.float32)


def closed(mouth, articulation, lips, strength=1.0):
    """Mouth codes (T, 21) with lips that meet on p, b and m and nearly on f and v; all that can stay as it was does.

    mouth: (T, 21).  articulation: (2 T, 43).
    lips: (21,) opening in units of the crop for a unit code.
    strength: 0 changes nothing, 1 shuts wholly.
    Source: ours; the least change of a code whose numbers have unit deviation is along `lips`. On p, b and m all else comes to rest too:
    lips that meet in another shape are drawn a little apart on many faces.
    """
    power = float(lips @ lips)
    if strength == 0 or power == 0:
        return mouth
    for phones, wanted in ((NEARLY, NARROW), (MEETING, SHUT)):
        over = np.maximum(0, mouth @ lips - wanted)
        mouth = mouth - (strength * closing(articulation, phones) * over)[:, None] * (lips / power)
    along = np.outer(mouth @ lips / power, lips)
    free = 1 - strength * closing(articulation, MEETING)[:, None]
    return (along + free * (mouth - along)).astype(np.float32)


def levelled(mouth, articulation, lips, amount=1.0):
    """Mouth codes (T, 21) scaled as a whole, so that the opening in speech deviates as it usually does.

    mouth, articulation, lips: as for `closed`.
    amount: 0 changes nothing, 1 goes all the way, within LEAST and MOST.
    Source: ours; a little speech counts little.
    """
    speech = (1 - articulation[:, SILENCE]).reshape(-1, 2).mean(1)
    total = float(speech.sum())
    if amount == 0 or total == 0:
        return mouth
    opening = mouth @ lips
    spread = float((speech * (opening - (speech * opening).sum() / total) ** 2).sum())
    deviation = np.sqrt((spread + DOUBT_TICKS * USUAL**2) / (total + DOUBT_TICKS))
    return (mouth * np.clip(USUAL / deviation, LEAST, MOST) ** amount).astype(np.float32)


def mouthed(codes, articulation, lips, options):
    """The first 21 numbers of codes (T, 32), levelled and closed as the options want. options: with level and closure. Source: ours."""
    mouth = levelled(codes[:, :BLINK], articulation, lips, options.level)
    return closed(mouth, articulation, lips, options.closure)

"""A plan with the shape of Kokoro's, and a voice that speaks plans without any model."""

import numpy as np

from mouthpiece.voice.plan.speech_plan import PAUSE, UNIT_SAMPLES, SpeechPlan, Word

FLOOR, LOUD, UNITS_DB = -9.6, 9.0, 78.0  # Kokoro's energy in silence, in loud vowels; what lies between in dB
# "Open the door, please wait now." with times as Kokoro plans them: long silences hide in the ɹ before the comma and in
# the last W.
PHONES = tuple("$|ˈ|O|p|ə|n| |ð|ə| |d|ˈ|ɔ|ɹ|,| |p|l|ˈ|i|z| |w|ˈ|A|t| |n|ˈ|W|.|$".split("|"))
DURATIONS = (14, 3, 3, 2, 2, 3, 2, 1, 2, 2, 2, 4, 4, 12, 4, 2, 2, 2, 3, 4, 3, 2, 2, 3, 5, 2, 2, 3, 4, 16, 7, 1)
SOUNDING_UNITS = {13: 3, 29: 4}  # units in which those two sound


def make_kokoro_plan():
    """Plan of PHONES with falling melody and energies that are silent where Kokoro's are."""
    f0, energy, units = [], [], sum(DURATIONS)
    for k, (phone, length) in enumerate(zip(PHONES, DURATIONS)):
        sounding = 0 if phone in "$.," else SOUNDING_UNITS.get(k, length)
        level = LOUD if phone in "ˈOəɔiAW" else 5.0
        energy += [level] * (2 * sounding) + [FLOOR] * (2 * (length - sounding))
        f0 += [200.0] * (2 * sounding) + [4.0] * (2 * (length - sounding))
    f0 = np.where(np.array(f0) > 50, 200 - 60 * np.linspace(0, 1, 2 * units), 4.0)
    words = (
        Word("Open", 1, 6, (0, 4)),
        Word("the", 7, 9, (5, 8)),
        Word("door", 10, 14, (9, 13)),
        Word("please", 16, 21, (15, 21)),
        Word("wait", 22, 26, (22, 26)),
        Word("now", 27, 30, (27, 30)),
    )
    return SpeechPlan(
        "Open the door, please wait now.",
        "en-us",
        PHONES,
        DURATIONS,
        f0.astype(np.float32),
        np.array(energy, np.float32),
        words,
    )


def render_plan(plan, cut_units=0):
    """Render (1, S) float32: noise as loud as the plan's energy says; cut_units of its end are lost, as voices do."""
    curve = np.repeat((plan.energy - LOUD) / (LOUD - FLOOR) * UNITS_DB, UNIT_SAMPLES // 2)
    wave = 0.3 * 10 ** (curve / 20) * np.sign(np.sin(np.arange(plan.samples) * 0.3))
    if cut_units:
        end = int(np.flatnonzero(curve > -35)[-1]) + 1
        wave[end - cut_units * UNIT_SAMPLES :] *= 1e-4
    return wave.astype(np.float32)[None]


def make_plan(phones, length=1, hz=200.0):
    """Plan of phones of equal length between two PAUSEs of 4 units, loud and at one pitch."""
    phones = (PAUSE, *phones, PAUSE)
    durations = (4, *[length] * (len(phones) - 2), 4)
    loud = np.repeat([FLOOR, *[LOUD] * (len(phones) - 2), FLOOR], 2 * np.array(durations))
    return SpeechPlan(
        "x", "en-us", phones, durations, np.where(loud > 0, hz, 4.0).astype(np.float32), loud.astype(np.float32)
    )

"""Lips that time a line: sounds land where they were read, and where lips cannot be trusted the slot tells the time,
with the reason.
"""

import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.encoders.lip_reading import SILENCE_INDEX
from mouthpiece.engine.encoders.phonetic import PHONES
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.voice.backends.casting import assign_voices, parse_casting
from mouthpiece.voice.plan.slot_fitting import TimeSlot
from mouthpiece.voice.plan.speech_plan import MARKS, PAUSE, UNIT_S, SpeechPlan
from mouthpiece.voice.timing.lip_timing import (
    LipReading,
    compute_viseme_confidence,
    read_lip_spans,
    retime_to_lips,
)

SAID = ("m", "ˈ", "A", "p", " ", "b", "ˈ", "u", "k", "s")
UNITS = (3, 1, 5, 3, 2, 3, 1, 5, 3, 5)
LOOKS = {"m": "M", "A": "EY", "p": "P", "b": "B", "u": "UW", "k": "K", "s": "S"}


def make_line_plan():
    durations = (4, *UNITS, 4)
    curve = np.zeros(2 * sum(durations), np.float32)
    return SpeechPlan("may p boo ks", "en-us", (PAUSE, *SAID, PAUSE), durations, curve + 120, curve + 5)


def make_lip_reading(start_s, lengths_s, sure=8.0, visible=1.0, **facts):
    """Make lips that say the plan's sounds, and the pause between, for the given lengths; silence around."""
    names = [LOOKS.get(p) for p in SAID if p not in "ˈ"]
    ids = [SILENCE_INDEX] * round(50 * start_s)
    for name, length in zip(names, lengths_s):
        ids += [SILENCE_INDEX if name is None else PHONES.index(name)] * round(50 * length)
    ids += [SILENCE_INDEX] * 30
    ids += [SILENCE_INDEX] * (len(ids) % 2)
    scores = np.log(np.eye(40)[ids] * np.exp(sure) + 1)
    scores -= np.log(np.exp(scores).sum(1, keepdims=True))
    shown = np.arange(len(ids) // 2) < visible * len(ids) / 2
    return LipReading(0.0, scores.astype(np.float32), shown, **({"yaw_deg": 5.0, "lip_motion": 0.02} | facts))


LENGTHS = (0.10, 0.22, 0.10, 0.30, 0.12, 0.20, 0.10, 0.20)


def test_sounds_pauses_onset_and_offset_are_those_of_the_lips():
    timed = retime_to_lips(make_line_plan(), make_lip_reading(0.6, LENGTHS), TimeSlot(0.5, 2.1))
    assert timed.plan is not None and abs(float(timed.start_s) - 0.6) < 0.03
    assert abs(float(timed.end_s) - (0.6 + sum(LENGTHS))) < 0.03
    edges = timed.plan.edges * float(UNIT_S)
    begins = [
        edges[k] for k, p in enumerate(timed.plan.phones) if p in LOOKS and timed.plan.phones[k - 1] != "ˈ" or p == "ˈ"
    ]
    wanted = np.cumsum([0, *LENGTHS])[[0, 1, 2, 4, 5, 6, 7]]
    assert np.allclose(np.array(begins) - begins[0], wanted, atol=0.03)
    assert all(d >= 1 for p, d in zip(timed.plan.phones, timed.plan.durations) if p not in MARKS)


@pytest.mark.parametrize(
    "lips, reason",
    [
        (make_lip_reading(0.6, LENGTHS, visible=0.4), "not seen"),
        (make_lip_reading(0.6, LENGTHS, yaw_deg=60.0), "turned away"),
        (make_lip_reading(0.6, LENGTHS, lip_motion=0.0005), "do not move"),
        (make_lip_reading(0.6, LENGTHS, sure=-2.0), "could not be read"),
    ],
)
def test_lips_that_cannot_be_trusted_leave_the_times_to_the_slot_and_say_why(lips, reason):
    timed = retime_to_lips(make_line_plan(), lips, TimeSlot(0.5, 2.1))
    assert timed.plan is None and reason in timed.facts["note"] and "slot" in timed.facts["note"]


def test_confidence_is_high_for_what_was_said_and_low_for_another_line():
    lips = make_lip_reading(0.6, LENGTHS)
    ids = lips.scores.argmax(1)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(ids)) + 1, [len(ids)]])
    right = [int(ids[a]) for a in edges[:-1]]
    wrong = [SILENCE_INDEX if p == SILENCE_INDEX else PHONES.index("AA") for p in right]
    assert (
        compute_viseme_confidence(lips.scores, right, edges)
        > 0.9
        > 0.3
        > compute_viseme_confidence(lips.scores, wrong, edges)
    )


def test_a_face_is_watched_through_its_spans_and_a_film_without_one_is_refused(tmp_path, head, debug_weights):
    from fractions import Fraction

    from mouthpiece.engine.errors import InvalidInputError

    def film(name, picture):
        with VideoWriter(
            tmp_path / name, Fraction(25), *picture.shape[1::-1], Sound(np.zeros((1, 16_000), np.float32), 16_000)
        ) as writer:
            for _ in range(25):
                writer.write(picture)
        return tmp_path / name

    (lips,) = read_lip_spans(film("face.mp4", head), [(0.3, 0.6)])
    assert lips.visible.all() and np.isfinite(lips.scores).all() and abs(lips.start_s) < 0.05 and lips.lip_motion < 0.01
    with pytest.raises(InvalidInputError, match="no face"):
        read_lip_spans(film("wall.mp4", np.full_like(head, 90)), [(0.3, 0.6)])


def test_speakers_are_cast_as_told_and_the_others_differ():
    casting = assign_voices(parse_casting("ANNA=hibari"), ("ANNA", "BOB"), "en-us")
    assert casting["ANNA"] == "hibari" and set(casting) == {"ANNA", "BOB"}
    assert assign_voices(parse_casting("hibari"), ("A", "B"), "en-us") == {"A": "hibari", "B": "hibari"}
    assert parse_casting("A=hibari, B=af_heart:0.6+bf_emma:0.4") == {"A": "hibari", "B": "af_heart:0.6+bf_emma:0.4"}
    assert parse_casting(None) == {}

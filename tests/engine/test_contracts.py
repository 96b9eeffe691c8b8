"""Typed hand-overs: articulation with its silence, tracks of faces, takes as a project file records them."""

from fractions import Fraction

import numpy as np
import pytest

from mouthpiece.engine.contracts import (
    ARTICULATION_WIDTH,
    PHONES,
    SILENT_ENERGY,
    Articulation,
    FaceTrack,
    FaceTracks,
    Take,
    TrackSegment,
)
from mouthpiece.engine.errors import UsageError

RECORD = {
    "file": "lines/1.2.wav",
    "seed": 3,
    "facts": {
        "start_s": 0.25,
        "duration_s": 1.5,
        "timed_by": "mouth",
        "needs_review": True,
        "why": "not heard: map",
        "parts": [{"tempo": 1.1}],
        "voice": "hibari",
        "hearing": {"lost": ["map"], "wer": 0.25},
        "x_of_another_program": [1, 2],
        "models": {"hibari": "0f"},
    },
    "hash": "ab",
    "settings_hash": "cd",
}


def make_speech(ticks):
    """Articulation of one vowel, each tick with another energy."""
    values = np.zeros((ticks, ARTICULATION_WIDTH), np.float32)
    values[:, PHONES.index("AA")] = 1
    values[:, -1] = np.arange(ticks) / 10
    return Articulation(values)


def test_silence_is_the_phone_of_silence_unvoiced_and_without_energy():
    silence = Articulation.silence(3)
    assert len(silence) == 3 and silence.values.dtype == np.float32 and PHONES[0] == "SIL"
    assert (silence.values[0] == [1, *[0] * (ARTICULATION_WIDTH - 2), SILENT_ENERGY]).all()
    assert not silence.speech_probability.any() and (silence.energy == SILENT_ENERGY).all()
    assert len(Articulation.silence(0)) == 0


@pytest.mark.parametrize(
    "first, kept", [(0, (0, 4)), (3, (0, 4)), (-2, (2, 4)), (8, (0, 2)), (12, (0, 0)), (-9, (0, 0))]
)
def test_an_articulation_is_placed_in_silence_and_cut_at_both_ends(first, kept):
    speech = make_speech(4)
    placed = speech.place_in_silence(first, 10)
    start = max(0, first)
    expected = Articulation.silence(10).values
    expected[start : start + kept[1] - kept[0]] = speech.values[slice(*kept)]
    assert len(placed) == 10 and np.array_equal(placed.values, expected)


def test_unknown_ticks_are_told_apart_and_another_shape_is_refused():
    speech = make_speech(4)
    speech.values[1:3] = np.nan
    assert speech.known.tolist() == [True, False, False, True]
    with pytest.raises(UsageError, match=r"shape \(4, 7\)"):
        Articulation(speech.values[:, :7])


def test_a_track_is_split_at_cuts_and_where_the_face_goes():
    points = np.zeros((6, 4, 2))
    points[2] = np.nan
    track = FaceTrack(points, np.array([0, 0, 0, 0, 1, 1]), np.zeros(6))
    assert track[2] is None and track[0].shape == (4, 2) and track.present.tolist() == [True, True, False] + [True] * 3
    edges = [(0, 2, 0, True), (2, 3, 0, False), (3, 4, 0, True), (4, 6, 1, True)]
    assert track.spans() == [TrackSegment(*edge) for edge in edges]
    tracks = FaceTracks([Fraction(k, 25) for k in range(6)], Fraction(6, 25), ("0", "largest"), [track, track])
    assert tracks.get_track("largest") is track and tracks.times_s[1] == 0.04
    with pytest.raises(ValueError):
        tracks.get_track("1")


def test_a_take_is_read_and_written_as_the_project_has_it_in_the_same_order():
    take = Take.from_dict(RECORD)
    assert (take.start_s, take.end_s, take.timed_by, take.voice) == (0.25, 1.75, "mouth", "hibari")
    assert take.parts == [{"tempo": 1.1}] and take.hearing["wer"] == 0.25 and take.models == {"hibari": "0f"}
    written = take.as_dict()
    assert written == RECORD and list(written["facts"]) == list(RECORD["facts"]) and list(written) == list(RECORD)


def test_a_take_without_measurements_has_their_defaults():
    facts = {"start_s": 0.0, "duration_s": 1.0, "timed_by": "slot"}
    take = Take.from_dict({"file": "lines/1.1.wav", "facts": facts})
    assert (take.seed, take.voice, take.aimed_s, take.parts, take.hearing, take.models) == (0, "", None, [{}], {}, {})
    assert "hash" not in take.as_dict()

"""A line that follows an actor who says something else: his pauses are kept as far as the slot has room for them."""

import numpy as np
import pytest

from mouthpiece.voice.backends.registry import load_voice
from mouthpiece.voice.line_synthesis import GuideTrack, shorten_borrowed_pauses, synthesize_line
from mouthpiece.voice.plan.pauses import find_audible_edges
from mouthpiece.voice.plan.slot_fitting import TimeSlot, compute_spoken_duration
from mouthpiece.voice.text.phones import make_utterance
from mouthpiece.voice.timing.prosody import ProsodyTarget


@pytest.fixture(scope="module")
def spoken():
    """(voice, natural plan, the same with a pause of 1.2 s between two words, number of the phone that pauses)."""
    voice = load_voice("hibari")
    plan = voice.predict_plan(make_utterance("Please tell the captain that his dinner is cold.", "en-us"))
    at = plan.words[3].stop
    durations = list(plan.durations)
    durations[at] += 48
    return voice, plan, plan.retime(durations), at


def test_a_slot_with_room_keeps_the_actors_pause_and_a_short_one_as_much_as_it_can(spoken):
    _, plan, paused, at = spoken
    own = compute_spoken_duration(plan)
    assert shorten_borrowed_pauses(plan, paused, TimeSlot(0, own + 1.3)).durations == paused.durations
    half = shorten_borrowed_pauses(plan, paused, TimeSlot(0, own + 0.6))
    assert plan.durations[at] + 20 <= half.durations[at] <= plan.durations[at] + 26
    none = shorten_borrowed_pauses(plan, paused, TimeSlot(0, own - 0.3))
    assert none.durations == plan.durations and [a for k, a in enumerate(half.durations) if k != at] == [
        a for k, a in enumerate(plan.durations) if k != at
    ]


def test_a_line_of_other_words_than_the_actors_keeps_to_its_slot(spoken, monkeypatch):
    voice, plan, paused, _ = spoken
    monkeypatch.setattr(
        "mouthpiece.voice.line_synthesis.transfer_prosody",
        lambda *words: ProsodyTarget(paused, 0.0, None, None, dict(method="other language")),
    )
    slot = TimeSlot(0, compute_spoken_duration(plan) + 0.1, gap_after_s=2.0)
    line = synthesize_line(voice, [plan], slot, GuideTrack(recording=np.zeros(16_000, np.float32)))
    (part,) = line.facts["parts"]
    assert (
        abs(part["end_error_s"]) < 0.03
        and "borrow" not in [rung["name"] for rung in part["rungs"]]
        and line.timed_by == "slot"
    )


def test_a_line_in_the_actors_own_timing_tells_where_it_was_laid_not_where_its_slot_is(spoken, monkeypatch):
    voice, plan, _, _ = spoken
    monkeypatch.setattr(
        "mouthpiece.voice.line_synthesis.transfer_prosody",
        lambda *words: ProsodyTarget(plan, 0.1, None, None, dict(method="same language")),
    )
    line = synthesize_line(
        voice,
        [plan],
        TimeSlot(1.0, 1.0 + compute_spoken_duration(plan) + 0.8),
        GuideTrack(recording=np.zeros(16_000, np.float32), recording_s=0.9),
    )
    first, last = find_audible_edges(line.sound.samples[0], line.sound.rate_hz)
    assert line.timed_by == "source" and not line.needs_review and line.facts["parts"][0]["end_error_s"] < -0.3
    assert line.facts["aimed_s"] == pytest.approx([float(line.start_s) + first, float(line.start_s) + last], abs=0.03)

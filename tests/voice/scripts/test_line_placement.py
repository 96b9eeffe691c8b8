"""Lines without times find their place on speech."""

from fractions import Fraction as F

import pytest

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.line_placement import place_lines
from mouthpiece.voice.scripts.script import Line, Script
from mouthpiece.voice.scripts.syllables import count_syllables, split_slot

TEXTS = ("hello there my friend", "good bye", "this is the very last line")
SCRIPT = Script(tuple(Line(str(k), "", None, None, text) for k, text in enumerate(TEXTS)), source="a.txt")


def slots(script, spans):
    return [(float(line.start), float(line.end)) for line in place_lines(script, spans).lines]


@pytest.mark.parametrize(
    "text, count",
    [
        ("hello there my friend", 5),
        ("cat", 1),
        ("make", 1),
        ("wanted", 2),
        ("little", 2),
        ("日本", 2),
        ("", 0),
        ("!!", 0),
        ("42", 4),
    ],
)
def test_syllables_are_counted_as_they_are_said(text, count):
    assert count_syllables(text) == count


def test_as_many_lines_as_stretches_of_speech_go_one_to_one():
    assert slots(SCRIPT, [(1, 2, None), (F(5, 2), 3, None), (4, 6, None)]) == [(1, 2), (2.5, 3), (4, 6)]


def test_one_stretch_is_dealt_out_by_syllables():
    found = slots(SCRIPT, [(0, 14, None)])
    assert found == [(0, 5), (5, 7), (7, 14)]


def test_a_line_spoken_with_pauses_takes_several_stretches():
    assert slots(SCRIPT, [(1, 2, None), (F(21, 10), F(28, 10), None), (5, F(57, 10), None), (8, 11, None)])[0] == (
        1,
        2.8,
    )


def test_recognised_words_say_where_lines_are():
    spans = [
        (0, 3, "music noise hum"),
        (10, 12, "hello there my friend good"),
        (20, 21, "bye"),
        (30, 33, "this is a very last line"),
    ]
    found = slots(SCRIPT, spans)
    assert (
        10 <= found[0][0] < found[0][1] < 12
        and found[0][1] <= found[1][0]
        and found[1][1] == 21
        and found[2] == (30, 33)
    )


def test_a_line_nobody_recognised_goes_between_its_neighbours():
    spans = [(1, 2, "hello there my friend"), (4, 5, "mumble mumble"), (8, 10, "this is the very last line")]
    found = slots(SCRIPT, spans)
    assert found[0] == (1, 2) and found[1] == (4, 5) and found[2] == (8, 10)


def test_lines_with_times_stay_and_placing_is_remarked():
    script = Script((Line("a", "", F(1), F(2), "x"), Line("b", "", None, None, "y")), source="a.txt")
    placed = place_lines(script, [(3, 4, None)])
    assert placed.lines[0] == script.lines[0] and placed.lines[1].start == 3 and placed.remarks[-1].kind == "placed"


def test_many_more_lines_than_speech_still_go_in_order_without_overlap():
    script = Script(tuple(Line(str(k), "", None, None, "hello my friend") for k in range(300)))
    found = slots(script, [(k, k + F(1, 2), None) for k in range(40)])
    assert all(a <= b for a, b in found) and all(first[1] <= second[0] for first, second in zip(found, found[1:]))
    assert found[0][0] == 0 and found[-1][1] == 39.5


def test_no_speech_is_refused():
    with pytest.raises(InvalidInputError, match="no speech"):
        place_lines(SCRIPT, [])


def test_a_shared_slot_is_cut_at_whole_milliseconds():
    assert split_slot(F(1), F(2), ["one", "two three"]) == [(1, F(1333, 1000)), (F(1333, 1000), 2)]

"""The project file: kept exactly, checked against its schema, and honest about what must be done again."""

import json
from dataclasses import replace
from fractions import Fraction as F

import pytest

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.voice.scripts.formats import read_script, write_script
from mouthpiece.voice.scripts.merging import merge_script
from mouthpiece.voice.scripts.project import (
    Project,
    add_take,
    create_project,
    find_changed_lines,
    hash_facts,
    parse_lines,
)
from mouthpiece.voice.scripts.project_file import convert_to_dict, read_project, save_project
from mouthpiece.voice.scripts.script import Line, Script

LINES = tuple(
    Line(str(k), "Anna" if k % 2 else "Bob", F(k * 2000 + k, 1000), F(k * 2000 + 1500, 1000), f"this is line {k}")
    for k in range(1, 11)
)
SETTINGS = hash_facts({"model": "kokoro", "loudness": -23})


@pytest.fixture
def spoken():
    """A project of ten lines, all of them spoken."""
    project = replace(
        create_project(Script(LINES, "en"), {"name": "film.mp4"}),
        speakers={"Anna": {"voice": "af_heart"}, "Bob": {"voice": "am_adam"}},
    )
    for line in LINES:
        project = add_take(project, line.id, {"file": f"{line.id}.wav", "seed": 1}, SETTINGS)
    return project


def script_with(*changes):
    """The script of LINES with {id: fields} changed."""
    return Script(tuple(replace(line, **dict(changes).get(line.id, {})) for line in LINES), "en")


def test_a_project_reads_back_as_it_was_saved(tmp_path, spoken):
    entry = replace(
        spoken.get_entry("3"),
        status="approved",
        locked=True,
        voice="x",
        extra={"x_mine": [1]},
        line=replace(LINES[2], start=F(1001, 30000)),
    )
    saved = save_project(spoken.replace_entry(entry), tmp_path / "a.json")
    again = read_project(tmp_path / "a.json")
    assert (
        convert_to_dict(again) == convert_to_dict(saved)
        and again.revision == 1
        and again.get_entry("3").extra == {"x_mine": [1]}
    )
    assert abs(again.get_entry("3").line.start - F(1001, 30000)) < F(1, 10**6)
    assert [e.line for e in again.entries if e.id != "3"] == [line for line in LINES if line.id != "3"]


def test_saving_counts_revisions_and_never_writes_over_a_newer_one(tmp_path, spoken):
    path = tmp_path / "a.json"
    first = save_project(spoken, path)
    assert save_project(first, path).revision == 1
    second = save_project(first.replace_entry(replace(first.get_entry("1"), status="approved")), path)
    assert second.revision == 2
    with pytest.raises(UsageError, match="revision 2, this is 1"):
        save_project(replace(first, title="Late"), path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_saving_never_replaces_what_is_no_project(tmp_path, spoken):
    (tmp_path / "a.json").write_text('{"a film": 1}')
    with pytest.raises(UsageError, match="not a project"):
        save_project(spoken, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == '{"a film": 1}'


def test_a_project_is_a_script_too(tmp_path, spoken):
    save_project(spoken, tmp_path / "a.json")
    assert read_script(tmp_path / "a.json").lines == LINES
    assert read_script(write_script(read_script(tmp_path / "a.json"), tmp_path / "b.vtt")).lines == LINES


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda p: p.pop("lines"), "'lines' is a required"),
        (lambda p: p.update(version=9), "version: 1 was expected"),
        (lambda p: p["lines"][2].update(start="soon"), r"lines\[2\].start"),
        (lambda p: p["lines"][2].update(voise="x"), "voise"),
        (lambda p: p["lines"][1].update(id="1"), "two lines have the id '1'"),
        (lambda p: p["lines"][0].update(end=None), "its times are"),
        (lambda p: p["lines"][0].update(start=-1), "its times are"),
        (lambda p: p["lines"][0].update(take=5), "take 5 of 1"),
        (lambda p: p["lines"][0].update(status="done"), "'done' is not one of"),
    ],
)
def test_a_project_against_its_schema_is_refused_with_the_place(tmp_path, spoken, change, sentence):
    facts = json.loads(json.dumps(convert_to_dict(spoken)))
    change(facts)
    (tmp_path / "a.json").write_text(json.dumps(facts))
    with pytest.raises(InvalidInputError, match=sentence):
        read_project(tmp_path / "a.json")


def test_json_that_is_none_is_refused(tmp_path):
    for text in (
        '{"format": "mouthpiece project", "version": 1, "revision": NaN, "lines": []}',
        "[" * 5000,
        '{"a": 1,}',
    ):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InvalidInputError):
            read_project(tmp_path / "a.json")


def test_nothing_is_done_again_when_nothing_changed(tmp_path, spoken):
    assert find_changed_lines(spoken, SETTINGS) == {}
    save_project(spoken, tmp_path / "a.json")
    assert find_changed_lines(read_project(tmp_path / "a.json"), SETTINGS) == {}
    merged, changes = merge_script(spoken, Script(LINES, "en"))
    assert convert_to_dict(merged) == convert_to_dict(spoken) and (changes.changed, changes.added, changes.removed) == (
        {},
        (),
        (),
    )


def test_a_word_changed_by_hand_in_the_file_makes_that_line_stale(tmp_path, spoken):
    save_project(spoken, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text.replace("this is line 4", "that is line 4"))
    project = read_project(tmp_path / "a.json")
    assert (
        find_changed_lines(project, SETTINGS) == {"4": ("text",)}
        and project.get_entry("4").status == "stale"
        and project.get_entry("5").status == "spoken"
    )


def test_every_field_a_take_depends_on_and_no_other_asks_for_a_new_take(spoken):
    fields = {"speaker": "Bob", "start": F(1), "end": F(9), "text": "x", "language": "fr", "on_screen": "off"}
    for name, value in fields.items():
        merged, _ = merge_script(spoken, script_with(("5", {name: value})))
        reasons = find_changed_lines(merged, SETTINGS)
        assert list(reasons) == ["5"] and name in reasons["5"]
    merged, changes = merge_script(spoken, script_with(("5", {"notes": "louder", "original": "oui"})))
    assert find_changed_lines(merged, SETTINGS) == {} and changes.changed == {"5": ("original", "notes")}


def test_another_voice_touches_the_lines_of_its_speaker_and_other_settings_touch_all(spoken):
    other = replace(spoken, speakers={**spoken.speakers, "Bob": {"voice": "bm_lewis"}})
    assert find_changed_lines(other, SETTINGS) == {str(k): ("voice",) for k in (2, 4, 6, 8, 10)}
    assert list(find_changed_lines(spoken, hash_facts({"model": "hibari"}))) == [line.id for line in LINES]


def test_locked_and_empty_lines_are_left_alone(spoken):
    project = spoken.replace_entry(replace(spoken.get_entry("4"), locked=True))
    project, changes = merge_script(project, script_with(("4", {"text": "other"}), ("6", {"text": ""})))
    assert (
        find_changed_lines(project, SETTINGS) == {}
        and changes.locked == ("4",)
        and project.get_entry("4").line.text == "this is line 4"
    )
    with pytest.raises(UsageError, match="locked"):
        add_take(project, "4", {"file": "x.wav"})


def test_a_line_put_into_an_srt_leaves_the_others_and_their_ids_alone(tmp_path, spoken):
    more = Line("x", "Anna", F(6600, 1000), F(6900, 1000), "a new one")
    numbered = LINES[:3] + (more,) + LINES[3:]
    script = read_script(write_script(Script(numbered, "en"), tmp_path / "a.srt"))
    merged, changes = merge_script(spoken, script)
    assert (changes.changed, len(changes.added), changes.removed) == ({}, 1, ())
    new = changes.added[0]
    assert [e.id for e in merged.entries] == ["1", "2", "3", new, *map(str, range(4, 11))] and new not in map(
        str, range(1, 11)
    )
    assert find_changed_lines(merged, SETTINGS) == {new: ("new",)}


def test_a_line_taken_out_is_kept_and_comes_back_with_its_take(spoken):
    without, changes = merge_script(spoken, Script(LINES[:4] + LINES[5:], "en"))
    assert changes.removed == ("5",) and len(without.entries) == 9 and without.removed[0].takes
    again, changes = merge_script(without, Script(LINES, "en"))
    assert changes.added == ("5",) and again.removed == () and find_changed_lines(again, SETTINGS) == {}


def test_text_and_times_changed_together_are_still_the_same_line(spoken):
    merged, changes = merge_script(spoken, script_with(("5", {"text": "wholly other", "start": F(10), "end": F(11)})))
    assert changes.changed == {"5": ("start", "end", "text")} and not changes.added and not changes.removed


def test_what_a_poorer_format_cannot_say_is_not_forgotten(tmp_path):
    rich = create_project(
        Script((replace(LINES[0], on_screen="on", original="oui", notes="soft", language="en"),), "en", "fr")
    )
    merged, changes = merge_script(rich, read_script(write_script(rich.script, tmp_path / "a.srt")))
    assert merged.entries[0].line == rich.entries[0].line and changes.changed == {}


def test_takes_add_up_and_the_same_file_counts_once(spoken):
    project = add_take(spoken, "2", {"file": "2b.wav", "seed": 2, "facts": {"stretch": 1.1}}, SETTINGS, "needs_review")
    project = add_take(project, "2", {"file": "2b.wav", "seed": 3}, SETTINGS)
    assert [t["file"] for t in project.get_entry("2").takes] == ["2.wav", "2b.wav"] and project.get_entry("2").take == 2


def test_lines_are_chosen_by_id_or_place(spoken):
    assert parse_lines("3,7-9", spoken) == ("3", "7", "8", "9") and parse_lines(" 9 - 10 ,1", spoken) == (
        "1",
        "9",
        "10",
    )
    named = Project(tuple(replace(e, line=replace(e.line, id=f"a-{e.id}")) for e in spoken.entries))
    assert parse_lines("a-2,4", named) == ("a-2", "a-4")
    for wrong in ("", "0", "11", "9-7", "x", "1,,2", "1-"):
        with pytest.raises(UsageError, match="--lines"):
            parse_lines(wrong, spoken)


def test_thousands_of_lines_are_a_project_too(tmp_path):
    lines = tuple(Line(str(k), "", F(k), F(k) + F(1, 2), f"line {k}") for k in range(1, 2_001))
    project = save_project(create_project(Script(lines)), tmp_path / "a.json")
    assert len(find_changed_lines(project)) == 2_000
    merged, changes = merge_script(project, Script(lines[1:]))
    assert changes.removed == ("1",) and not changes.changed and not changes.added

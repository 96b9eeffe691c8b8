"""What release 0.1.0 wrote still loads: side-cars, project, ledger, batch file; its option names still work."""

import json
import shutil
from pathlib import Path

import pytest

from mouthpiece.batch.ledger import Ledger
from mouthpiece.engine.config import RenamedOptionWarning, read_preset, resolve_options
from mouthpiece.engine.errors import UsageError
from mouthpiece.lipsync.options import AnimateOptions, LipsyncOptions, resolve_animate_options
from mouthpiece.voice.options import DubOptions, SpeakOptions

FILES = Path(__file__).parent / "release_0_1_0"


def settings_of(name):
    return json.loads((FILES / f"{name}.json").read_text())["settings"]


@pytest.mark.parametrize(
    "name, cls, renamed",
    [
        ("animate", AnimateOptions, dict(temperature="variety", normalize_mouth="level", stabilize_head="settle")),
        ("lipsync", LipsyncOptions, dict(temperature="variety", normalize_mouth="level", crossfade="ease")),
        ("echomimic", None, dict(resolution="detail", head_width="swing", head_height="nod")),
        ("speak", SpeakOptions, dict(lip_timing="mouth", recognizer="listen")),
        ("dub", DubOptions, dict(lip_timing="mouth", recognizer="listen", faces="map")),
    ],
)
def test_a_side_car_is_a_preset_for_the_same_options(name, cls, renamed):
    before = settings_of(name)
    preset = read_preset(FILES / f"{name}.json")
    with pytest.warns(RenamedOptionWarning) as caught:
        options = resolve_animate_options(preset, {}) if cls is None else resolve_options(cls, preset, {})
    after = {renamed.get(key, key): value for key, value in options.settings().items()}
    assert {key: value for key, value in after.items() if key in before} == before
    younger = {key: value for key, value in after.items() if key not in before}
    assert younger == {key: type(options).__dataclass_fields__[key].default for key in younger}
    text = str(caught[0].message)
    assert len(caught) == 1 and all(f"--{new.replace('_', '-')}" in text for new in renamed)


def test_takes_of_a_project_are_current():
    from mouthpiece.voice.dub_project import hash_take_settings
    from mouthpiece.voice.scripts.project import find_changed_lines
    from mouthpiece.voice.scripts.project_file import read_project

    project = read_project(FILES / "project.json")
    assert [entry.id for entry in project.entries] == ["1", "2"]
    assert find_changed_lines(project, hash_take_settings(DubOptions(lip_timing="off", recognizer="off"))) == {}
    assert set(find_changed_lines(project, hash_take_settings(DubOptions(lip_timing="auto")))) == {"1", "2"}


def test_a_ledger_is_read(tmp_path):
    shutil.copy(FILES / "results.jsonl", tmp_path)
    ledger = Ledger(tmp_path).read()
    assert {record["id"]: record["state"] for record in ledger.latest_records.values()} == {
        "one": "done",
        "two": "done",
    }
    assert ledger.started_outputs == {"one.wav", "two.wav"}


def test_former_names_in_presets_and_arguments_of_python():
    with pytest.warns(RenamedOptionWarning, match="--nod is now --head-height"):
        assert resolve_animate_options({"model": "echomimic"}, {"nod": 2.0}).head_height == 2.0
    with pytest.warns(RenamedOptionWarning, match="--settle is now --stabilize-head"):
        assert resolve_options(AnimateOptions, {"settle": False}, {}).stabilize_head is False
    with pytest.warns(RenamedOptionWarning), pytest.raises(UsageError, match="--head-height: has no meaning"):
        resolve_animate_options(None, {"nod": 2.0})
    with pytest.raises(UsageError, match="--crossfade: is given twice, as 'ease' too"):
        resolve_options(LipsyncOptions, {"ease": 0.1, "crossfade": 0.2}, {})


@pytest.mark.parametrize(
    "command, words, name, value",
    [
        ("animate", ("--level=0.5",), "normalize_mouth", "0.5"),
        ("animate", ("--no-settle",), "stabilize_head", False),
        ("animate", ("--settle",), "stabilize_head", True),
        ("lipsync", ("--ease", "0"), "crossfade", "0"),
        ("dub", ("--map", "ANNA=0", "--faces", "BEN=1"), "faces", "BEN=1"),
        ("evaluate", ("--listen", "off"), "recognizer", "off"),
    ],
)
def test_a_former_flag_sets_the_present_option_and_is_hidden(command, words, name, value):
    from mouthpiece.command_line import get_parser

    parser = get_parser(command)
    inputs = ["in.mp4", "x.srt", "-o", "out.mp4"] if command != "evaluate" else ["in.mp4"]
    assert getattr(parser.parse_args([*inputs, *words]), name) == value
    former = words[0].split("=")[0]
    assert former not in parser.format_help().replace(",", " ").split()


def test_former_names_in_a_request_of_python():
    from mouthpiece.use_cases import USE_CASES

    fields = dict(portrait="a.png", sound="b.wav", output="c.mp4", variety=0.5, level=0.25)
    with pytest.warns(RenamedOptionWarning) as caught:
        request = USE_CASES["animate"].from_fields(fields)
    assert (request.options.temperature, request.options.normalize_mouth) == (0.5, 0.25)
    assert len(caught) == 1 and request.given == dict(temperature=0.5, normalize_mouth=0.25)


def test_the_command_line_names_the_present_flag_once_and_not_when_quiet(call, tmp_path):
    words = (
        "speak",
        "--text",
        "Go.",
        "-o",
        str(tmp_path / "a.wav"),
        "--voice",
        "hibari",
        "--listen",
        "off",
        "--dry-run",
    )
    answer = call(*words, "--progress", "json")
    assert answer.code == 0
    notes = [event["text"] for event in map(json.loads, answer.err.splitlines()) if event["event"] == "note"]
    assert notes == ["renamed options: --listen is now --recognizer."]
    answer = call("animate", "none.png", "none.wav", "-o", "a.mp4", "--level", "1", "--progress", "json")
    assert "--level is now --normalize-mouth" in answer.err and answer.code == 5
    assert call(*words, "-q").err == ""


def test_a_batch_file_is_read_with_its_former_names(tmp_path):
    shutil.copy(FILES / "script.srt", tmp_path)
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x20ftyp" + bytes(64))
    shutil.copy(FILES / "jobs.jsonl", tmp_path)
    from mouthpiece.batch.job_list import read_job_list
    from mouthpiece.use_cases import get_marking_use_cases

    with pytest.warns(RenamedOptionWarning):
        items = read_job_list(tmp_path / "jobs.jsonl", tmp_path / "out", get_marking_use_cases())
    assert [item.id for item in items] == ["one", "two"]
    one, two = (item.request for item in items)
    assert (one.text, one.options.recognizer, one.settings.provenance) == ("Go on.", "off", False)
    assert (two.options.lip_timing, two.options.recognizer) == ("off", "off")
    assert two.inputs == (tmp_path / "film.mp4", tmp_path / "script.srt")


def test_a_side_car_of_speak_is_a_preset_of_dub_and_not_of_animate():
    from mouthpiece.use_cases import USE_CASES

    fields = dict(output="out.mp4", preset=FILES / "speak.json")
    with pytest.warns(RenamedOptionWarning):
        request = USE_CASES["dub"].from_fields(fields | dict(video="film.mp4"))
    assert (request.options.voice, request.options.recognizer) == ("hibari", "off")
    with pytest.raises(UsageError, match="it belongs to 'speak', not to 'animate'"):
        USE_CASES["animate"].from_fields(fields | dict(portrait="a.png", sound="b.wav"))

"""dub: lines kept by line, only what changed is spoken again, stems that sum, and a film as long as before."""

import json
import re
import shlex
from fractions import Fraction

import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.media.writing import VideoWriter

SRT = (
    "1\n00:00:00,300 --> 00:00:01,300\nANNA: Where is the map?\n\n2\n00:00:01,700 --> 00:00:02,900\nBOB: It lies on the"
    " old table.\n"
)
QUIET = "--voice hibari --recognizer off --bed keep --no-lips --lip-timing off -q --no-provenance --force".split()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A grey film of 3.2 s at 12 frames a second with faint noise as sound."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    noise = 2e-3 * np.random.default_rng(0).standard_normal((1, round(3.25 * 16_000))).astype(np.float32)
    with VideoWriter(path, Fraction(12), 64, 48, Sound(noise, 16_000)) as writer:
        for k in range(39):
            writer.write(np.full((48, 64, 3), 60 + k, np.uint8))
    return path


@pytest.fixture
def stage(tmp_path, call, film):
    """A folder with script.srt, and `dub` called in it on the film."""
    (tmp_path / "script.srt").write_text(SRT)

    def dub(*words, script="script.srt"):
        given = () if script is None else (str(tmp_path / script),)
        return call("dub", str(film), *given, "-o", str(tmp_path / "out.mp4"), *QUIET, *words)

    dub.folder = tmp_path
    return dub


def read_dub_project(folder):
    return json.loads((folder / "out.dub" / "project.json").read_text())


def read_facts(folder):
    return json.loads((folder / "out.json").read_text())["facts"]


def test_the_whole_loop_leaves_film_stems_project_report_and_the_picture_as_it_was(stage, film):
    answer = stage()
    assert answer.code == 0, answer.err
    kept = stage.folder / "out.dub"
    stems = {name: read_sound(kept / f"{name}.wav") for name in ("dialogue", "bed", "mix")}
    length = {s.samples.shape[1] for s in stems.values()}
    assert length == {round(Fraction(39, 12) * 48_000)}
    rest = stems["mix"].samples - stems["dialogue"].samples - stems["bed"].samples
    assert 20 * np.log10(np.abs(rest).max() + 1e-12) < -90
    assert probe(stage.folder / "out.mp4").frames == probe(film).frames == 39
    with VideoReader(film) as a, VideoReader(stage.folder / "out.mp4") as b:
        assert all((x.pixels == y.pixels).all() and x.time == y.time for x, y in zip(a, b, strict=True))
    facts = read_facts(stage.folder)
    assert [line["id"] for line in facts["lines"]] == ["1", "2"] and all(
        line["status"] == "spoken" for line in facts["lines"]
    )
    assert all(abs(line["start_err_ms"]) < 40 and abs(line["end_err_ms"]) < 60 for line in facts["lines"])
    page = (kept / "report.html").read_text()
    assert "Where is the map?" in page and "http" not in page.split("</style>")[1]
    assert {e["voice"] for e in read_dub_project(stage.folder)["speakers"].values()} == {"hibari"}


def test_a_second_run_speaks_nothing_and_a_changed_word_its_own_line_alone(stage):
    assert stage().code == 0
    before = {e["id"]: (e["take"], e["takes"][0]["file"]) for e in read_dub_project(stage.folder)["lines"]}
    sounds = {p.name: p.read_bytes() for p in (stage.folder / "out.dub" / "lines").glob("*.wav")}
    assert stage().code == 0 and read_facts(stage.folder)["spoken_again"] == {}
    (stage.folder / "script.srt").write_text(SRT.replace("table", "shelf"))
    assert stage().code == 0 and read_facts(stage.folder)["spoken_again"] == {"2": ["text"]}
    after = {e["id"]: e["take"] for e in read_dub_project(stage.folder)["lines"]}
    assert after == {"1": before["1"][0], "2": 2}
    assert all((stage.folder / "out.dub" / "lines" / name).read_bytes() == data for name, data in sounds.items())


def test_lines_asked_for_get_another_take_and_a_locked_one_does_not(stage):
    assert stage().code == 0
    assert stage("--lines", "2").code == 0
    project = read_dub_project(stage.folder)
    first, second = project["lines"]
    assert (first["take"], second["take"], len(second["takes"])) == (1, 2, 2)
    folder = stage.folder / "out.dub"
    assert (folder / second["takes"][0]["file"]).read_bytes() != (folder / second["takes"][1]["file"]).read_bytes()
    assert stage("--lines", "9").code == 2


def test_another_voice_for_one_speaker_redoes_his_lines(stage):
    assert stage().code == 0
    project = read_dub_project(stage.folder)
    project["lines"][0]["text"] = "Where was the map?"
    (stage.folder / "out.dub" / "project.json").write_text(json.dumps(project))
    answer = stage(script="out.dub/project.json")
    assert answer.code == 0, answer.err
    assert list(read_facts(stage.folder)["spoken_again"]) == ["1"]


def test_a_take_that_was_deleted_is_spoken_again(stage):
    assert stage().code == 0
    (stage.folder / "out.dub" / read_dub_project(stage.folder)["lines"][0]["takes"][0]["file"]).unlink()
    assert stage().code == 0 and list(read_facts(stage.folder)["spoken_again"]) == ["1"]


def test_a_line_that_cannot_be_spoken_is_marked_and_the_rest_is_made(stage):
    (stage.folder / "script.srt").write_text(SRT + "\n3\n00:00:02,900 --> 00:00:03,100\n🎉\n")
    answer = stage()
    assert answer.code == 6 and "not spoken: 1 line: 3" in answer.out and probe(stage.folder / "out.mp4").frames == 39
    third = read_facts(stage.folder)["lines"][2]
    assert third["status"] == "needs_review" and "cannot be spoken" in third["why"]


def test_the_project_of_another_film_is_refused(stage, tmp_path):
    assert stage().code == 0
    project = read_dub_project(stage.folder)
    project["film"]["sha256"] = "0" * 64
    (stage.folder / "out.dub" / "project.json").write_text(json.dumps(project))
    answer = stage()
    assert answer.code == 2 and "another film" in answer.err


def test_without_a_script_and_without_speech_nothing_is_drafted(stage):
    answer = stage("--recognizer", "pocketsphinx", script=None)
    assert answer.code == 5 and "nobody speaks" in answer.err and not (stage.folder / "out.srt").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (("--loudness", "loud"), "--loudness"),
        (("--bed", "nowhere.wav"), "nowhere.wav"),
        (("--faces", "ANNA"), "--faces"),
        (
            ("--faces", "CARL=0", "--lip-timing", "auto"),
            "--faces: the script has no speaker 'CARL'. Its speakers: ANNA, BOB.",
        ),
        (("--lines", "x-"), "--lines"),
    ],
)
def test_bad_options_are_refused_with_what_is_accepted(stage, words, said):
    answer = stage(*words)
    assert answer.code == 2 and said in answer.err and not (stage.folder / "out.mp4").exists()


@pytest.mark.parametrize(
    "words, script, said",
    [
        (("--slot", "2"), "script.srt", "no option --slot"),
        (("--auto",), "script.srt", "--auto: has no meaning with a SCRIPT"),
        (("--cue-rate", "25"), None, "--cue-rate: has no meaning without a SCRIPT"),
        (("--quality", "12"), "script.srt", "--quality: has no meaning with --no-lips"),
        (("--on-missing-face", "hold"), "script.srt", "--on-missing-face: has no meaning with --no-lips"),
        (("--face", "0"), "script.srt", "--face: has no meaning with --no-lips and --lip-timing off"),
        (
            ("--prosody", "neutral", "--register", "voice"),
            "script.srt",
            "--register: has no meaning with --prosody neutral",
        ),
    ],
)
def test_options_that_would_do_nothing_are_refused(stage, words, script, said):
    answer = stage(*words, script=script)
    assert answer.code == 2 and said in answer.err and not (stage.folder / "out.dub").exists()


def test_the_command_told_after_a_draft_has_the_flags_of_the_first_one():
    from mouthpiece import command_line
    from mouthpiece.dub import DUB, format_resume_command

    words = [
        "my film.mp4",
        "-o",
        "out.mp4",
        "--voice",
        "hibari",
        "--register-shift=-2",
        "--no-lips",
        "--no-provenance",
        "--bed",
        "keep",
    ]
    request = DUB.from_namespace(command_line.get_parser("dub").parse_args(words))
    told = shlex.split(format_resume_command(request, "out.srt"))
    again, first = (vars(command_line.get_parser("dub").parse_args(w)) for w in (told[2:], words))
    assert (
        told[:4] == ["mouthpiece", "dub", "my film.mp4", "out.srt"]
        and again.pop("script").name == "out.srt"
        and first.pop("script") is None
    )
    assert {k: v for k, v in again.items() if not callable(v)} == {k: v for k, v in first.items() if not callable(v)}


def test_a_bed_that_is_no_sound_is_refused_before_a_line_is_spoken(stage):
    answer = stage("--bed", str(stage.folder / "script.srt"))
    assert answer.code == 5 and "--bed" in answer.err and not (stage.folder / "out.dub").exists()


def run_evaluate(call, folder, *words):
    answer = call("evaluate", str(folder / "out.mp4"), *words, "--json", "-q")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)["result"]["dub"]


def test_evaluate_finds_the_project_beside_a_dub_and_judges_it_against_its_film(stage, film, call):
    assert stage().code == 0
    dub = run_evaluate(call, stage.folder, "--against", str(film), "--recognizer", "off")
    told = read_facts(stage.folder)["file"]
    assert (
        dub["measured_in"] == "dialogue.wav"
        and dub["recogniser"] is None
        and dub["reasons"]["wer"] == "--recognizer off"
    )
    assert (dub["file"]["start_err_ms_p95"], dub["file"]["end_err_ms_p95"]) == (
        told["start_err_ms_p95"],
        told["end_err_ms_p95"],
    )
    assert abs(dub["loudness"]["integrated_lufs"] + 23) < 0.5 and dub["loudness"]["true_peak_dbtp"] < -0.9
    picture = dub["picture"]
    assert (
        picture["frames_match"]
        and picture["frames"] == 39
        and picture["outside_changed_share"] == 0
        and "no face" in dub["reasons"]["mouths"]
    )


def test_evaluate_hears_the_words_anew_and_sees_a_line_that_was_moved(stage, call):
    assert stage().code == 0
    project = read_dub_project(stage.folder)
    project["lines"][0] |= {"start": 0.5, "end": 1.5}
    (stage.folder / "out.dub" / "project.json").write_text(json.dumps(project))
    dub = run_evaluate(
        call, stage.folder, "--recognizer", "pocketsphinx", "--project", str(stage.folder / "out.dub" / "project.json")
    )
    first, second = dub["lines"]
    assert first["start_err_ms"] == pytest.approx(-200, abs=40) and abs(second["start_err_ms"]) < 40
    assert (
        {first["recogniser"], second["recogniser"]} == {"pocketsphinx"} == {dub["recogniser"]}
        and second["heard"]
        and second["wer"] < 1
    )
    assert dub["picture"] is None and "--against" in dub["reasons"]["picture"] and dub["file"]["overlap_mean"] is None


def test_evaluate_without_stems_tells_no_times_and_a_project_that_is_not_there_is_told(stage, call):
    assert stage().code == 0
    for stem in ("dialogue", "bed", "mix"):
        (stage.folder / "out.dub" / f"{stem}.wav").unlink()
    dub = run_evaluate(call, stage.folder, "--recognizer", "off")
    assert (
        dub["measured_in"] == "mix"
        and "dialogue.wav" in dub["reasons"]["lines"]
        and dub["lines"][0]["start_err_ms"] is None
    )
    answer = call("evaluate", str(stage.folder / "out.mp4"), "--project", "nowhere.json")
    assert answer.code == 2 and "nowhere.json" in answer.err
    table = call("evaluate", str(stage.folder / "out.mp4"), "--recognizer", "off", "-q").out
    assert "loudness_true_peak_dbtp" in table and "not measured: file_start_err_ms_p95" in table
    gap = next(line for line in table.splitlines() if line.endswith("(needs the film: --against VIDEO)"))
    assert all(name in gap for name in ("old_mouth_correlation", "file_overlap_mean", "picture")), table


def test_the_table_of_a_dub_gives_each_gap_its_own_reason(stage, film, call, monkeypatch):
    from mouthpiece.evaluation import talking_head

    measured = talking_head.evaluate_video

    def seen(video, *, against=None, **more):
        """As if a face were seen, which is all that the note of a missing real clip asks for."""
        facts = measured(video, against=against, **more)
        assert against is None
        facts["reasons"]["amplitude_ratio"] = "needs a real clip to compare with: --against VIDEO"
        return facts | dict(sync_reference="articulation")

    monkeypatch.setattr(talking_head, "evaluate_video", seen)
    assert stage("--loudness", "-23").code == 0
    table = call("evaluate", str(stage.folder / "out.mp4"), "--against", str(film), "--recognizer", "off", "-q").out
    notes = [
        line.removeprefix("not measured: ").partition(" (")
        for line in table.splitlines()
        if line.startswith("not measured")
    ]
    gaps = {name: why for names, _, why in notes for name in names.split(", ")}
    assert not any("--against" in why for why in gaps.values()), gaps
    assert gaps["amplitude_ratio"] == "the film before a dub says other words)"
    assert (
        gaps["recogniser"] == gaps["file_wer_mean"] == "--recognizer off)"
        and "no face" in gaps["old_mouth_correlation"]
    )


def test_the_page_tells_numbers_and_no_structures(stage):
    from mouthpiece.evaluation.dub_report import simplify_report

    assert stage().code == 0
    page = (stage.folder / "out.dub" / "report.html").read_text()
    assert "{&#x27;" not in page and "{'" not in page and "dialogue lufs" in page
    links = re.findall(r'href="([^"#]+)"', page)
    assert links == ["dialogue.wav", "bed.wav", "mix.wav", "lines/1.1.wav", "lines/2.1.wav"] and all(
        (stage.folder / "out.dub" / link).is_file() for link in links
    )
    face = {
        "face": "largest",
        "speakers": ["ANNA", ""],
        "frames_asked": 9,
        "frames_changed": 7,
        "frames_passed": {"the mouth is covered": 2},
    }
    told = simplify_report(
        dict(loudness={"after": {}}, picture={"faces": [face], "changed_s": [(0.5, 1.0), (2.0, 2.25)], "placement": {}})
    )
    assert told["picture"] == {"changed_s": 0.75, "face_1": "ANNA: 7 of 9 frames changed; 2 left: the mouth is covered"}


def test_a_slot_is_no_option_of_a_dub_neither_as_a_flag_nor_in_a_preset(stage):
    answer = stage("--slot", "2")
    assert answer.code == 2 and "no option --slot" in answer.err, answer.err
    (stage.folder / "own.toml").write_text("slot = 2.0\n")
    answer = stage("--preset", str(stage.folder / "own.toml"))
    assert answer.code == 2 and "no option is called 'slot'" in answer.err, answer.err


def test_a_side_car_names_what_made_the_takes_and_the_bed_that_it_keeps(stage, monkeypatch):
    from mouthpiece.engine.weights.records import record_model
    from mouthpiece.voice.mix import source_separation

    def separated(*words, **more):
        record_model("spleeter test", "test.ckpt", "ab" * 32)
        return separate(*words, **(more | dict(networks=(lambda x: x, lambda x: x * 0))))

    separate = source_separation.separate_file
    monkeypatch.setattr(source_separation, "separate_file", separated)
    assert stage("--bed", "separate").code == 0
    models = json.loads((stage.folder / "out.json").read_text())["models"]
    assert "hibari" in models and models["spleeter test"] == "ab" * 32
    monkeypatch.setattr(source_separation, "separate_file", lambda *words, **more: pytest.fail("separated twice"))
    assert stage("--bed", "separate").code == 0
    assert read_facts(stage.folder)["spoken_again"] == {}
    assert json.loads((stage.folder / "out.json").read_text())["models"] == models
    assert stage("--bed", "mute").code == 0
    assert "spleeter test" not in json.loads((stage.folder / "out.json").read_text())["models"]


@pytest.mark.parametrize("saves, times", [(100, 3), (1, 2)])
def test_the_project_is_saved_while_lines_are_spoken_but_not_for_each_of_thousands(stage, monkeypatch, saves, times):
    from mouthpiece.voice import dub_project

    saved, save_project = [], dub_project.save_project
    monkeypatch.setattr(dub_project, "MAX_PROJECT_SAVES", saves)
    monkeypatch.setattr(dub_project, "save_project", lambda *words: saved.append(save_project(*words)) or saved[-1])
    assert stage().code == 0 and len(saved) == times
    assert [line["take"] for line in read_dub_project(stage.folder)["lines"]] == [1, 1]


def test_a_run_that_is_stopped_between_saves_keeps_the_lines_it_has_spoken(stage, monkeypatch):
    from mouthpiece.voice import dub_project

    answers = dub_project.speak_lines

    def stopped(*words):
        yield next(answers(*words))
        raise KeyboardInterrupt

    monkeypatch.setattr(dub_project, "MAX_PROJECT_SAVES", 1)
    monkeypatch.setattr(dub_project, "speak_lines", stopped)
    assert stage().code == 130
    assert [line.get("take", 0) for line in read_dub_project(stage.folder)["lines"]] == [1, 0]
    monkeypatch.setattr(dub_project, "speak_lines", answers)
    assert stage().code == 0 and list(read_facts(stage.folder)["spoken_again"]) == ["2"]


def test_a_film_has_all_channels_of_its_mix_and_the_loudness_that_was_asked_for(stage):
    from mouthpiece.engine.audio.sound import write_sound
    from mouthpiece.evaluation.dub_evaluation import report_loudness

    tones = 0.05 * np.sin(
        2 * np.pi * np.array([[300], [450], [600], [60], [750], [900]]) * np.arange(3 * 48_000) / 48_000
    )
    write_sound(stage.folder / "bed.wav", Sound(tones.astype(np.float32), 48_000))
    assert stage("--bed", str(stage.folder / "bed.wav")).code == 0
    assert probe(stage.folder / "out.mp4").channels == 6 and read_facts(stage.folder)["loudness"]["layout"] == "5.1"
    assert report_loudness(stage.folder / "out.mp4", {})["integrated_lufs"] == pytest.approx(-23, abs=0.3)

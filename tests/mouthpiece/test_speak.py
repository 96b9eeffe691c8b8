"""speak from its rim: lengths exact to the sample, lines where their slots are, takes that differ, and sentences for
what cannot be.
"""

import json

import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.voice.plan.pauses import find_audible_edges

QUIET = ("--voice", "hibari", "--recognizer", "off", "-q", "--no-provenance")
SRT = """1
00:00:00,400 --> 00:00:01,500
ANNA: Where is the old map?

2
00:00:02,000 --> 00:00:03,100
BOB: It lies on the table.
"""


@pytest.fixture
def stage(tmp_path, call):
    """A folder with film.wav (4 s, nearly silent) and script.srt, and `speak` called in it."""
    noise = 1e-4 * np.random.default_rng(0).standard_normal((1, 64_000)).astype(np.float32)
    write_sound(tmp_path / "film.wav", Sound(noise, 16_000))
    (tmp_path / "script.srt").write_text(SRT)

    def speak(*words, text=None, output="out.wav"):
        what = ("--text", text) if text is not None else (str(tmp_path / "film.wav"), str(tmp_path / "script.srt"))
        return call("speak", *what, "-o", str(tmp_path / output), *QUIET, *words)

    speak.folder = tmp_path
    return speak


def read_facts(folder, name="out.json"):
    return json.loads((folder / name).read_text())["facts"]


def test_a_text_is_spoken_and_its_plan_lies_beside_it(stage):
    answer = stage(text="Good morning, everybody.")
    assert (answer.code, answer.err) == (0, "")
    facts, sound = read_facts(stage.folder), read_sound(stage.folder / "out.wav")
    assert sound.rate_hz == 48_000 and np.abs(sound.samples).max() > 0.05
    plan = facts["plans"][0]
    assert [w[0] for w in plan["words"]] == ["Good", "morning,", "everybody."] or len(plan["words"]) == 3
    assert sum(plan["durations"]) * 600 * 2 == sound.samples.shape[1]
    assert facts["timed_by"] == "text" and not facts["needs_review"]


@pytest.mark.parametrize("slot", ["1.3", "1.777", "2.0"])
def test_a_text_in_a_slot_has_its_length_to_the_sample_and_sounds_from_start_to_end(stage, slot):
    assert stage("--slot", slot, text="We meet at the station tonight.").code == 0
    sound = read_sound(stage.folder / "out.wav")
    assert sound.samples.shape[1] == round(float(slot) * 48_000)
    first, last = find_audible_edges(sound.samples[0], 48_000)
    assert first < 0.04 and float(slot) - last < 0.06


def test_takes_are_files_that_differ_and_repeat(stage):
    assert stage("--takes", "3", text="I never said that.").code == 0
    waves = [read_sound(stage.folder / name).samples for name in ("out.wav", "out.take2.wav", "out.take3.wav")]
    assert len({wave.tobytes() for wave in waves}) == 3
    assert stage("--takes", "3", "--force", text="I never said that.").code == 0
    assert all(
        np.array_equal(a, read_sound(stage.folder / n).samples)
        for a, n in zip(waves, ("out.wav", "out.take2.wav", "out.take3.wav"))
    )


def test_a_script_becomes_a_stem_as_long_as_the_film_with_every_line_in_its_slot(stage):
    answer = stage()
    assert answer.code == 0, answer.err
    sound, facts = read_sound(stage.folder / "out.wav"), read_facts(stage.folder)
    assert sound.samples.shape[1] == 4 * 48_000
    for line, (start, end) in zip(facts["lines"], ((0.4, 1.5), (2.0, 3.1))):
        take = line["takes"][0]
        assert take["timed_by"] == "slot" and take["parts"][0]["needs_review"] is False
        a, b = round((start - 0.3) * 48_000), round((end + 0.4) * 48_000)
        first, last = find_audible_edges(sound.samples[0, a:b], 48_000)
        assert abs(start - 0.3 + first - start) < 0.03
        assert last + start - 0.3 < end + 0.3
    between = sound.samples[0, round(1.9 * 48_000) : round(1.97 * 48_000)]
    assert np.abs(between).max() < 0.02


def test_speakers_have_voices_of_their_own_and_a_wrong_name_is_said(stage):
    answer = stage("--voice", "ANNA=hibari,BOB=hibari", "--force")
    assert answer.code == 0
    answer = stage("--voice", "ANNA=hibari,EVE=hibari", "--force")
    assert answer.code == 2 and "'EVE'" in answer.err and "ANNA" in answer.err


BAD_TEXTS = {
    "": "empty",
    "   \n ": "empty",
    "🎉🎉🎉": "cannot be spoken",
    "?!… — «»": "cannot be spoken",
    "[pause 0.4s]": "cannot be spoken",
    "שלום עולם": "cannot be spoken",
}


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_what_cannot_be_spoken_is_refused_in_words_and_nothing_is_written(stage, text):
    before = sorted(stage.folder.iterdir())
    answer = stage(text=text)
    assert answer.code == 5 and BAD_TEXTS[text] in answer.err and answer.err.count("\n") == 1
    assert sorted(stage.folder.iterdir()) == before


ODD_TEXTS = [
    "GO HOME NOW",
    "Well<break time='200ms'/> then",
    "Hello 🎉 world",
    "Number 23 costs $5.50",
    "a <b>bold</b> word",
    "wait [pause 300ms] here",
]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_are_spoken(stage, text):
    answer = stage(text=text)
    assert answer.code == 0, answer.err
    assert find_audible_edges(read_sound(stage.folder / "out.wav").samples[0], 48_000) is not None


def test_a_slot_of_20_ms_outlasts_it_and_a_slot_of_a_minute_is_no_drone(stage):
    assert stage("--slot", "0.02", text="Certainly not.").code == 0
    short = read_facts(stage.folder)
    assert short["needs_review"] and "nothing was cut" in short["why"] and short["duration_s"] > 0.3
    assert stage("--slot", "60", "--force", text="No.").code == 0
    long, sound = read_facts(stage.folder), read_sound(stage.folder / "out.wav")
    assert long["needs_review"] and sound.samples.shape[1] == 60 * 48_000
    first, last = find_audible_edges(sound.samples[0], 48_000)
    assert last - first < 2.0


def test_a_line_of_hundreds_of_words_is_spoken_whole(stage, monkeypatch):
    from mouthpiece.voice.backends.hibari import Hibari

    # planning is the question here
    monkeypatch.setattr(Hibari, "speak", lambda self, plan: np.full((1, plan.samples), 0.1, np.float32))
    monkeypatch.setattr("mouthpiece.job.finalize_output", lambda *a, **k: {})
    text = "the cat sat on the mat and looked at me, " * 60
    answer = stage(text=text)
    assert answer.code == 0, answer.err
    assert read_sound(stage.folder / "out.wav").duration > 100


def test_lines_that_cannot_be_spoken_are_named_and_the_others_go_on(stage):
    odd = SRT + "\n3\n00:00:03,200 --> 00:00:03,200\nToo short a slot.\n\n4\n00:00:03,300 --> 00:00:03,900\n🎉🎉\n"
    (stage.folder / "script.srt").write_text(odd)
    answer = stage()
    lines = {line["id"]: line for line in read_facts(stage.folder)["lines"]}
    assert answer.code == 6 and lines["1"]["takes"] and not lines["3"]["takes"] and not lines["4"]["takes"]
    assert "0 ms" in lines["3"]["why"] and "cannot be spoken" in lines["4"]["why"]
    assert read_facts(stage.folder)["needs_review"] == ["3", "4"]


@pytest.mark.parametrize(
    "words, code, said",
    [
        (("--voice", "no_such"), 2, "no voice 'no_such'"),
        (("--prosody", "loud"), 2, "need source, neutral or a number from 0 to 1"),
        (("--slot", "-1"), 2, "--slot"),
        (("--takes", "0"), 2, "--takes"),
        (("--dictionary", "nowhere.toml"), 5, "nowhere.toml"),
        (("--language", "xx"), 2, "xx"),
        (("--language", "fr"), 2, "it speaks en-us, the text is fr"),
    ],
)
def test_bad_options_are_refused_before_work(stage, words, code, said):
    answer = stage(*words, text="Hello.")
    assert answer.code == code and said in answer.err, answer.err


def test_without_script_and_text_or_with_both_the_usage_is_told(call, tmp_path):
    assert call("speak", "-o", str(tmp_path / "a.wav")).code == 2
    assert call("speak", "a.mp4", "-o", str(tmp_path / "a.wav")).code == 2
    assert call("speak", "a.mp4", "b.srt", "--text", "x", "-o", str(tmp_path / "a.wav")).code == 2


def test_a_slot_for_a_script_which_has_its_own_is_refused(stage):
    answer = stage("--slot", "2")
    assert answer.code == 2 and "--slot 2" in answer.err and "--text" in answer.err
    assert not (stage.folder / "out.wav").exists()


@pytest.mark.parametrize(
    "words, text, said",
    [
        (("--cue-rate", "25"), "Hello.", "--cue-rate: has no meaning with --text"),
        (("--encoding", "cp1252"), "Hello.", "--encoding: has no meaning with --text"),
        (("--prosody", "0.5"), "Hello.", "--prosody: has no meaning with --text"),
        (("--lip-timing", "off"), "Hello.", "--lip-timing: has no meaning with --text"),
        (("--face", "1", "--lip-timing", "off"), None, "--face: has no meaning with --lip-timing off"),
        (("--face", "1"), None, "There is no picture in it"),
        (("--register-shift", "2", "--prosody", "0"), None, "--register-shift: has no meaning with --prosody 0"),
    ],
)
def test_options_that_would_do_nothing_are_refused(stage, words, text, said):
    answer = stage(*words, text=text)
    assert answer.code == 2 and said in answer.err and not (stage.folder / "out.wav").exists()


def test_what_a_preset_says_for_another_mode_may_stay(stage):
    (stage.folder / "studio.toml").write_text('prosody = "0.5"\ncue_rate = "25"\n')
    assert stage("--preset", str(stage.folder / "studio.toml"), "--dry-run", text="Hello.").code == 0


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(stage):
    before = sorted(stage.folder.iterdir())
    answer = stage("--dry-run", "--json")
    assert answer.code == 0 and json.loads(answer.out)["result"]["facts"]["lines"] == 2
    assert sorted(stage.folder.iterdir()) == before


def test_lines_are_heard_back_and_the_listener_is_named(stage):
    answer = stage("--recognizer", "pocketsphinx", text="The meeting has been moved to the other office.")
    assert answer.code == 0
    hearing = read_facts(stage.folder)["hearing"]
    assert "pocketsphinx" in hearing["recogniser"] and hearing["heard"]


def test_a_side_car_names_the_models_of_its_own_job_also_where_an_earlier_one_had_loaded_them(stage, call):
    assert stage(text="Good morning.").code == 0
    other = stage.folder / "film.srt"
    assert call(
        "transcribe", str(stage.folder / "film.wav"), "-o", str(other), "--model", "pocketsphinx", "-q", "--force"
    ).code in (0, 5)
    assert stage(text="Good evening.", output="again.wav").code == 0
    first, again = (json.loads((stage.folder / name).read_text())["models"] for name in ("out.json", "again.json"))
    assert "hibari" in first and again == first


@pytest.mark.parametrize("command", ["speak", "dub"])
def test_a_script_is_read_once(command, stage, call, monkeypatch):
    from pathlib import Path

    reads, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path.name) or read_bytes(path))
    output = stage.folder / ("out.wav" if command == "speak" else "out.mp4")
    film = stage.folder / "film.wav"
    if command == "dub":
        from fractions import Fraction

        from mouthpiece.engine.media.writing import VideoWriter

        film = stage.folder / "film.mp4"
        with VideoWriter(film, Fraction(10), 64, 48, Sound(np.zeros((1, 64_000), np.float32), 16_000)) as writer:
            for _ in range(40):
                writer.write(np.zeros((48, 64, 3), np.uint8))
    answer = call(
        command, str(film), str(stage.folder / "script.srt"), "-o", str(output), "--voice", "hibari", "--dry-run", "-q"
    )
    assert answer.code == 0 and reads.count("script.srt") == 1, answer.err


def test_a_script_none_of_whose_lines_can_be_spoken_is_refused_in_whole_sentences(stage):
    (stage.folder / "script.srt").write_text(
        "1\n00:00:01,000 --> 00:00:01,001\nToo short.\n\n2\n00:00:02,000 --> 00:00:02,001\nThis too.\n"
    )
    answer = stage()
    assert (
        answer.code == 5
        and "not one of its 2 lines could be spoken; line 1: its slot has 1 ms: nothing is spoken. Correct the script."
        in answer.err
    )


def test_a_recording_without_a_sample_is_refused_as_such(stage):
    import wave

    with wave.open(str(stage.folder / "film.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16_000)
    answer = stage()
    assert answer.code == 5 and "film.wav: it lasts 0 s." in answer.err

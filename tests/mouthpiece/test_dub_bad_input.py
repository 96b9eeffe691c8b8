"""What goes wrong with the inputs of a dub: a clear sentence or a line marked for review, nothing lost, the right exit
code.
"""

import json
from fractions import Fraction

import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.engine.media.writing import VideoWriter

QUIET = (
    "--voice",
    "hibari",
    "--recognizer",
    "off",
    "--bed",
    "mute",
    "--no-lips",
    "--lip-timing",
    "off",
    "-q",
    "--no-provenance",
    "--force",
)
ONE = "1\n00:00:00,200 --> 00:00:01,000\nHello there.\n"


def write_film(path, frames=25, sound=True):
    noise = Sound(2e-3 * np.random.default_rng(0).standard_normal((1, frames * 1280)).astype(np.float32), 16_000)
    with VideoWriter(path, Fraction(25, 2), 64, 48, noise if sound else None) as writer:
        for k in range(frames):
            writer.write(np.full((48, 64, 3), 60 + k, np.uint8))
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two seconds of grey."""
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture
def dub(tmp_path, call, film):
    """Dubs a film (the grey one) by a script of these bytes or this text."""

    def dub(script, *words, video=film, suffix=".srt", quiet=QUIET):
        path = (tmp_path / "script").with_suffix(suffix)
        path.write_bytes(script if isinstance(script, bytes) else script.encode("utf-8"))
        answer = call("dub", str(video), str(path), "-o", str(tmp_path / "out.mp4"), *quiet, *words)
        assert "Traceback" not in answer.err and "internal" not in answer.err, answer.err
        return answer

    dub.folder, dub.out = tmp_path, tmp_path / "out.mp4"
    dub.facts = lambda: json.loads((tmp_path / "out.json").read_text())["facts"]
    return dub


def cue(number, start, end, text):
    return f"{number}\n00:00:{start} --> 00:00:{end}\n{text}\n\n"


def test_overlapping_cues_are_both_spoken_and_remarked(dub):
    answer = dub(cue(1, "00,200", "01,200", "Hello there.") + cue(2, "00,700", "01,700", "Over here."))
    assert answer.code == 0 and any("before line 1 ends" in remark for remark in dub.facts()["remarks"])
    assert [line["status"] == "draft" for line in dub.facts()["lines"]] == [False, False]
    heard = read_sound(dub.folder / "out.dub" / "dialogue.wav", mono=True).samples[0]
    assert (
        np.abs(heard[int(0.3 * 48_000) : int(0.6 * 48_000)]).max() > 0.01
        and np.abs(heard[int(1.3 * 48_000) : int(1.6 * 48_000)]).max() > 0.01
    )


def test_a_cue_that_goes_beyond_the_end_is_spoken_to_the_end_and_the_film_keeps_its_length(dub, film):
    answer = dub(ONE + "\n" + cue(2, "01,500", "04,000", "And so on.") + cue(3, "09,000", "10,000", "Too late."))
    assert answer.code == 6 and probe(dub.out).frames == probe(film).frames
    assert sum("beyond the end" in remark for remark in dub.facts()["remarks"]) == 2
    assert read_sound(dub.folder / "out.dub" / "mix.wav").samples.shape[1] == 2 * 48_000
    second, third = dub.facts()["lines"][1:]
    assert (
        third["status"] == "needs_review" and "after the film has ended" in third["why"] and second["spoken_s"][1] < 2.5
    )


@pytest.mark.parametrize("times, said", [(("01,500", "01,500"), "0 ms"), (("01,900", "01,500"), "its slot has")])
def test_a_cue_without_length_is_marked_and_the_others_are_made(dub, times, said):
    answer = dub(ONE + "\n" + cue(2, *times, "Gone already."))
    row = dub.facts()["lines"][1]
    assert (
        answer.code == 6
        and dub.out.exists()
        and row["status"] == "needs_review"
        and said in row["why"]
        and row["text"] == "Gone already."
    )


def test_a_cue_without_text_is_no_failure(dub):
    answer = dub(ONE + "\n" + cue(2, "01,200", "01,800", " "))
    assert answer.code == 0 and len(dub.facts()["lines"]) == 2


def test_a_script_in_which_nothing_can_be_spoken_is_refused(dub):
    answer = dub(cue(1, "00,200", "00,200", "Hello."))
    assert answer.code == 5 and "not one line could be spoken" in answer.err and not dub.out.exists()


def test_a_voice_for_somebody_who_does_not_speak_is_a_usage_error(dub):
    answer = dub(ONE, "--voice", "BOB=hibari")
    assert answer.code == 2 and "no speaker 'BOB'" in answer.err and not dub.out.exists()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_older_bytes_and_line_ends_read_alike(dub, encoding, end):
    answer = dub(ONE.replace("there", "caf\u00e9").replace("\n", end).encode(encoding), "--dry-run", "--json")
    assert answer.code == 0 and json.loads(answer.out)["result"]["facts"]["lines"] == 1


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE tt [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><tt'
    ' xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="0s" end="1s">&b;</p></div></body></tt>'
)


@pytest.mark.parametrize(
    "content, suffix, code",
    [
        ("<tt xmlns='http://www.w3.org/ns/ttml'><body><div><p begin='0s' end='1s'>Hello", ".ttml", 5),
        (BOMB, ".ttml", 5),
        ("", ".srt", 5),
        (b"\x00\x01\x02\xff" * 200, ".srt", 5),
        ('{"format": "mouthpiece project", "lines": [', ".json", 5),
        ("1\n00:10:00,000 --> 00:10:02,000\nOf another film.\n", ".srt", 5),
    ],
)
def test_what_is_no_script_of_this_film_is_refused_with_a_remedy_and_leaves_nothing(dub, content, suffix, code):
    before = sorted(path.name for path in dub.folder.iterdir())
    answer = dub(content, suffix=suffix)
    assert answer.code == code and len(answer.err.rstrip(".\n").split(". ")) >= 2, answer.err
    assert [
        name
        for name in sorted(path.name for path in dub.folder.iterdir())
        if name not in before and not name.startswith("script")
    ] == []


def test_a_film_without_sound_gets_the_dialogue_alone(dub, tmp_path):
    answer = dub(ONE, "--bed", "separate", video=write_film(tmp_path / "mute.mp4", sound=False))
    assert answer.code == 0 and "no sound" in dub.facts()["bed"]["note"] and probe(dub.out).has_audio


def test_a_sound_is_no_film(dub, tmp_path):
    write_sound(tmp_path / "only.wav", Sound(np.zeros((1, 48_000), np.float32), 48_000))
    answer = dub(ONE, video=tmp_path / "only.wav")
    assert (
        answer.code == 5
        and "no moving picture" in answer.err
        and "speak" in answer.err
        and not (tmp_path / "out.dub").exists()
    )


def test_a_film_in_which_nobody_is_seen_keeps_its_picture(dub, film):
    words = ("--voice", "hibari", "--recognizer", "off", "--bed", "mute", "-q", "--no-provenance", "--force")
    answer = dub(ONE, quiet=words)
    assert answer.code == 0, answer.err
    picture = dub.facts()["picture"]
    assert "no face" in picture["lips"] and picture["frames"] == probe(film).frames
    again = dub(ONE, "--on-missing-face", "fail", quiet=words)
    assert again.code == 5 and "no face" in again.err
    assert dub(ONE, "--face", "0", quiet=words).code == 5


def test_ten_thousand_lines_are_planned(dub):
    script = "".join(
        f"{k}\n00:00:00,{k % 900:03} --> 00:00:01,{k % 900:03}\nLine number {k}.\n\n" for k in range(1, 10_001)
    )
    answer = dub(script, "--dry-run", "--json")
    result = json.loads(answer.out)["result"]
    assert answer.code == 0 and result["facts"]["lines"] == 10_000 and len(result["facts"]["todo"]) == 10_000


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), InvalidInputError("x: the disk is full.", hint="Make room.")])
def test_a_run_that_is_stopped_keeps_what_it_spoke_and_the_next_one_goes_on(dub, monkeypatch, stop):
    from mouthpiece.voice import speech_lines

    script, whole = ONE + "\n" + cue(2, "01,100", "01,800", "Over here."), speech_lines.synthesize_line
    spoken = []

    def speak(*words):
        spoken.append(words)
        if len(spoken) == 2:
            raise stop
        return whole(*words)

    monkeypatch.setattr(speech_lines, "synthesize_line", speak)
    answer = dub(script)
    if isinstance(stop, KeyboardInterrupt):
        assert answer.code == 130 and not dub.out.exists() and not list(dub.folder.rglob("*.part*"))
    else:
        assert answer.code == 6 and dub.facts()["lines"][1]["status"] == "needs_review"
    monkeypatch.setattr(speech_lines, "synthesize_line", whole)
    again = dub(script)
    assert (
        again.code == 0
        and list(dub.facts()["spoken_again"]) == ["2"]
        and [line["status"] == "draft" for line in dub.facts()["lines"]] == [False, False]
    )

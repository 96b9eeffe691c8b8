import argparse
import json

import numpy as np
import pytest

from mouthpiece.commands.transcribe import COMMAND
from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.progress import Progress
from mouthpiece.voice.asr import transcription
from mouthpiece.voice.asr.recognizer import RecognizedWord
from mouthpiece.voice.asr.transcription import Transcriber
from mouthpiece.voice.scripts.formats import read_script
from mouthpiece.voice.scripts.project_file import read_project

RATE_HZ = 16_000


class FakeRecognizer:
    """A recogniser that finds two sentences in every sound that is not silent."""

    name, why = "reader", "a test"

    def check(self, language):
        if language == "xx":
            raise UsageError("--language xx: not known.")

    def transcribe(self, wave, language=None):
        words = ["Good", "morning,", "people.", "It", "rains."] if np.abs(wave).max() > 0.01 else []
        return tuple(
            RecognizedWord(text, 0.4 + 0.5 * k, 0.8 + 0.5 * k) for k, text in enumerate(words)
        ), language or "en"


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(transcription, "open_transcriber", lambda *given: Transcriber(FakeRecognizer()))
    monkeypatch.setattr(
        transcription, "find_speech_regions", lambda wave: [(0, len(wave))] if np.abs(wave).max() > 0.01 else []
    )
    parser = argparse.ArgumentParser()
    COMMAND.add(parser)
    return lambda *words: COMMAND.run(parser.parse_args([str(word) for word in words]), Progress("none"))


@pytest.fixture
def talk(tmp_path):
    write_sound(
        tmp_path / "talk.wav",
        Sound(np.random.default_rng(0).normal(0, 0.1, (1, 3 * RATE_HZ)).astype(np.float32), RATE_HZ),
    )
    return tmp_path / "talk.wav"


@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".csv", ".ttml"])
def test_a_draft_is_a_script_that_reads_back(run, talk, suffix):
    path = talk.with_name(f"draft{suffix}")
    outcome = run(talk, "-o", path)
    lines = read_script(path).lines
    assert [line.text for line in lines] == ["Good morning, people.", "It rains."]
    assert {line.speaker for line in lines} == {"S1"} and lines[0].start == pytest.approx(0.4)
    facts = json.loads(path.with_suffix(".json").read_text())["facts"]
    assert facts["recogniser"] == "reader" and facts["words"][0] == ["Good", 0.4, 0.8]
    assert "reader" in outcome.summary and "2 lines in 'en'" in outcome.summary


def test_a_draft_can_be_a_project(run, talk):
    path = talk.with_name("draft.json")
    run(talk, "-o", path)
    assert [entry.line.text for entry in read_project(path).entries] == ["Good morning, people.", "It rains."]


def test_options_shape_the_lines_and_a_dry_run_writes_nothing(run, talk):
    path = talk.with_name("draft.srt")
    assert run(talk, "-o", path, "--dry-run").document["dry_run"] and not path.exists()
    run(talk, "-o", path, "--line-length", "1", "--language", "en-GB")
    assert [line.text for line in read_script(path).lines] == ["Good morning,", "people.", "It rains."]
    with pytest.raises(UsageError, match="--line-length"):
        run(talk, "-o", path, "--line-length", "0", "--force")


def test_silence_is_refused_and_leaves_nothing(run, talk):
    write_sound(talk, Sound(np.zeros((1, RATE_HZ), np.float32), RATE_HZ), overwrite=True)
    path = talk.with_name("draft.srt")
    with pytest.raises(InvalidInputError, match="nobody speaks"):
        run(talk, "-o", path)
    with pytest.raises(InvalidInputError, match="Is 'en' what is spoken"):
        run(talk, "-o", path, "--language", "en")
    assert sorted(file.name for file in talk.parent.iterdir()) == ["talk.wav"]


def test_wrong_names_and_languages_are_refused_before_anything_is_heard(run, talk):
    with pytest.raises(UsageError, match=".srt"):
        run(talk, "-o", talk.with_name("draft.pdf"))
    with pytest.raises(UsageError, match="xx"):
        run(talk, "-o", talk.with_name("draft.srt"), "--language", "xx", "--dry-run")
    with pytest.raises(InvalidInputError, match="no such file"):
        run(talk.with_name("gone.mp4"), "-o", talk.with_name("draft.srt"))

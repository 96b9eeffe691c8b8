from functools import lru_cache

import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.device import choose_device
from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.voice.asr import transcription, whisper_recognizer, whisper_weights
from mouthpiece.voice.asr.pocketsphinx_recognizer import PocketsphinxRecognizer
from mouthpiece.voice.asr.recognizer import RecognizedWord
from mouthpiece.voice.asr.recognizers import open_recognizer
from mouthpiece.voice.asr.script_draft import draft_script
from mouthpiece.voice.asr.transcription import (
    TranscribedPhrase,
    Transcriber,
    check_intelligibility,
    find_speech_regions,
    pack_windows,
    split_at_pauses,
)
from mouthpiece.voice.asr.whisper_recognizer import WhisperRecognizer

RATE_HZ = transcription.RATE_HZ
TEXT = "The people are walking to the river in the morning."


@lru_cache(maxsize=1)
def spoken():
    """A sentence by the voice that comes with the package: (S,) at 16 kHz, without silence around it."""
    import hibari
    from scipy.signal import resample_poly

    wave = hibari.Hibari(threads=1)(TEXT)
    wave = resample_poly(wave, 2, 3).astype(np.float32)
    loud = np.flatnonzero(np.abs(wave) > 0.02)
    return wave[loud[0] : loud[-1]]


def silence(length_s):
    return np.zeros(int(length_s * RATE_HZ), np.float32)


class Echo:
    """A recogniser that gives one word for every sound, and remembers the sound."""

    name, why = "echo", "a test"

    def __init__(self):
        self.waves = []

    def check(self, language):
        pass

    def transcribe(self, wave, language=None):
        self.waves.append(wave)
        return (RecognizedWord("word.", 0.0, len(wave) / RATE_HZ),), language or "en"


@pytest.mark.parametrize(
    "wave",
    [
        silence(5),
        np.random.default_rng(0).normal(0, 0.1, 5 * RATE_HZ).astype(np.float32),
        (0.2 * np.sin(np.arange(5 * RATE_HZ) * 0.17)).astype(np.float32),
    ],
    ids=["silence", "noise", "tone"],
)
def test_nothing_is_listened_to_where_nobody_speaks(wave):
    echo = Echo()
    assert Transcriber(echo).transcribe(Sound(wave[None], RATE_HZ)) == []
    assert echo.waves == []


def test_words_get_the_times_of_the_recording():
    wave = np.concatenate([silence(4), spoken(), silence(9), spoken(), silence(2)])
    phrases = Transcriber(Echo()).transcribe(Sound(wave[None], RATE_HZ))
    length_s = len(spoken()) / RATE_HZ
    assert len(phrases) == 2
    for phrase, start_s in zip(phrases, (4, 13 + length_s)):
        assert phrase.start_s == pytest.approx(start_s, abs=0.25)
        assert phrase.stop_s == pytest.approx(start_s + length_s, abs=0.25)


def test_a_streamed_file_is_heard_like_the_sound_in_memory(tmp_path):
    sound = Sound(np.concatenate([silence(1), spoken(), silence(7), spoken()])[None], RATE_HZ)
    write_sound(tmp_path / "a.wav", sound)
    whole, streamed = (Transcriber(Echo()).transcribe(source) for source in (sound, tmp_path / "a.wav"))
    assert [(p.text, p.start_s, p.stop_s) for p in whole] == [(p.text, p.start_s, p.stop_s) for p in streamed]


def test_chunks_end_in_pauses_and_lose_no_sample():
    wave = np.concatenate([spoken(), silence(1)] * 4)
    blocks = [wave[None, a : a + 5000] for a in range(0, len(wave), 5000)]
    pieces = list(split_at_pauses(blocks, chunk_s=4))
    assert len(pieces) > 1
    assert np.array_equal(np.concatenate([piece for _, piece, _ in pieces]), wave)
    edges = [offset for offset, _, _ in pieces]
    assert all(np.abs(wave[edge : edge + 800]).max() < 0.02 for edge in edges[1:])
    found = [(offset + a, offset + b) for offset, _, regions in pieces for a, b in regions]
    assert sum(b - a for a, b in found) == pytest.approx(sum(b - a for a, b in find_speech_regions(wave)), rel=0.1)


def test_windows_hold_all_speech_and_are_never_too_long():
    wave = np.random.default_rng(1).normal(0, 0.1, 60 * RATE_HZ).astype(np.float32)
    wave[20 * RATE_HZ : 21 * RATE_HZ] = 0
    regions = [(0, 45 * RATE_HZ), (46 * RATE_HZ, 50 * RATE_HZ), (57 * RATE_HZ, 58 * RATE_HZ)]
    found = list(pack_windows(wave, regions))
    assert sum(b - a for window in found for a, b in window) == 50 * RATE_HZ
    assert max(sum(b - a for a, b in window) for window in found) <= transcription.WINDOW_S * RATE_HZ
    assert 20 * RATE_HZ < found[0][0][1] < 21 * RATE_HZ  # cut where it is quiet
    assert found[-1] == [(57 * RATE_HZ, 58 * RATE_HZ)]  # far from the rest


def test_pocketsphinx_hears_most_of_a_clear_sentence_and_silence_loses_all_of_it():
    transcriber = Transcriber(PocketsphinxRecognizer("a test"))
    hearing = check_intelligibility(transcriber, Sound(spoken()[None], RATE_HZ), TEXT)
    assert hearing.error.rate <= 0.4
    nothing = check_intelligibility(transcriber, Sound(silence(2)[None], RATE_HZ), TEXT)
    assert nothing.text == "" and not nothing.ok and len(nothing.lost_words) == 10


def test_pocketsphinx_says_that_it_knows_english_alone():
    with pytest.raises(MissingDependencyError, match="English alone"):
        Transcriber(PocketsphinxRecognizer()).transcribe(Sound(silence(1)[None], RATE_HZ), "de")


def test_without_whisper_the_fallback_is_named_with_its_reason(monkeypatch):
    monkeypatch.delenv("MOUTHPIECE_WHISPER", raising=False)
    monkeypatch.setattr(whisper_weights, "WHISPER_PACKAGES", ())
    assert (
        open_recognizer("auto").name == "pocketsphinx"
        and "not installed; words are less often right" in open_recognizer("auto").why
    )
    for choice, language in (("whisper", None), ("auto", "de")):
        with pytest.raises(MissingDependencyError, match="whisper"):
            open_recognizer(choice, language)
    with pytest.raises(UsageError, match="pocketsphinx"):
        open_recognizer("siri")


def test_a_wrong_path_to_whisper_is_not_passed_over(monkeypatch):
    monkeypatch.setenv("MOUTHPIECE_WHISPER", "nowhere.pt")
    with pytest.raises(MissingDependencyError, match="nowhere.pt"):
        open_recognizer("auto")


@pytest.fixture(scope="module")
def small_whisper():
    import torch
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(0)
    return WhisperRecognizer(
        Whisper(ModelDimensions(80, 1500, 32, 2, 1, 51865, 448, 32, 2, 2)).eval(), choose_device("cpu"), "small"
    )


def test_what_whisper_merely_guesses_is_left_out(small_whisper, monkeypatch):
    monkeypatch.setattr(whisper_recognizer, "TEMPERATURES", (0.0,))
    assert small_whisper.transcribe(spoken(), "en") == ((), "en")


def test_words_of_whisper_lie_in_the_sound_and_in_order(small_whisper):
    import torch
    from whisper.tokenizer import get_tokenizer

    threads = torch.get_num_threads()
    tokenizer = get_tokenizer(True, num_languages=small_whisper.model.num_languages, language="en", task="transcribe")
    words = small_whisper._align_words(
        small_whisper._encode(spoken()), tokenizer.encode(" " + TEXT), tokenizer, len(spoken())
    )
    assert torch.get_num_threads() == threads
    assert [word.text for word in words] == TEXT.split()
    times = [time for word in words for time in (word.start_s, word.stop_s)]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= len(spoken()) / RATE_HZ + 0.02


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 40), (40, 7)])
def test_words_are_timed_along_the_path_that_whisper_itself_takes(shape):
    from whisper.timing import dtw_cpu

    costs = np.random.default_rng(sum(shape)).integers(-3, 4, shape).astype(float)  # many ways cost the same
    assert np.array_equal(whisper_recognizer.compute_dtw_path(costs), dtw_cpu.py_func(costs))


def test_whisper_refuses_a_language_it_does_not_know(small_whisper):
    with pytest.raises(UsageError, match="klingon"):
        small_whisper.check("klingon")


def test_a_draft_is_cut_at_sentences_and_pauses_and_no_line_is_too_long():
    texts = (
        "Yes, I think so. Mr. Smith came home late that night, and nobody in the whole house had heard the door, or so"
        " they said".split()
    )
    words = tuple(RecognizedWord(text, 0.4 * k, 0.4 * k + 0.35) for k, text in enumerate(texts))
    script = draft_script(
        [TranscribedPhrase(" ".join(texts), 0.0, words[-1].stop_s, words, "en")], max_line_s=5.0, max_line_characters=60
    )
    lines = [line.text for line in script.lines]
    assert lines[0] == "Yes, I think so." and lines[1].startswith("Mr. Smith")
    assert " ".join(lines).split() == texts
    assert all(len(line.text) <= 60 and line.end - line.start <= 5 for line in script.lines)
    assert {line.speaker for line in script.lines} == {"S1"} and script.language == "en"
    assert any(line.endswith(",") for line in lines)

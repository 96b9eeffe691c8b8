"""The table of recognisers: one row is all that a new one needs."""

import unicodedata

import pytest

from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.voice.asr import recognizers
from mouthpiece.voice.asr.recognizer import RecognizedWord, RecognizerBackend
from mouthpiece.voice.asr.recognizers import RECOGNIZER_CHOICES, open_recognizer


class Toy:
    name = "toy"

    def __init__(self, why):
        self.why = why

    def check(self, language):
        pass

    def transcribe(self, wave, language=None):
        return (RecognizedWord("word", 0.0, 0.1),), language or "xx"


def refuse(code):
    def open_backend(language, placement, why):
        raise MissingDependencyError("the first is not installed.", code=code)

    return open_backend


def make_row(name, open_backend, languages=None):
    return RecognizerBackend(
        name, open_backend, lambda language: languages is None or language in languages, "gone", "less is right"
    )


def open_toy(language, placement, why):
    return Toy(why)


def test_one_row_makes_a_recogniser(monkeypatch):
    monkeypatch.setattr(recognizers, "RECOGNIZERS", (make_row("toy", open_toy), *recognizers.RECOGNIZERS))
    assert open_recognizer("toy").why == "asked for" and open_recognizer("auto").why == "the best one installed"
    with pytest.raises(UsageError, match="need auto or toy or whisper or pocketsphinx"):
        open_recognizer("siri")


def test_auto_goes_down_the_table_to_what_is_installed_and_knows_the_language(monkeypatch):
    first, toy = make_row("first", refuse("gone")), make_row("toy", open_toy, ("xx",))
    monkeypatch.setattr(recognizers, "RECOGNIZERS", (first, make_row("other", open_toy, ("yy",)), toy))
    found = open_recognizer("auto", "xx")
    assert isinstance(found, Toy) and found.why == "the first is not installed; less is right"
    with pytest.raises(MissingDependencyError, match="the first is not installed"):
        open_recognizer("auto", "zz")
    with pytest.raises(MissingDependencyError, match="the first is not installed"):
        open_recognizer("first", "xx")


def test_auto_does_not_pass_over_what_is_broken(monkeypatch):
    monkeypatch.setattr(recognizers, "RECOGNIZERS", (make_row("first", refuse("broken")), make_row("toy", open_toy)))
    with pytest.raises(MissingDependencyError):
        open_recognizer("auto")


def test_choices_are_the_rows_and_auto():
    assert RECOGNIZER_CHOICES == ("auto", "whisper", "pocketsphinx")


@pytest.mark.parametrize(("language", "script"), [("hi", "DEVANAGARI"), ("en", None)])
def test_whisper_is_shown_the_script_of_a_language_that_it_writes_in_another(language, script):
    whisper = pytest.importorskip("whisper")
    from types import SimpleNamespace

    from mouthpiece.voice.asr.whisper_recognizer import WhisperRecognizer

    asked = []

    def decode(features, options):
        asked.append(options)
        return whisper.DecodingResult(features, "hi", no_speech_prob=0.9)

    dims, device = SimpleNamespace(n_text_layer=0), SimpleNamespace(type="cpu")
    model = SimpleNamespace(dims=dims, device=device, decode=decode, is_multilingual=True)
    WhisperRecognizer(model, None)._decode(None, language)
    letters = [char for char in asked[0].prompt or "" if char.isalpha()]
    assert {unicodedata.name(char).split()[0] for char in letters} == ({script} if script else set())

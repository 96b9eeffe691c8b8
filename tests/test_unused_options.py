"""Flags that would do nothing in the mode asked for are refused, in every command."""

import pytest


@pytest.mark.parametrize(
    "words, said",
    [
        (("voices", "list", "-o", "x.wav"), "--output: has no meaning with voices list"),
        (("voices", "list", "--speed", "1.5"), "--speed: has no meaning with voices list"),
        (
            ("voices", "sample", "-o", "x.wav", "--voice", "hibari", "--language", "es"),
            "--voice hibari: it speaks en-us",
        ),
        (("models", "list", "--yes"), "--yes: has no meaning with models list"),
        (("evaluate", "line.wav", "--recognizer", "off"), "--recognizer: has no meaning for a video that is no dub"),
        (
            ("sound", "line.wav", "-o", "x.mp4", "--dialogue-gap", "5"),
            "--dialogue-gap: has no meaning without --under-dialogue",
        ),
        (
            ("sound", "line.wav", "-o", "x.mp4", "--guidance", "1", "--negative-prompt", "rain"),
            "--negative-prompt: has no meaning with --guidance 1",
        ),
        (
            ("transcribe", "line.wav", "-o", "x.srt", "--model", "pocketsphinx", "--device", "cuda"),
            "--device: has no meaning with --model pocketsphinx",
        ),
        (("batch", "jobs.jsonl", "-o", "x", "--queue", "time=2"), "--queue: has no meaning with --cluster local"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else "",
)
def test_flags_that_would_do_nothing_are_refused(call, desk, monkeypatch, words, said):
    monkeypatch.chdir(desk)
    answer = call(*words, "-q")
    assert (answer.code, answer.out) == (2, "") and said in answer.err and not list(desk.glob("x*"))

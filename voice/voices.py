"""Voices by name: single ones, mixes, and what is at hand on this machine."""

from functools import cache


@cache
def load_voice(spec, threads=None):
    """The voice called `spec`, ready to speak; the same object each time in a process.

    spec: a name such as "af_heart".
    threads: int, or None for what the machine has.
    Source: ours.
    """
    from voice.backends import kokoro

    return kokoro.Kokoro(spec, kokoro.LANGUAGES[spec[0]], kokoro.mixed_style({spec: 1.0}), threads)

"""Casting: which voice each speaker of a script is given."""

from __future__ import annotations

from itertools import cycle

from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.backends.registry import (
    get_default_voice,
    get_voice_language,
    list_castable_voices,
    list_voices,
    parse_voice,
)
from mouthpiece.voice.options import MATCH_VOICE

ANY_SPEAKER = ""  # key of the voice for speakers that are given none
_CASTING_HINT = "Write NAME=VOICE,NAME=VOICE."


def parse_casting(text: str | None) -> dict[str, str]:
    """Parse the value of --voice into {speaker: voice specification}; ANY_SPEAKER is the key of a voice for all.

    text: "af_heart", "Anna=af_heart,Bob=am_adam:0.6+am_michael:0.4", or None.
    Raises UsageError for what is not a casting, and for a voice that is not known.
    """
    casting = {}
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        speaker, equals, spec = (x.strip() for x in part.rpartition("="))
        if equals and (not speaker or not spec):
            raise UsageError(
                f"--voice {text}: '{part}' names no speaker or no voice.", hint=_CASTING_HINT, code="bad_voice"
            )
        if speaker in casting:
            whom = f"speaker '{speaker}'" if speaker else "everybody"
            raise UsageError(f"--voice {text}: two voices for {whom}.", hint=_CASTING_HINT, code="bad_voice")
        if spec != MATCH_VOICE:
            parse_voice(spec)
        casting[speaker] = spec
    return casting


def assign_voices(casting: dict[str, str], speakers: tuple[str, ...], language: str) -> dict[str, str]:
    """Assign a voice to every speaker, {speaker: specification}: the one given, else the one for everybody, else
    voices of the language in turn, no two alike while they last.

    casting: of `parse_casting`.  speakers: names, "" among them where lines have none.  language: such as "en-us".
    Raises UsageError for a name in the casting that no line has, and for a voice of another language.
    """
    unknown = [name for name in casting if name != ANY_SPEAKER and name not in speakers]
    if unknown:
        known = ", ".join(filter(None, speakers)) or "none is named"
        raise UsageError(
            f"--voice: the script has no speaker '{unknown[0]}'.", hint=f"Its speakers: {known}.", code="no_speaker"
        )
    for spec in casting.values():
        check_voice_language(spec, language)
    default = get_default_voice(language)
    others = [voice.name for voice in list_castable_voices() if voice.language == language and voice.name != default]
    free = [name for name in (default, *others) if name not in casting.values()] or [default, *others]
    voices: dict[str, str] = {}
    turns = cycle(free)
    for speaker in speakers:
        given = casting.get(speaker, casting.get(ANY_SPEAKER))
        voices[speaker] = next(turns) if given is None else given
    return voices


def check_voice_language(spec: str, language: str) -> None:
    """Check that a voice speaks a language, in any region.

    spec: voice, mix or "match".  language: such as "fr" or "en-us".
    Raises UsageError with voices that do.
    """
    if spec == MATCH_VOICE:
        return
    spoken = get_voice_language(spec)
    if spoken is not None and spoken.split("-")[0] != language.split("-")[0]:
        fitting = [voice.name for voice in list_voices() if voice.speaks(language)]
        hint = f"Voices for {language}: {', '.join(fitting[:8]) or 'none'}."
        raise UsageError(
            f"--voice {spec}: it speaks {spoken}, the text is {language}.", hint=hint, code="other_language"
        )

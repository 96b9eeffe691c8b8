"""Who speaks whom: speakers of a script and their voices."""

from __future__ import annotations

from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.backends.registry import get_default_voice, list_voices, parse_voice_mix
from mouthpiece.voice.options import MATCH_VOICE

ANY_SPEAKER = ""  # the voice of whom no voice was given


def parse_casting(text: str) -> dict[str, str]:
    """{speaker: spec} of --voice; EVERYBODY is the key of a voice for all.

    text: "af_heart", "Anna=af_heart,Bob=am_adam:0.6+am_michael:0.4", or None.
    Raises UsageProblem for what is no casting, and for a voice that is not known.
    """
    casting = {}
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        speaker, equals, spec = (x.strip() for x in part.rpartition("="))
        if equals and (not speaker or not spec):
            raise UsageError(
                f"--voice {text}: '{part}' names no speaker or no voice.",
                hint="Write NAME=VOICE,NAME=VOICE.",
                code="bad_voice",
            )
        if speaker in casting:
            whom = f"speaker '{speaker}'" if speaker else "everybody"
            raise UsageError(
                f"--voice {text}: two voices for {whom}.", hint="Write NAME=VOICE,NAME=VOICE.", code="bad_voice"
            )
        if spec != MATCH_VOICE and not spec.startswith("chatterbox"):
            parse_voice_mix(spec)
        casting[speaker] = spec
    return casting


def assign_voices(casting: dict[str, str], speakers: tuple[str, ...], language: str) -> dict[str, str] | None:
    """{speaker: spec} for every speaker: the one given, else the one for everybody, else voices of the language in
    turn, no two alike while they last.

    casting: of `parse_casting`.  speakers: names, "" among them where lines have none.  language: such as "en-us".
    Raises UsageProblem for a name in the casting that no line has, and for a voice of another language.
    """
    strange = [name for name in casting if name != ANY_SPEAKER and name not in speakers]
    if strange:
        known = ", ".join(filter(None, speakers)) or "none is named"
        raise UsageError(
            f"--voice: the script has no speaker '{strange[0]}'.", hint=f"Its speakers: {known}.", code="no_speaker"
        )
    for spec in casting.values():
        check_voice_language(spec, language)
    first = get_default_voice(language)
    turn = [
        first,
        *(
            r["name"]
            for r in list_voices()
            if r["language"] == language and r["at_hand"] and r["backend"] == "kokoro" and r["name"] != first
        ),
    ]
    free = [name for name in turn if name not in casting.values()] or turn
    out, k = {}, 0
    for speaker in speakers:
        spec = casting.get(speaker, casting.get(ANY_SPEAKER))
        if spec is None:
            spec, k = free[k % len(free)], k + 1
        out[speaker] = spec
    return out


def check_voice_language(spec: str, language: str) -> None:
    """Raises UsageProblem where a voice does not speak a language. spec: voice or mix.  language: such as "fr" or
    "en-us".
    """
    if spec == MATCH_VOICE or spec.startswith("chatterbox"):
        return
    shares = parse_voice_mix(spec)
    spoken = next(r["language"] for r in list_voices() if r["name"] == max(shares, key=shares.get))
    if spoken.split("-")[0] != language.split("-")[0]:
        fitting = [r["name"] for r in list_voices() if r["language"].split("-")[0] == language.split("-")[0]]
        hint = f"Voices for {language}: {', '.join(fitting[:8]) or 'none'}."
        raise UsageError(
            f"--voice {spec}: it speaks {spoken}, the text is {language}.", hint=hint, code="other_language"
        )

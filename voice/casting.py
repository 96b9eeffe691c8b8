"""Who speaks whom: speakers of a script and their voices."""

from engine.errors import UsageProblem
from voice.options import MATCH
from voice.voices import default_voice, list_voices, shares_of

EVERYBODY = ""                         # the voice of whom no voice was given


def parse_casting(text):
    """{speaker: spec} of --voice; EVERYBODY is the key of a voice for all.

    text: "af_heart", "Anna=af_heart,Bob=am_adam:0.6+am_michael:0.4", or None.
    Raises UsageProblem for what is no casting, and for a voice that is not known.
    Source: ours.
    """
    casting = {}
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        speaker, equals, spec = (x.strip() for x in part.rpartition("="))
        if equals and (not speaker or not spec):
            raise UsageProblem(f"--voice {text}: '{part}' names no speaker or no voice.", hint="Write NAME=VOICE,NAME=VOICE.", code="bad_voice")
        if speaker in casting:
            whom = f"speaker '{speaker}'" if speaker else "everybody"
            raise UsageProblem(f"--voice {text}: two voices for {whom}.", hint="Write NAME=VOICE,NAME=VOICE.", code="bad_voice")
        if spec != MATCH and not spec.startswith("chatterbox"):
            shares_of(spec)
        casting[speaker] = spec
    return casting


def cast(casting, speakers, language):
    """{speaker: spec} for every speaker: the one given, else the one for everybody, else voices of the language in turn, no two alike while they last.

    casting: of `parse_casting`.  speakers: names, "" among them where lines have none.  language: such as "en-us".
    Raises UsageProblem for a name in the casting that no line has, and for a voice of another language.
    Source: ours.
    """
    strange = [name for name in casting if name != EVERYBODY and name not in speakers]
    if strange:
        known = ", ".join(filter(None, speakers)) or "none is named"
        raise UsageProblem(f"--voice: the script has no speaker '{strange[0]}'.", hint=f"Its speakers: {known}.", code="no_speaker")
    for spec in casting.values():
        check_language(spec, language)
    first = default_voice(language)
    turn = [first, *(r["name"] for r in list_voices() if r["language"] == language and r["at_hand"] and r["backend"] == "kokoro" and r["name"] != first)]
    free = [name for name in turn if name not in casting.values()] or turn
    out, k = {}, 0
    for speaker in speakers:
        spec = casting.get(speaker, casting.get(EVERYBODY))
        if spec is None:
            spec, k = free[k % len(free)], k + 1
        out[speaker] = spec
    return out


def check_language(spec, language):
    """Raises UsageProblem where a voice does not speak a language. spec: voice or mix.  language: such as "fr" or "en-us". Source: ours."""
    if spec == MATCH or spec.startswith("chatterbox"):
        return
    shares = shares_of(spec)
    spoken = next(r["language"] for r in list_voices() if r["name"] == max(shares, key=shares.get))
    if spoken.split("-")[0] != language.split("-")[0]:
        fitting = [r["name"] for r in list_voices() if r["language"].split("-")[0] == language.split("-")[0]]
        hint = f"Voices for {language}: {', '.join(fitting[:8]) or 'none'}."
        raise UsageProblem(f"--voice {spec}: it speaks {spoken}, the text is {language}.", hint=hint, code="other_language")

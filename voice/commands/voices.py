"""`mouthpiece voices`: what can speak here, and how it sounds."""

from dataclasses import dataclass
from pathlib import Path

from engine.command import Command, Outcome, documented
from engine.config import Options, add_flags, option, refuse_idle, resolve
from engine.provenance import marking_flags, marking_of


@dataclass(frozen=True)
class SampleOptions(Options):
    """How a voice is heard. Source: ours."""

    voice: str = option(None, "voice, or a mix such as af_heart:0.6+bf_emma:0.4; the best at hand when not given")
    text: str = option(None, "what it says; a line in the voice's language when not given")
    speed: float = option(1.0, "tempo", low=0.5, high=2.0)
    dictionary: Path = option(None, "TOML or TSV file: words and how they are said")
    seed: int = option(0, "of voices whose speech differs from time to time", low=0)


def add(parser):
    """Adds the arguments of `voices`. Source: ours."""
    parser.add_argument("action", choices=("list", "sample"), help="list them, or hear one: a line -> OUT.wav")
    parser.add_argument("--language", metavar="xx", help="list: only those of a language, such as en, en-gb or es; sample: its usual voice")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.wav", help="sample: where the line goes")
    parser.add_argument("--force", action="store_true", help="replace an output that is there")
    marking_flags(parser)
    add_flags(parser.add_argument_group("sample"), SampleOptions)


def run(args, progress):
    """Outcome of `voices`. Source: ours."""
    if args.action == "list":
        idle = ("output", "force", *SampleOptions.__dataclass_fields__, "no_provenance", "consent", "signing_key", "signing_cert")
        refuse_idle(vars(args), idle, "with voices list", "It belongs to voices sample; leave it out.")
    return listed(args.language) if args.action == "list" else sampled(args, progress)


def listed(language):
    """Outcome of `voices list`.

    language: such as "en" or "en-gb"; None lists all.
    Raises UsageProblem for a language without voice.
    Source: ours.
    """
    from voice.voices import facts, language_code, list_voices

    known = facts()["languages"]
    wanted = [name for name in known if language is None or language.lower() == name.partition("-")[0]] or [language_code(language)]
    rows = [row for row in list_voices() if row["language"] in wanted]
    lines = [f"{'at hand' if r['at_hand'] else 'missing'}  {r['name']:14} {known[r['language']]['name']:21} {r['gender']:7} {r['note']}" for r in rows]
    return Outcome({"voices": rows, "note": facts()["note"]}, "\n".join([*lines, facts()["note"]]))


def sampled(args, progress):
    """Outcome of `voices sample`. Source: ours."""
    import numpy as np

    from engine.errors import UsageProblem
    from engine.files import output_file
    from engine.media import DELIVERY_HZ, delivery_blocks
    from engine.report import sidecar_path
    from engine.sound import Sound, write_sound
    from voice.casting import check_language
    from voice.voices import default_voice, facts, language_code, load_voice, read_aloud

    if args.output is None:
        raise UsageProblem("voices sample: -o is missing.", hint="Give -o OUT.wav.", code="usage")
    options = resolve(SampleOptions, None, vars(args))
    inputs = (options.dictionary,) if options.dictionary else ()
    if options.voice is not None and args.language is not None:
        check_language(options.voice, language_code(args.language))
    output_file(args.output, args.force, inputs, (".wav",))
    output_file(sidecar_path(args.output), args.force, inputs)
    marking = marking_of(args, "voices", inputs)
    voice = load_voice(default_voice(args.language) if options.voice is None else options.voice)
    text = facts()["languages"][voice.language]["sample"] if options.text is None else options.text
    wave, spoken = read_aloud(voice, text, options.speed, options.dictionary, options.seed)
    for note in (note for one in spoken for note in one.notes):
        progress.note(note)
    sound = Sound(np.concatenate(list(delivery_blocks(Sound(wave, voice.rate_hz))), 1), DELIVERY_HZ)
    write_sound(args.output, sound, 24, args.force, inputs)
    told = {"voice": voice.name, "language": voice.language, "timed": voice.timed, "text": text, "duration_s": float(sound.duration),
              "phones": ["".join(one.phones) for one in spoken], "notes": [n for one in spoken for n in one.notes], "unsaid": [w for one in spoken for w in one.unsaid]}  # fmt: skip
    payload = documented(args.output, "voices sample", options, inputs, told, marking)
    return Outcome(payload | {"output": str(args.output), "sidecar": str(sidecar_path(args.output))}, f"{args.output}: {voice.name}, {told['duration_s']:.2f} s")


COMMAND = Command("voices", "voices at hand, and how they sound", add, run)

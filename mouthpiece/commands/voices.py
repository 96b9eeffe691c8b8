"""`mouthpiece voices`: what can speak here, and how it sounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult, add_provenance_flags, finalize_output
from mouthpiece.engine.config import Options, add_flags, option, reject_unused_options, resolve_options
from mouthpiece.engine.provenance.manifest import make_marking

if TYPE_CHECKING:
    import argparse

    from mouthpiece.engine.progress import Progress


@dataclass(frozen=True)
class SampleOptions(Options):
    """How a voice is heard."""

    voice: str = option(None, "voice, or a mix such as af_heart:0.6+bf_emma:0.4; the best at hand when not given")
    text: str = option(None, "what it says; a line in the voice's language when not given")
    speed: float = option(1.0, "tempo", low=0.5, high=2.0)
    dictionary: Path = option(None, "TOML or TSV file: words and how they are said")
    seed: int = option(0, "of voices whose speech differs from time to time", low=0)


def add_arguments(parser) -> None:
    """Adds the arguments of `voices`."""
    parser.add_argument("action", choices=("list", "sample"), help="list them, or hear one: a line -> OUT.wav")
    parser.add_argument(
        "--language",
        metavar="xx",
        help="list: only those of a language, such as en, en-gb or es; sample: its usual voice",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.wav", help="sample: where the line goes")
    parser.add_argument("--force", action="store_true", help="replace an output that is there")
    add_provenance_flags(parser)
    add_flags(parser.add_argument_group("sample"), SampleOptions)


def run(args: argparse.Namespace, progress: Progress) -> CommandResult | None:
    """Outcome of `voices`."""
    if args.action == "list":
        idle = (
            "output",
            "force",
            *SampleOptions.__dataclass_fields__,
            "no_provenance",
            "consent",
            "signing_key",
            "signing_cert",
        )
        reject_unused_options(vars(args), idle, "with voices list", "It belongs to voices sample; leave it out.")
    return run_list(args.language) if args.action == "list" else run_sample(args, progress)


def run_list(language: str) -> CommandResult | None:
    """Outcome of `voices list`.

    language: such as "en" or "en-gb"; None lists all.
    Raises UsageProblem for a language without voice.
    """
    from mouthpiece.voice.backends.registry import list_voices, load_voice_facts, normalize_language

    known = load_voice_facts()["languages"]
    wanted = [name for name in known if language is None or language.lower() == name.partition("-")[0]] or [
        normalize_language(language)
    ]
    voices = [voice for voice in list_voices() if voice.language in wanted]
    lines = [
        f"{'at hand' if v.available else 'missing'}  {v.name:14} {known[v.language]['name']:21} {v.gender:7} {v.note}"
        for v in voices
    ]
    return CommandResult(
        {"voices": [voice.as_dict() for voice in voices], "note": load_voice_facts()["note"]},
        "\n".join([*lines, load_voice_facts()["note"]]),
    )


def run_sample(args: argparse.Namespace, progress: Progress) -> CommandResult | None:
    """Outcome of `voices sample`."""
    import numpy as np

    from mouthpiece.engine.audio.sound import Sound, write_sound
    from mouthpiece.engine.errors import UsageError
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.media.writing import read_delivery_blocks
    from mouthpiece.engine.provenance.sidecar import get_sidecar_path
    from mouthpiece.engine.timeline import DELIVERY_HZ
    from mouthpiece.voice.backends.casting import check_voice_language
    from mouthpiece.voice.backends.registry import (
        get_default_voice,
        load_voice,
        load_voice_facts,
        normalize_language,
        speak_whole_text,
    )

    if args.output is None:
        raise UsageError("voices sample: -o is missing.", hint="Give -o OUT.wav.", code="usage")
    options = resolve_options(SampleOptions, None, vars(args))
    inputs = (options.dictionary,) if options.dictionary else ()
    if options.voice is not None and args.language is not None:
        check_voice_language(options.voice, normalize_language(args.language))
    check_output_file(args.output, args.force, inputs, (".wav",))
    check_output_file(get_sidecar_path(args.output), args.force, inputs)
    marking = make_marking(args, "voices", inputs)
    voice = load_voice(get_default_voice(args.language) if options.voice is None else options.voice)
    text = load_voice_facts()["languages"][voice.language]["sample"] if options.text is None else options.text
    wave, spoken = speak_whole_text(voice, text, options.speed, options.dictionary, options.seed)
    for note in (note for one in spoken for note in one.notes):
        progress.note(note)
    sound = Sound(np.concatenate(list(read_delivery_blocks(Sound(wave, voice.rate_hz))), 1), DELIVERY_HZ)
    write_sound(args.output, sound, 24, args.force, inputs)
    told = {"voice": voice.name, "language": voice.language, "timed": voice.timed, "text": text, "duration_s": float(sound.duration),
              "phones": ["".join(one.phones) for one in spoken], "notes": [n for one in spoken for n in one.notes], "unsaid": [w for one in spoken for w in one.omitted_words]}  # fmt: skip
    payload = finalize_output(args.output, "voices sample", options, inputs, told, marking)
    return CommandResult(
        payload | {"output": str(args.output), "sidecar": str(get_sidecar_path(args.output))},
        f"{args.output}: {voice.name}, {told['duration_s']:.2f} s",
    )


COMMAND = Command("voices", "voices at hand, and how they sound", add_arguments, run)

"""`mouthpiece sound`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.commands.command import Command, CommandResult, add_output_flags, finalize_output
from mouthpiece.engine.config import add_flags, read_preset, reject_unused_options, resolve_options
from mouthpiece.voice.mmaudio.options import SoundOptions

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mouthpiece.engine.progress import Progress
    from mouthpiece.voice.mmaudio.models import MMAudioModels


def add(parser) -> None:
    """Adds the arguments of `sound`."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="video that shall sound")
    add_output_flags(parser, "OUT.mp4|OUT.wav")
    parser.add_argument(
        "--accept-licence",
        action="store_true",
        help="the licences of the public weights were read and are accepted; noted once",
    )
    add_flags(parser.add_argument_group("sound"), SoundOptions)


def run(args: argparse.Namespace, progress: Progress) -> CommandResult | None:
    """Outcome of `sound`."""
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.inputs import check_inputs
    from mouthpiece.engine.provenance.manifest import make_marking
    from mouthpiece.engine.provenance.sidecar import get_sidecar_path

    options = resolve_options(
        SoundOptions, None if args.preset is None else read_preset(args.preset, "sound"), vars(args)
    )
    if options.under_dialogue is None:
        reject_unused_options(
            vars(args), ("dialogue_gap",), "without --under-dialogue", "No dialogue is kept; leave it out."
        )
    if options.guidance <= 1:
        reject_unused_options(
            vars(args),
            ("negative_prompt",),
            f"with --guidance {options.guidance:g}",
            "It has a say above a guidance of 1.",
        )
    check_inputs(media=(args.video,), sounds=(options.under_dialogue,))
    from mouthpiece.engine.device import choose_device
    from mouthpiece.voice.mmaudio.models import accept_licences, check_licences, find_weights, load_models
    from mouthpiece.voice.mmaudio.soundtrack import SUFFIXES, list_outputs, prepare_soundtrack, write_soundtracks

    placement = choose_device(options.device)
    inputs = tuple(path for path in (args.video, options.under_dialogue) if path is not None)
    outputs = list_outputs(args.output, options.takes, options.first_take)
    for output in outputs:
        check_output_file(output, args.force, inputs, SUFFIXES)
        check_output_file(get_sidecar_path(output), args.force, inputs)
    marking = make_marking(args, "sound", inputs)
    if args.accept_licence:
        accept_licences(options.model)
    paths = find_weights(options.model, options.weights)
    told = check_licences(options.model, paths)
    job = prepare_soundtrack(args.video, options, progress)
    for note in job.notes():
        progress.note(note)
    length = f"{float(job.duration):.2f} s"
    if args.dry_run:
        result = {
            "dry_run": True,
            "outputs": [str(output) for output in outputs],
            "settings": options.settings(),
            "facts": job.inspection.as_dict(),
        }
        return CommandResult(result, f"would write {', '.join(map(str, outputs))}: {length}")
    models = load_models(options, placement, paths, told)
    for note in models.notes + check_prompt_lengths(options, models):
        progress.note(note)
    facts = write_soundtracks(job, outputs, models, progress, args.force)
    payloads = []
    for n, (output, own) in enumerate(zip(outputs, facts)):
        report_speech_filter(progress, own)
        marked = marking.of(
            args.video if output.suffix.lower() != ".wav" else None,
            None if output.suffix.lower() == ".wav" else ((0, job.duration),),
        )
        payload = finalize_output(
            output,
            "sound",
            make_take_options(options, own["take"]),
            inputs,
            own | {"placement": placement.as_dict()},
            marked,
        )
        payloads.append(payload | {"output": str(output), "sidecar": str(get_sidecar_path(output))})
    result = payloads[0] | {"takes": payloads[1:]} if len(payloads) > 1 else payloads[0]
    return CommandResult(result, "\n".join(f"{output}: {length}, {options.model}" for output in outputs))


def make_take_options(options: SoundOptions, take: int) -> SoundOptions:
    """Options that make one take alone again."""
    from dataclasses import replace

    return replace(options, takes=1, first_take=take)


def check_prompt_lengths(options: SoundOptions, models: MMAudioModels) -> tuple[str, ...]:
    """A sentence for each prompt of which not every word is heard."""
    notes = []
    for flag, text in (("--prompt", options.prompt), ("--negative-prompt", options.negative_prompt)):
        lost = models.clip.tokens(text)[1]
        if lost:
            room = models.clip.size.text_tokens - 2
            notes.append(
                f"{flag} is too long: its first {room} tokens are heard, the last {lost} are not. Say it shorter."
            )
    return tuple(notes)


def report_speech_filter(progress: Progress, facts: dict[str, Any]) -> None:
    """Says what the guard did to a take."""
    guard = facts["speech_guard"]
    if guard["again"]:
        progress.note(
            f"Take {facts['take']}: speech was heard that nobody asked for; {guard['again']} window(s) were drawn anew."
        )
    if guard["quieter_s"]:
        places = ", ".join(f"{start:.1f}-{stop:.1f} s" for start, stop in guard["quieter_s"][:5])
        progress.note(
            f"Take {facts['take']}: speech was left and is turned down at {places}. Try another --seed, or --speech-guard off."
        )


COMMAND = Command("sound", "silent video -> soundtrack, by public MMAudio weights", add, run)

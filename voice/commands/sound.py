"""`mouthpiece sound`."""

from pathlib import Path

from engine.command import Command, Outcome, documented, output_flags
from engine.config import add_flags, read_preset, refuse_idle, resolve
from voice.mmaudio.options import SoundOptions


def add(parser):
    """Adds the arguments of `sound`. Source: ours."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="video that shall sound")
    output_flags(parser, "OUT.mp4|OUT.wav")
    parser.add_argument("--accept-licence", action="store_true", help="the licences of the public weights were read and are accepted; noted once")
    add_flags(parser.add_argument_group("sound"), SoundOptions)


def run(args, progress):
    """Outcome of `sound`. Source: ours."""
    from engine.files import output_file
    from engine.inputs import look_at
    from engine.provenance import marking_of
    from engine.report import sidecar_path

    options = resolve(SoundOptions, None if args.preset is None else read_preset(args.preset, "sound"), vars(args))
    if options.under_dialogue is None:
        refuse_idle(vars(args), ("dialogue_gap",), "without --under-dialogue", "No dialogue is kept; leave it out.")
    if options.guidance <= 1:
        refuse_idle(vars(args), ("negative_prompt",), f"with --guidance {options.guidance:g}", "It has a say above a guidance of 1.")
    look_at(media=(args.video,), sounds=(options.under_dialogue,))
    from engine.device import choose_device
    from voice.mmaudio.models import accept, find, licences, load_models
    from voice.mmaudio.soundtrack import SUFFIXES, make_sound, outputs_of, prepare

    placement = choose_device(options.device)
    inputs = tuple(path for path in (args.video, options.under_dialogue) if path is not None)
    outputs = outputs_of(args.output, options.takes, options.first_take)
    for output in outputs:
        output_file(output, args.force, inputs, SUFFIXES)
        output_file(sidecar_path(output), args.force, inputs)
    marking = marking_of(args, "sound", inputs)
    if args.accept_licence:
        accept(options.model)
    paths = find(options.model, options.weights)
    told = licences(options.model, paths)
    job = prepare(args.video, options, progress)
    for note in job.notes():
        progress.note(note)
    length = f"{float(job.duration):.2f} s"
    if args.dry_run:
        result = {"dry_run": True, "outputs": [str(output) for output in outputs], "settings": options.settings(), "facts": job.survey.as_dict()}
        return Outcome(result, f"would write {', '.join(map(str, outputs))}: {length}")
    models = load_models(options, placement, paths, told)
    for note in models.notes + too_long(options, models):
        progress.note(note)
    facts = make_sound(job, outputs, models, progress, args.force)
    payloads = []
    for n, (output, own) in enumerate(zip(outputs, facts)):
        progress_of_guard(progress, own)
        marked = marking.of(args.video if output.suffix.lower() != ".wav" else None, None if output.suffix.lower() == ".wav" else ((0, job.duration),))
        payload = documented(output, "sound", own_options(options, own["take"]), inputs, own | {"placement": placement.as_dict()}, marked)
        payloads.append(payload | {"output": str(output), "sidecar": str(sidecar_path(output))})
    result = payloads[0] | {"takes": payloads[1:]} if len(payloads) > 1 else payloads[0]
    return Outcome(result, "\n".join(f"{output}: {length}, {options.model}" for output in outputs))


def own_options(options, take):
    """Options that make one take alone again. Source: ours."""
    from dataclasses import replace

    return replace(options, takes=1, first_take=take)


def too_long(options, models):
    """A sentence for each prompt of which not every word is heard. Source: ours."""
    notes = []
    for flag, text in (("--prompt", options.prompt), ("--negative-prompt", options.negative_prompt)):
        lost = models.clip.tokens(text)[1]
        if lost:
            room = models.clip.size.text_tokens - 2
            notes.append(f"{flag} is too long: its first {room} tokens are heard, the last {lost} are not. Say it shorter.")
    return tuple(notes)


def progress_of_guard(progress, facts):
    """Says what the guard did to a take. Source: ours."""
    guard = facts["speech_guard"]
    if guard["again"]:
        progress.note(f"Take {facts['take']}: speech was heard that nobody asked for; {guard['again']} window(s) were drawn anew.")
    if guard["quieter_s"]:
        places = ", ".join(f"{start:.1f}-{stop:.1f} s" for start, stop in guard["quieter_s"][:5])
        progress.note(f"Take {facts['take']}: speech was left and is turned down at {places}. Try another --seed, or --speech-guard off.")


COMMAND = Command("sound", "silent video -> soundtrack, by public MMAudio weights", add, run)

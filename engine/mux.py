"""Finished outputs assembled in constant memory: a picture copied bit by bit with new sound beside it, or sound alone."""

import os
from contextlib import contextmanager

import numpy as np
import soundfile

from engine.errors import Refused, UsageProblem
from engine.files import output_file, part_path, replacing, write_problem
from engine.film import lasting
from engine.media import BROKEN, VIDEO_SUFFIXES, audio_frame, created, delivery_blocks, opened
from engine.streams import delivery_stream, film
from engine.timeline import DELIVERY_HZ, nearest, samples_at

_LARGEST_WAV_BYTES = 4_000_000_000  # a WAV header counts bytes in 32 bits; beyond it RF64 is the same file with a wider count


def copy_with_sound(video, output, sound, overwrite=False, inputs=(), duration=None, *, channels=None):
    """Writes OUTPUT: the packets of the video's picture as they are, and the sound as its only sound.

    video: path with a moving picture; its sound and subtitles are left out.
    output: path ending in one of media.VIDEO_SUFFIXES.
    sound: Path (streamed) or Sound; becomes AAC at 48 kHz; sample 0 is at the first frame.
    overwrite, inputs: as for files.output_file.
    duration: Fraction, seconds; the sound is cut or continued by silence to it. None: it is as long as it is.
    channels: 2 mixes more of them down; None keeps those that the sound has.
    Gives the number of packets copied.
    Raises UsageProblem for the name, Refused for no picture or one that the container cannot hold, WriteFailed for the disk.
    Source: ours.
    """
    target = output_file(output, overwrite, (video, *inputs), VIDEO_SUFFIXES)
    part = part_path(target)
    try:
        blocks = delivery_blocks(sound, channels)
        if duration is not None:
            blocks = lasting(blocks, samples_at(duration, DELIVERY_HZ))
        with opened(video, "video") as source:
            packets = _copied(source, video, part, target, blocks)
        os.replace(part, target)
    except OSError as error:
        raise write_problem(target, error) from error
    finally:
        part.unlink(missing_ok=True)
    return packets


def _copied(source, video, part, target, blocks):
    picture = film(source)
    if picture is None:
        raise Refused(f"{video}: no moving picture in it.", hint="Give a video.", code="no_video")
    with created(part) as container:
        copy, first, packets = _twin(container, picture, target), next(blocks), 0
        writer = _SoundWriter(container, first, blocks)
        start = picture.start_time or 0
        try:
            container.start_encoding()
        except BROKEN as error:
            raise _unfit(picture, target) from error
        for packet in _stamped(source, picture):
            packet.pts, packet.dts = (None if stamp is None else stamp - start for stamp in (packet.pts, packet.dts))
            writer.write(until=samples_at(max(0, packet.dts) * packet.time_base, DELIVERY_HZ))
            packet.stream = copy
            container.mux(packet)
            packets += 1
        writer.finish()
    return packets


def _stamped(source, picture):
    """The packets of a stream, each with a decoding stamp; containers that leave the first ones out mean one step each."""
    held = []
    for packet in source.demux(picture):
        if packet.size == 0:  # says that there are no more
            continue
        held.append(packet)
        if packet.dts is not None:
            yield from _back_from(held, picture)
            held = []
    for packet in held:  # not one stamp in the file: nothing is reordered
        packet.dts = packet.pts
        yield packet


def _back_from(packets, picture):
    last, step = packets[-1].dts, max(1, nearest(1 / (picture.average_rate * picture.time_base))) if picture.average_rate else 1
    for before, packet in zip(range(len(packets) - 1, -1, -1), packets):
        packet.dts = last - before * step
        yield packet


def _twin(container, picture, target):
    try:
        copy = container.add_stream_from_template(picture, opaque=True)
        if picture.average_rate:                 # Matroska says it, readers believe it; without it they guess from the coded picture
            copy.codec_context.framerate = picture.average_rate
        return copy
    except BROKEN as error:
        raise _unfit(picture, target) from error


def _unfit(picture, target):
    return Refused(
        f"{target}: a picture coded as {picture.codec_context.name} cannot be stored in a {target.suffix} file.",
        hint="Try a name ending in .mkv or .mov, or convert the video to H.264 first.",
        code="codec_container",
    )


class _SoundWriter:
    """The sound stream of a container, written as far as the picture is."""

    def __init__(self, container, first, rest):
        self.container, self.next, self.rest, self.samples = container, first, rest, 0
        self.stream = delivery_stream(container, first.shape[0])

    def write(self, until=None):
        """Encodes blocks that begin before a sample number; None encodes all."""
        while self.next is not None and (until is None or self.samples < until):
            block, self.next = self.next, next(self.rest, None)
            self.container.mux(self.stream.encode(audio_frame(block, DELIVERY_HZ, self.samples)))
            self.samples += block.shape[1]

    def finish(self):
        """Encodes what is left."""
        self.write()
        self.container.mux(self.stream.encode(None))


@contextmanager
def wave_writer(path, rate_hz, channels, *, samples=0, subtype="PCM_16", overwrite=False, inputs=()):
    """A context that gives a callable write(block), and a .wav file under its name on a clean end.

    path: str or Path ending in .wav.
    rate_hz, channels: of the blocks, which are (C, S) float32; what lies outside [-1, 1] is limited to it.
    samples: how many are expected; beyond 4 GB the header becomes RF64.
    subtype: soundfile's: PCM_16, PCM_24 or FLOAT.
    overwrite, inputs: as for files.output_file.
    Raises UsageProblem for another ending or an output in the way; WriteFailed for the disk.
    Source: ours; EBU Tech 3306 for RF64.
    """
    if not str(path).lower().endswith(".wav"):
        raise UsageProblem(f"{path}: sound is written as .wav.", hint="Give a name ending in .wav.", code="output_suffix")
    width_bytes = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}[subtype]
    kind = "RF64" if samples * channels * width_bytes > _LARGEST_WAV_BYTES else "WAV"
    with replacing(path, overwrite, inputs) as part:
        try:
            with soundfile.SoundFile(part, "w", rate_hz, channels, subtype, format=kind) as file:
                yield lambda block: file.write(np.clip(block.T, -1, 1))
        except soundfile.LibsndfileError as error:
            raise OSError(None, str(error)) from error

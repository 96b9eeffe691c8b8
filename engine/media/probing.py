"""Open media files and read what they hold, from their headers and first frames.

Time zero is the first frame of the picture (or the first sample when there is no picture), for both streams.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.files import check_input_file
from mouthpiece.engine.media.containers import list_video_names
from mouthpiece.engine.media.streams import (
    find_audio_stream,
    find_video_stream,
    get_time_base,
    has_variable_rate,
    make_undecodable_error,
    read_picture_facts,
    read_sound_facts,
)
from mouthpiece.engine.types import MediaInfo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from av.container import InputContainer
    from av.video.stream import VideoStream

READ_ERRORS = (av.FFmpegError, EOFError, ValueError)  # what reading a broken file may raise
_MAX_SCANNED_FRAMES = 500  # frames whose time stamps tell a variable rate


@contextmanager
def open_input(path: str | Path, kind: str) -> Iterator[InputContainer]:
    """Open an input for reading, as a context.

    path: file, any container.  kind: what a person would call it, for the error: "recording", "video".
    Raises InvalidInputError for what is not media.
    """
    path = check_input_file(path, kind)
    try:
        # "file:" and the list keep playlists from reaching for anything but files
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except READ_ERRORS as error:
        message = f"{path}: no sound and no picture can be read from it; it is not a {kind}, or it is cut off."
        *names, last = list_video_names()
        hint = f"Give a complete media file, such as WAV, FLAC, MP3, {', '.join(names)} or {last}."
        raise InvalidInputError(message, hint=hint, code="not_media") from error
    with container:
        yield container


def probe(path: str | Path) -> MediaInfo:
    """Probe a media file: its streams, sizes, rates and codecs, from its header and its first frames.

    path: any container.
    Raises InvalidInputError for what is not media, or has neither sound nor moving picture.
    """
    with open_input(path, "media file") as container:
        video = find_video_stream(container)
        audio = find_audio_stream(container)
        main = video or audio
        if main is None:
            raise InvalidInputError(
                f"{path}: neither sound nor moving picture in it.", hint="Give a recording or a video."
            )
        facts: dict[str, Any] = {"path": Path(path), "has_video": video is not None, "has_audio": audio is not None}
        if main.duration is not None:
            facts["duration"] = main.duration * get_time_base(main)
        elif container.duration is not None:
            facts["duration"] = Fraction(container.duration, av.time_base)
        if audio is not None:
            facts |= read_sound_facts(audio)
        if video is not None:
            frame, stamps = _scan_frames(container, video)
            if frame is None:
                raise make_undecodable_error(path)
            facts |= read_picture_facts(video, frame, has_variable_rate(stamps, get_time_base(video)))
        return MediaInfo(**facts)


def _scan_frames(container: InputContainer, stream: VideoStream) -> tuple[av.VideoFrame | None, list[int]]:
    """Scan the first frames: (the first that decodes or None, time stamps in stream units)."""
    first, stamps = None, []
    with suppress(*READ_ERRORS):
        for packet in container.demux(stream):
            if packet.pts is not None:
                stamps.append(packet.pts)
            if first is None:
                with suppress(*READ_ERRORS):
                    first = next(iter(packet.decode()), None)
            elif len(stamps) >= _MAX_SCANNED_FRAMES:
                break
    return first, stamps

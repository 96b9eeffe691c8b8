"""Carry over what a film holds beside its picture and the sound that is replaced, and name what is lost.

Further sound, subtitles, chapters, attachments and tags are copied as they are where the new container can hold them.
"""

from __future__ import annotations

import io
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
from av.stream import Disposition

from mouthpiece.engine.media.containers import get_output_format, list_roomy_suffixes
from mouthpiece.engine.media.languages import get_iso639_code
from mouthpiece.engine.media.probing import READ_ERRORS, open_input, probe
from mouthpiece.engine.media.streams import find_video_stream, get_time_origin, is_cover_art

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction
    from typing import Any

    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

_COPIED_TYPES = ("audio", "subtitle")
_KINDS = {"audio": "sound track", "subtitle": "subtitles", "attachment": "attachment", "data": "data track"}
# tags that describe the file, not the film
_FILE_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "creation_time", "duration", "timecode")
_STREAM_TAGS = ("language", "title")
_DEFAULT = 1  # disposition of the track that a player takes unasked
_NO_LANGUAGE = ("", "und")


class Companions:
    """Copy the companions of a film's picture into the container that is written.

    film: from which they are taken.  container: opened for writing, with all streams of its own.
    sound: its new sound, which stays the one that players choose; None where it has none.
    target: name of the file, which says the container.
    language: of the new sound, "fr" or "pt-BR"; stands in the file where the film says one of its own sound.
    """

    def __init__(
        self, film: Path, container: OutputContainer, sound: Stream | None, target: Path, language: str | None = None
    ) -> None:
        self._container, self._stack = container, ExitStack()
        self._copies: dict[int, Stream] = {}  # by the index in the film
        self._last: dict[int, int] = {}  # decoding time of the last packet of each
        try:
            source = self._stack.enter_context(open_input(film, "video"))
            picture = find_video_stream(source)
            main = cast("VideoStream | AudioStream", picture or source.streams.best("audio"))
            self._zero: Fraction = get_time_origin(source, main)
            self._copy_headers(source, target)
            if sound is not None and any(copy.type == "audio" for copy in self._copies.values()):
                sound.disposition = Disposition(_DEFAULT)
            code = None if language is None else get_iso639_code(language)
            if sound is not None and code is not None and _get_language(source) not in _NO_LANGUAGE:
                sound.metadata["language"] = code
            chosen = [stream for stream in source.streams if stream.index in self._copies]
            self._packets: Iterator[av.Packet] = iter(source.demux(chosen)) if chosen else iter(())
            self._next = self._read_next()
        except BaseException:
            self._stack.close()
            raise

    def _copy_headers(self, source: InputContainer, target: Path) -> None:
        """Add streams, attachments, chapters and tags to the container."""
        muxer = get_output_format(target).muxer
        for stream in _list_companions(source):
            if stream.type == "attachment" and muxer == "matroska":
                file = cast("Any", stream)  # an AttachmentStream, which PyAV does not export
                self._container.add_attachment(file.name or "", file.mimetype or "", file.data or b"")
            elif stream.type in _COPIED_TYPES and _can_hold(muxer, stream):
                copy = self._container.add_stream_from_template(stream, opaque=True)
                copy.metadata.update({name: stream.metadata[name] for name in _STREAM_TAGS if name in stream.metadata})
                copy.disposition = Disposition(int(stream.disposition) & ~_DEFAULT)
                self._copies[stream.index] = copy
        chapters = [chapter for chapter in map(self._shift_chapter, source.chapters()) if chapter["end"] > 0]
        if chapters:
            self._container.set_chapters(chapters)
        self._container.metadata.update(_get_tags(source))

    def _shift_chapter(self, chapter: Any) -> Any:
        """Shift a chapter to the clock of the film, whose time zero is its first frame."""
        shift = round(self._zero / chapter["time_base"])
        return chapter | {"start": max(0, chapter["start"] - shift), "end": chapter["end"] - shift}

    def _read_next(self) -> av.Packet | None:
        """Read the next packet that can be written; None where there are no more, or the file breaks off."""
        try:
            for packet in self._packets:
                if packet.size == 0 or packet.pts is None:
                    continue
                shift = round(self._zero / packet.time_base)
                packet.pts -= shift
                packet.dts = packet.pts if packet.dts is None else packet.dts - shift
                last, number = self._last.get(packet.stream_index), packet.stream_index
                rising = last is None or packet.dts > last or (packet.stream.type == "subtitle" and packet.dts == last)
                if packet.pts >= 0 and packet.dts >= 0 and rising:
                    self._last[number] = packet.dts
                    return packet
        except READ_ERRORS:
            pass
        return None

    def write(self, until: Fraction | None = None) -> None:
        """Write the packets before a time in seconds; None writes all."""
        while self._next is not None:
            start = cast("int", self._next.dts) * cast("Fraction", self._next.time_base)
            if until is not None and start >= until:
                return
            packet = self._next
            packet.stream = self._copies[packet.stream_index]
            self._container.mux(packet)
            self._next = self._read_next()

    def close(self) -> None:
        """Close the film."""
        self._stack.close()


def _list_companions(source: InputContainer) -> list[Stream]:
    """List the streams beside the picture and the sound that is replaced."""
    picture, sound = find_video_stream(source), source.streams.best("audio")
    kept = {stream.index for stream in (picture, sound) if stream is not None}
    return [stream for stream in source.streams if stream.index not in kept]


def _can_hold(muxer: str, stream: Stream) -> bool:
    """Return whether a kind of container takes a stream as it is; tried, for FFmpeg's tables say too much."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except READ_ERRORS:
        return False
    return True


def _get_tags(source: InputContainer) -> dict[str, str]:
    """Get the tags of a film as a whole: title, artist, comment and so on."""
    return {name: value for name, value in source.metadata.items() if name.casefold() not in _FILE_TAGS}


def list_losses(film: str | Path, output: str | Path) -> list[str]:
    """List what a film holds and the video made from it does not, as sentences; found by comparing the two files.

    The sound itself is left out: it is replaced. Its language counts, where the new one has none.
    """
    with open_input(film, "video") as old, open_input(output, "video") as new:
        lost = _list_lost_tracks(old, new)
        missing = len(old.chapters()) - len(new.chapters())
        if missing > 0:
            lost.append(f"{missing} {'chapter' if missing == 1 else 'chapters'}")
        kept = {name.casefold() for name in new.metadata}
        lost += [f"the tag {name}" for name in _get_tags(old) if name.casefold() not in kept]
        roomy = Path(output).suffix.lower() in list_roomy_suffixes()
        hint = f"; a {' or '.join(list_roomy_suffixes())} file holds more" if lost and not roomy else ""
        language = _get_language(old)
        if language not in _NO_LANGUAGE and _get_language(new) in _NO_LANGUAGE:
            lost.append(f"the language of its sound ({language})")
    dynamic, written = probe(film).dynamic_metadata, probe(output).dynamic_metadata
    lost += [name for name in dynamic if name not in written]
    return [f"not carried over from the film: {', '.join(lost)}{hint}"] if lost else []


def _list_lost_tracks(old: InputContainer, new: InputContainer) -> list[str]:
    """List the companions, and their tags, that one file has and another does not, in words; both in the same order."""
    lost, others = [], _list_companions(new)
    for stream in _list_companions(old):
        if stream.type == "data" and old.chapters():
            continue  # the track in which MP4 keeps chapters
        key = stream.type, _get_codec_name(stream)
        copy = next((other for other in others if (other.type, _get_codec_name(other)) == key), None)
        if copy is None:
            lost.append(_describe(stream))
            continue
        others.remove(copy)
        for name in _STREAM_TAGS:
            value = stream.metadata.get(name, "")
            if value not in _NO_LANGUAGE and copy.metadata.get(name, "") in _NO_LANGUAGE:
                lost.append(f"the {name} of a {_KINDS.get(stream.type, stream.type)} ({value})")
    return lost


def _get_codec_name(stream: Stream) -> str:
    """Get FFmpeg's name of a stream's codec, of an attachment the name of its file."""
    if stream.type == "attachment":
        return stream.name or ""
    return stream.codec_context.name if stream.codec_context is not None else ""


def _get_language(source: InputContainer) -> str:
    """Get the language of a file's sound; "" where it has none."""
    sound = source.streams.best("audio")
    return "" if sound is None else sound.metadata.get("language", "")


def _describe(stream: Stream) -> str:
    """Describe a companion in words, such as "sound track (aac, deu, Commentary)"."""
    kind = "cover picture" if is_cover_art(stream) else _KINDS.get(stream.type, f"{stream.type} track")
    tags = [_get_codec_name(stream), *(stream.metadata.get(name, "") for name in _STREAM_TAGS)]
    words = [tag for tag in tags if tag not in _NO_LANGUAGE]
    return f"{kind} ({', '.join(words)})" if words else kind

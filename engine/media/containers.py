"""Describe the media containers, one row each: suffixes, multiplexer, codecs, C2PA type.

Every other table of formats derives from this one. A new container is a new row of CONTAINERS, with codecs of its own
where it cannot hold those that are here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mouthpiece.engine.types import MediaInfo

TOP_FIELD_FIRST = (2, 5)  # FFmpeg's numbers of the orders of fields that show the top one first; 3 and 4 the bottom one


@dataclass(frozen=True)
class VideoCodec:
    """How pictures are encoded.

    name: for people.  encoder: FFmpeg's name of the encoder.
    options: settings of the encoder, whatever the quality.
    quality_option: setting that takes the constant rate factor (crf).
    lossless_options: settings that take its place for a lossless stream.
    reorder_frames: frames by which a packet may be decoded before its frame is shown, because of B-frames.
    max_bits: bits of a component of the deepest pixel format, 8 or 10.
    full_range_formats: whether the encoder knows the pixel formats of full range by their own names ("yuvj420p").
    slice_threads: threads of the encoder, each with a slice of the picture; fixed, because the bits depend on it.
    interlaced: whether it codes interlaced pictures as such.
    film_option: setting that takes the order of fields and HDR10's metadata by x264's names, or None.
    """

    name: str
    encoder: str
    options: Mapping[str, str]
    quality_option: str
    lossless_options: Mapping[str, str]
    reorder_frames: int
    max_bits: int
    full_range_formats: bool
    slice_threads: int = 1
    interlaced: bool = False
    film_option: str | None = None

    def make_options(self, crf: int) -> dict[str, str]:
        """Make the encoder's settings for a constant rate factor, in the encoder's own scale, less is better."""
        return {self.quality_option: str(crf), **self.options}

    def make_lossless_options(self) -> dict[str, str]:
        """Make the encoder's settings for a lossless stream."""
        return {**self.lossless_options, **self.options}

    def make_film_options(self, info: MediaInfo) -> dict[str, str]:
        """Make the settings that write a film's order of fields and HDR10 metadata, beside those of the same names."""
        if self.film_option is None:
            return {}
        settings = []
        if info.field_order:
            settings.append("tff=1" if info.field_order in TOP_FIELD_FIRST else "bff=1")
        if info.hdr.mastering_display is not None:
            display = "G({},{})B({},{})R({},{})WP({},{})L({},{})".format(*info.hdr.mastering_display)
            settings.append(f"mastering-display={display}")
        if info.hdr.light_level is not None:
            settings.append("cll={},{}".format(*info.hdr.light_level))
        others = [self.options[self.film_option]] if self.film_option in self.options else []
        return {self.film_option: ":".join([*others, *settings])} if settings else {}


@dataclass(frozen=True)
class AudioCodec:
    """How sound is encoded.

    name: for people.  encoder: FFmpeg's name of the encoder.
    base_bits_per_s, channel_bits_per_s: bit rate of a stream, and what each of its channels adds to it.
    """

    name: str
    encoder: str
    base_bits_per_s: int
    channel_bits_per_s: int

    def compute_bit_rate(self, channels: int) -> int:
        """Compute the bit rate of a stream, bits a second."""
        return self.base_bits_per_s + channels * self.channel_bits_per_s


@dataclass(frozen=True)
class OutputFormat:
    """How a container is written.

    muxer: FFmpeg's name of what writes it.  muxer_options: FFmpeg's settings of that.
    video_codec, audio_codec: of picture and sound.
    """

    muxer: str
    video_codec: VideoCodec
    audio_codec: AudioCodec
    muxer_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Container:
    """One kind of media file.

    suffixes: endings of its names, in lower case.
    demuxer: FFmpeg's name of what reads it, which FFmpeg finds from the file's first bytes; None for still pictures.
    output: how it is written; None for a container that is only read.
    holds_any_codec: whether a picture stream of nearly any codec can be copied into it.
    holds_all_tracks: whether sound, subtitles and attachments of nearly any kind can be copied into it.
    exact_duration: whether the header says exactly how long the sound is; others estimate.
    decoding_times: whether its time stamps say when packets are decoded, not when their frames are shown.
    c2pa_type: media type under which C2PA embeds a manifest; None for a container that cannot carry one inside.
    """

    suffixes: tuple[str, ...]
    demuxer: str | None
    output: OutputFormat | None = None
    holds_any_codec: bool = False
    holds_all_tracks: bool = False
    exact_duration: bool = False
    decoding_times: bool = False
    c2pa_type: str | None = None


H264 = VideoCodec(
    name="H.264",
    encoder="libx264",
    # x264's macroblock tree reads past its rows (AVX-512): the same frames then make other files from run to run
    options={"preset": "fast", "x264-params": "no-mbtree=1"},
    quality_option="crf",
    lossless_options={"qp": "0"},  # crf 0 of 10 bits is not lossless
    reorder_frames=2,
    max_bits=10,
    full_range_formats=True,
    slice_threads=2,
    interlaced=True,
    film_option="x264-params",
)
AAC = AudioCodec(name="AAC", encoder="aac", base_bits_per_s=96_000, channel_bits_per_s=96_000)

_ISO_MEDIA = "mov,mp4,m4a,3gp,3g2,mj2"  # FFmpeg reads all ISO base media files by one demuxer
_INDEX_FIRST = {"movflags": "+faststart"}  # players can begin before the whole file is there
_NO_RANDOM_NUMBER = {"fflags": "+bitexact"}  # Matroska's writer numbers file and tracks at random otherwise

CONTAINERS: tuple[Container, ...] = (
    Container(
        suffixes=(".mp4",),
        demuxer=_ISO_MEDIA,
        output=OutputFormat("mp4", H264, AAC, _INDEX_FIRST),
        exact_duration=True,
        c2pa_type="video/mp4",
    ),
    Container(
        suffixes=(".mov",),
        demuxer=_ISO_MEDIA,
        output=OutputFormat("mov", H264, AAC, _INDEX_FIRST),
        holds_any_codec=True,
        exact_duration=True,
        c2pa_type="video/quicktime",
    ),
    Container(
        suffixes=(".mkv",),
        demuxer="matroska,webm",
        output=OutputFormat("matroska", H264, AAC, _NO_RANDOM_NUMBER),
        holds_any_codec=True,
        holds_all_tracks=True,
    ),
    Container(suffixes=(".m4v",), demuxer=_ISO_MEDIA, exact_duration=True, c2pa_type="video/mp4"),
    Container(suffixes=(".m4a",), demuxer=_ISO_MEDIA, exact_duration=True, c2pa_type="audio/mp4"),
    Container(suffixes=(".avi",), demuxer="avi", decoding_times=True, c2pa_type="video/avi"),
    Container(suffixes=(".wmv", ".asf"), demuxer="asf", decoding_times=True),
    Container(suffixes=(".m2v",), demuxer="mpegvideo", decoding_times=True),
    Container(suffixes=(".wav",), demuxer="wav", exact_duration=True, c2pa_type="audio/wav"),
    Container(suffixes=(".mp3",), demuxer="mp3", c2pa_type="audio/mpeg"),
    Container(suffixes=(".flac",), demuxer="flac", exact_duration=True, c2pa_type="audio/flac"),
    Container(suffixes=(".aiff", ".aif"), demuxer="aiff", exact_duration=True),
    Container(suffixes=(".w64",), demuxer="w64", exact_duration=True),
    Container(suffixes=(".png",), demuxer=None, c2pa_type="image/png"),
    Container(suffixes=(".jpg", ".jpeg"), demuxer=None, c2pa_type="image/jpeg"),
    Container(suffixes=(".webp",), demuxer=None, c2pa_type="image/webp"),
)


def find_container(path: str | Path) -> Container | None:
    """Find the container that a file's name stands for; None for a suffix that the table does not have."""
    suffix = Path(path).suffix.lower()
    return next((row for row in CONTAINERS if suffix in row.suffixes), None)


def get_output_format(path: str | Path) -> OutputFormat:
    """Get how a film of this name is written. Raises UsageError for a suffix that is not in list_video_suffixes()."""
    container = find_container(path)
    if container is None or container.output is None:
        hint = f"Use one of {' '.join(list_video_suffixes())}."
        raise UsageError(f"{path}: cannot be written as '{Path(path).suffix}'.", hint=hint, code="output_suffix")
    return container.output


def list_video_suffixes() -> tuple[str, ...]:
    """List the endings of the films that can be written."""
    return tuple(suffix for row in CONTAINERS if row.output is not None for suffix in row.suffixes)


def list_roomy_suffixes() -> tuple[str, ...]:
    """List the endings of the films that hold most kinds of tracks as they are."""
    return tuple(
        suffix for row in CONTAINERS if row.output is not None and row.holds_all_tracks for suffix in row.suffixes
    )


def list_video_names() -> list[str]:
    """List the films that can be written as sentences name them, such as "MP4"."""
    return [suffix.removeprefix(".").upper() for suffix in list_video_suffixes()]


def get_c2pa_type(path: str | Path) -> str | None:
    """Get the media type under which C2PA embeds a manifest in a file of this name; None where it cannot."""
    container = find_container(path)
    return None if container is None else container.c2pa_type


def has_exact_duration(demuxer: str) -> bool:
    """Return whether headers of a kind of file say exactly how long the sound is.

    demuxer: FFmpeg's name, as an opened file has it.
    """
    return any(row.exact_duration and row.demuxer == demuxer for row in CONTAINERS)


def has_decoding_times(demuxer: str) -> bool:
    """Return whether a kind of file stores the times of decoding alone. demuxer: as for has_exact_duration."""
    return any(row.decoding_times and row.demuxer == demuxer for row in CONTAINERS)


VIDEO_SUFFIXES = list_video_suffixes()

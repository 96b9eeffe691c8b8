"""What a film holds beside picture and sound is carried over as it is, at its time; what is lost is named."""

from fractions import Fraction

import av
import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.companions import list_losses
from mouthpiece.engine.media.languages import get_iso639_code
from mouthpiece.engine.media.mux import copy_with_sound
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.media.rewrite import VideoRewriter

FRAMES, RATE = 50, 25
CHAPTERS = [("Hello", 0, 1000), ("Goodbye", 1000, 2000)]
TEXTS = [(200, b"Is it late?"), (1200, b"It is.")]
FONT = b"\0\1\0\0font"
TAGS = {"title": "Interview", "artist": "Studio Nine"}


def tone_packets(stream, hz):
    for start in range(0, 96_000, 1024):
        wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(start, start + 1024) / 48_000)
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def write_film(path, *, late_ms=0, extras=True):
    """A film with two sound tracks, subtitles, an attachment, chapters and tags; picture and all begin late."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sounds = [container.add_stream("aac", rate=48_000, layout="mono") for _ in range(2 if extras else 1)]
        sounds[0].disposition, packets = 1, []
        if extras:
            sounds[0].metadata.update({"language": "eng"})
            sounds[1].metadata.update({"language": "deu", "title": "Commentary"})
            subtitles = container.add_mux_stream("subrip")
            subtitles.metadata.update({"language": "eng"})
            container.add_attachment("sans.ttf", "font/ttf", FONT)
            unit = Fraction(1, 1000)
            container.set_chapters([
                {"id": 1, "start": start + late_ms, "end": end + late_ms, "time_base": unit,
                 "metadata": {"title": name}}
                for name, start, end in CHAPTERS
            ])  # fmt: skip
            container.metadata.update(TAGS)
            for stamp, text in TEXTS:
                packet = av.Packet(text)
                packet.stream, packet.time_base, packet.duration = subtitles, unit, 500
                packet.pts = packet.dts = stamp + late_ms
                packets.append(packet)
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * index, np.uint8), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = index * 40 + late_ms, Fraction(1, 1000)
            packets += video.encode(frame)
        packets += video.encode(None)
        for sound, hz in zip(sounds, (300, 3000)):
            packets += tone_packets(sound, hz)
        for packet in packets:
            container.mux(packet)
    return path


def copy(source, target, **options):
    copy_with_sound(source, target, Sound(np.zeros((1, 96_000), np.float32), 48_000), **options)
    return target


def rewrite(source, target, **options):
    sound = Sound(np.zeros((1, 96_000), np.float32), 48_000)
    with VideoReader(source) as reader:
        with VideoRewriter(target, reader.info, sound, Fraction(FRAMES, RATE), **options) as writer:
            for _, time, frame in reader.read_native_frames():
                writer.write(frame, time)
    return target


def describe(path):
    """Tracks as (type, language, disposition), texts with their times in ms, chapters, tags, attachments."""
    with av.open(str(path)) as container:
        tracks = [(s.type, s.metadata.get("language"), int(s.disposition)) for s in container.streams]
        texts = [
            (round(1000 * packet.pts * packet.time_base), bytes(packet))
            for stream in container.streams.subtitles
            for packet in container.demux(stream)
            if packet.size
        ]
        files = [(s.name, s.data) for s in container.streams if s.type == "attachment"]
        chapters = [
            (c["metadata"]["title"], *(round(1000 * c[side] * c["time_base"]) for side in ("start", "end")))
            for c in container.chapters()
        ]
        return tracks, texts, chapters, {name.lower(): value for name, value in container.metadata.items()}, files


def measure_pitch(path, number):
    """The pitch in Hz of a sound track between 0.5 and 1.5 s."""
    with av.open(str(path)) as container:
        wave = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=number)])[24_000:72_000]
    return int(np.abs(np.fft.rfft(wave)).argmax())


@pytest.mark.parametrize("write", [copy, rewrite])
@pytest.mark.parametrize("late_ms", [0, 400])
def test_matroska_takes_everything_at_its_time(tmp_path, write, late_ms):
    source = write_film(tmp_path / "a.mkv", late_ms=late_ms)
    target = write(source, tmp_path / "b.mkv", language="fr-CA")
    tracks, texts, chapters, tags, files = describe(target)
    assert [track[:2] for track in tracks if track[0] != "video"] == [
        ("audio", "fra"), ("audio", "deu"), ("subtitle", "eng"), ("attachment", None),
    ]  # fmt: skip
    assert [disposition & 1 for kind, _, disposition in tracks if kind == "audio"] == [1, 0]
    assert (texts, chapters, files) == (TEXTS, CHAPTERS, [("sans.ttf", FONT)])
    assert TAGS.items() <= tags.items()
    assert measure_pitch(target, 1) == 3000
    assert list_losses(source, target) == []
    with VideoReader(target) as reader:
        assert [frame.time for frame in reader][:3] == [0, Fraction(1, 25), Fraction(2, 25)]


@pytest.mark.parametrize("write", [copy, rewrite])
def test_what_mp4_cannot_hold_is_named_and_the_rest_is_there(tmp_path, write):
    source = write_film(tmp_path / "a.mkv")
    target = write(source, tmp_path / "b.mp4")
    tracks, texts, chapters, tags, files = describe(target)
    assert [track[:2] for track in tracks if track[0] == "audio"] == [("audio", "und"), ("audio", "deu")]
    assert measure_pitch(target, 1) == 3000
    assert (texts, chapters, files) == ([], CHAPTERS, [])
    assert TAGS.items() <= tags.items()
    (note,) = list_losses(source, target)
    for words in ("subtitles (", "attachment (sans.ttf)", "Commentary", "language of its sound (eng)", ".mkv"):
        assert words in note
    assert "chapter" not in note and "title" not in note.replace("title of a sound track", "").replace("subtitle", "")


@pytest.mark.parametrize("write", [copy, rewrite])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_a_film_without_companions_gets_none_and_no_language(tmp_path, write, suffix):
    source = write_film(tmp_path / "a.mkv", extras=False)
    target = write(source, tmp_path / f"b{suffix}", language="fr")
    tracks, texts, chapters, tags, _ = describe(target)
    assert [track[0] for track in tracks] == ["video", "audio"] and not texts and not chapters
    assert tracks[1][1] in (None, "und") and "title" not in tags
    assert list_losses(source, target) == []


def test_companions_lost_between_two_files_are_all_named(tmp_path):
    source, bare = write_film(tmp_path / "a.mkv"), write_film(tmp_path / "b.mkv", extras=False)
    (note,) = list_losses(source, bare)
    for words in ("sound track (aac, deu, Commentary)", "subtitles (", "2 chapters", "the tag title", "the tag ARTIST"):
        assert words in note
    assert list_losses(bare, source) == []


def test_languages_get_the_three_letters_of_containers():
    found = [get_iso639_code(name) for name in ("fr", "pt-br", "zh_CN", "deu", "xx", "")]
    assert found == ["fra", "por", "zho", "deu", None, None]

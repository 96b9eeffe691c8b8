"""lipsync at debug size, from the real classes: only the mouth, only in its spans, only on time; everything else keeps
its bits.
"""

import dataclasses
import json
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.device import Placement
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.progress import Progress
from mouthpiece.face.crop import crop_face
from mouthpiece.face.film_tracks import load_face_tracks, save_face_tracks, track_faces
from mouthpiece.lipsync.film.lipsync_job import FaceEdit, prepare_lipsync
from mouthpiece.lipsync.film.mouth_compositor import get_mouth_box
from mouthpiece.lipsync.film.resync import resync
from mouthpiece.lipsync.models import load_models
from mouthpiece.lipsync.options import LipsyncOptions
from mouthpiece.lipsync.portrait.renderer import WORK_PX

FRAMES, RATE = 10, Fraction(25)
PLAIN = LipsyncOptions(gate=False, quality=0, steps=2)
SILENT = Progress("none")
PLACEMENT = Placement(torch.device("cpu"), torch.float32, "the same numbers everywhere")


def noise(path, seconds, seed=0):
    wave = 0.1 * np.random.default_rng(seed).standard_normal((1, int(seconds * 48_000)))
    write_sound(path, Sound(wave.astype(np.float32), 48_000))
    return path


@pytest.fixture(scope="module")
def own_sound(clips):
    return noise(clips / "own.wav", FRAMES / 25)


@pytest.fixture(scope="module")
def other_sound(clips):
    return noise(clips / "other.wav", FRAMES / 25, 1)


@pytest.fixture(scope="module")
def film(clips, puppet, own_sound):
    """Ten frames of a mouth that opens and shuts."""
    with VideoWriter(clips / "film.mp4", RATE, 192, 192, own_sound, crf=10) as writer:
        for opening in np.abs(np.sin(np.arange(FRAMES) / 2)):
            writer.write(puppet.frame(opening))
    return clips / "film.mp4"


@pytest.fixture(scope="module")
def seen(film):
    return track_faces(film, ["largest"])


@pytest.fixture(scope="module")
def models(weights_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUTHPIECE_WEIGHTS_DIR", str(weights_folder))
        return load_models(PLACEMENT)


@pytest.fixture
def move(film, seen, other_sound, models, tmp_path):
    """Moves the film's lips under options that differ from PLAIN; gives frames and facts."""

    def move(name="out.mp4", *, video=None, sound=None, look=None, words=None, **differing):
        look = look or (seen if video is None else None)
        job = prepare_lipsync(
            video or film, sound or other_sound, dataclasses.replace(PLAIN, **differing), **(words or {})
        )
        facts = resync(job, tmp_path / name, models, PLACEMENT, SILENT, tracks=look, overwrite=True)
        return shown(tmp_path / name), facts

    return move


def shown(path):
    with VideoReader(path) as reader:
        return np.stack([frame.pixels for frame in reader])


def times(path):
    with VideoReader(path) as reader:
        return [time for _, time, _ in reader.read_native_frames()]


def outside_of(seen, shape, number=0):
    """(F, H, W) bool: pixels that the mouth may not reach."""
    out = np.ones(shape[:3], bool)
    for index in range(len(out)):
        x0, y0, x1, y1 = get_mouth_box(crop_face(seen.tracks[number], index, WORK_PX), shape[1:])
        out[index, y0 - 1 : y1 + 1, x0 - 1 : x1 + 1] = False
    return out


def test_only_the_mouth_changes_and_it_does_in_every_frame(film, seen, move):
    before, (after, facts) = shown(film), move()
    assert after.shape == before.shape and facts["frames"] == FRAMES
    outside = outside_of(seen, before.shape)
    assert 0.3 < outside.mean() < 0.9
    assert np.array_equal(before[outside], after[outside])
    assert all((a != b).mean() > 0.02 for a, b in zip(before, after))
    assert facts["changed_s"] == [(0.0, 0.4)] and not facts["copied"] and not facts["needs_review"]


def test_frames_outside_of_the_spans_keep_their_bits(film, move):
    before, (after, facts) = shown(film), move(spans="0.12-0.28")
    same = [np.array_equal(a, b) for a, b in zip(before, after)]
    assert same == [True] * 3 + [False] * 4 + [True] * 3
    assert facts["changed_s"] == [(0.12, 0.28)]


def test_the_films_own_sound_changes_nothing_and_the_picture_is_copied(film, own_sound, move, tmp_path):
    after, facts = move(sound=own_sound)
    assert facts["copied"] and facts["changed_s"] == [] and np.array_equal(after, shown(film))
    packets = [[bytes(p) for p in av.open(str(path)).demux(video=0) if p.size] for path in (film, tmp_path / "out.mp4")]
    assert packets[0] == packets[1]
    sound = read_sound(tmp_path / "out.mp4")
    assert np.corrcoef(sound.samples[0][:19_000], read_sound(own_sound).samples[0][:19_000])[0, 1] > 0.5


UNDIRECTED = {  # options that lead to another picture; the grain's direction is in test_reference_mouths.py
    "seed": {"seed": 1},
    "steps": {"steps": 4},
    "guidance": {"guidance": 5.0},
    "temperature": {"temperature": 1.0},
    "grain": {"grain": False},
}


@pytest.fixture(scope="module")
def plain_frames():
    """Frames under PLAIN, made once."""
    return {}


@pytest.mark.parametrize("name", UNDIRECTED)
def test_every_option_changes_the_picture(name, move, plain_frames):
    if not plain_frames:
        plain_frames["plain"] = move()[0]
    assert not np.array_equal(plain_frames["plain"], move(**UNDIRECTED[name])[0])


def measure_motion(frames, film):
    """Mean deviation of the pixels over time."""
    return frames.astype(float).std(0).mean()


def measure_change(frames, film):
    """Mean difference from the film."""
    return np.abs(frames.astype(float) - film).mean()


EFFECTS = {  # option -> (what grows, settings, others under which it is greater)
    "expression": (measure_motion, {"expression": 0.3}, {}),
    "closure": (measure_motion, {}, {"closure": 0.0}),
    "normalize_mouth": (measure_motion, {}, {"normalize_mouth": 0.0}),
    "spans": (measure_change, {"spans": "0-0.2"}, {}),
    "crossfade": (measure_change, {"crossfade": 0.2, "spans": "0.04-0.36"}, {"crossfade": 0.0, "spans": "0.04-0.36"}),
    "gate": (measure_motion, {"gate": True}, {}),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_every_option_changes_the_picture_in_its_direction(name, move, film):
    measure, *settings = EFFECTS[name]
    less, more = (measure(move(**differing)[0], shown(film)) for differing in settings)
    assert more > 1.01 * less


def test_a_lower_quality_makes_a_smaller_file(move, tmp_path):
    move("fine.mp4")
    move("coarse.mp4", quality=40)
    assert (tmp_path / "coarse.mp4").stat().st_size < 0.9 * (tmp_path / "fine.mp4").stat().st_size


def test_batches_and_runs_change_nothing(move, tmp_path):
    move("one.mp4", batch=1)
    move("two.mp4", batch=8)
    move("three.mp4", batch=8)
    assert np.array_equal(shown(tmp_path / "two.mp4"), shown(tmp_path / "three.mp4"))
    off = np.abs(shown(tmp_path / "one.mp4").astype(int) - shown(tmp_path / "two.mp4"))
    # a network's last bits turn a rounding here and there; through Y'CbCr one level becomes up to three
    assert off.max() <= 3 and (off > 0).mean() < 1e-3


def test_a_reference_mouth_is_prepared_once_however_many_frames_use_it(move, models, monkeypatch):
    seen, survey = [], models.renderer.network.predict_teeth
    monkeypatch.setattr(
        models.renderer.network, "predict_teeth", lambda pixels: seen.append(len(pixels)) or survey(pixels)
    )
    # its rest, and its open mouth
    assert move(batch=2)[1]["faces"][0]["frames_changed"] == FRAMES and 1 <= sum(seen) <= 2


def test_saved_face_tracks_give_the_same_film(film, seen, move, tmp_path):
    save_face_tracks(tmp_path / "seen.npz", seen)
    again = load_face_tracks(tmp_path / "seen.npz", ["largest"])
    assert again.times == seen.times and again.end == seen.end
    assert np.array_equal(move(look=again)[0], move()[0])
    assert (
        load_face_tracks(tmp_path / "seen.npz", ["1"]) is None
        and load_face_tracks(tmp_path / "none.npz", ["largest"]) is None
    )


def test_a_planned_articulation_replaces_the_recognised_one_where_it_is_known(move):
    from mouthpiece.engine.contracts import ARTICULATION_WIDTH, PHONES, Articulation

    told = np.full((20, ARTICULATION_WIDTH), np.nan, np.float32)
    heard, _ = move()
    assert np.array_equal(move(words={"articulation": Articulation(told)})[0], heard)
    told[:] = 0
    told[:, PHONES.index("AA")] = 1
    spoken, _ = move(words={"articulation": Articulation(told)})
    assert not np.array_equal(spoken, heard)
    with pytest.raises(UsageError, match=r"articulation of shape \(20, 7\)"):
        move(words={"articulation": Articulation(told[:, :7])})


def test_the_lips_can_follow_another_recording_than_the_one_in_the_output(move, own_sound, other_sound, tmp_path):
    first, _ = move("one.mp4", sound=other_sound, words={"spans": [(0, 1)]})
    second, _ = move("two.mp4", sound=own_sound, words={"spans": [(0, 1)], "lips_from": other_sound})
    assert np.array_equal(first, second)
    assert not np.array_equal(read_sound(tmp_path / "one.mp4").samples, read_sound(tmp_path / "two.mp4").samples)


def test_two_faces_speak_each_in_its_own_span(clips, puppet, own_sound, other_sound, move):
    with VideoWriter(clips / "two.mp4", RATE, 384, 192, own_sound, crf=10) as writer:
        for opening in np.linspace(0, 1, FRAMES):
            writer.write(np.concatenate([puppet.frame(opening), puppet.frame(1 - opening)[:, ::-1]], 1))
    parts = [FaceEdit(((0.0, 0.2),), "96,96"), FaceEdit([(0.2, 0.4)], "288,96")]
    before, (after, facts) = (
        shown(clips / "two.mp4"),
        move(video=clips / "two.mp4", words={"faces": parts}, crossfade=0.0),
    )
    left, right = (
        [not np.array_equal(a[:, s], b[:, s]) for a, b in zip(before, after)] for s in (slice(0, 180), slice(204, 384))
    )
    assert left == [True] * 5 + [False] * 5 and right == [False] * 5 + [True] * 5
    assert [row["frames_changed"] for row in facts["faces"]] == [5, 5] and facts["changed_s"] == [(0.0, 0.4)]
    after, _ = move(video=clips / "two.mp4", face="288,96")
    assert np.array_equal(before[:, :, :180], after[:, :, :180]) and not np.array_equal(
        before[:, :, 204:], after[:, :, 204:]
    )


@pytest.fixture(scope="module")
def gap(clips, puppet):
    """Six frames with the face, six grey ones, no cut between for the eye of the tracker to miss."""
    with VideoWriter(clips / "gap.mp4", RATE, 192, 192, crf=10) as writer:
        for index in range(12):
            writer.write(puppet.frame(0.5) if index < 6 else np.full((192, 192, 3), 128, np.uint8))
    return clips / "gap.mp4"


def test_frames_without_the_face_are_left_alone_and_reported(gap, clips, move):
    sound = noise(clips / "gap.wav", 12 / 25, 2)
    before, (after, facts) = shown(gap), move(video=gap, sound=sound)
    assert np.array_equal(before[6:], after[6:]) and not np.array_equal(before[:6], after[:6])
    assert facts["needs_review"] and facts["faces"][0]["frames_passed"] == {"no face is seen": 6}
    with pytest.raises(InvalidInputError, match="no face is seen at 0.24 s"):
        move(video=gap, sound=sound, on_missing_face="fail")
    assert move(video=gap, sound=sound, on_missing_face="fail", spans="0-0.2")[1]["faces"][0]["frames_changed"] == 5


def test_a_face_held_in_place_is_changed_where_it_is_not_seen(clips, puppet, move):
    with VideoWriter(clips / "hidden.mp4", RATE, 448, 320, crf=10) as writer:
        for index in range(12):
            frame = np.full((320, 448, 3), 120, np.uint8)
            frame[60:252, 120:312] = puppet.frame(0.3) if index < 6 else puppet.pixels.mean((0, 1)).astype(np.uint8)
            writer.write(frame)
    sound = noise(clips / "hidden.wav", 12 / 25, 2)
    passed = move(video=clips / "hidden.mp4", sound=sound)[1]["faces"][0]
    held = move(video=clips / "hidden.mp4", sound=sound, on_missing_face="hold")[1]["faces"][0]
    assert passed["frames_passed"] == {"no face is seen": 6} and "no face is seen" not in held["frames_passed"]


def test_a_covered_mouth_is_left_alone(clips, puppet, move):
    with VideoWriter(clips / "masked.mp4", RATE, 192, 192, crf=10) as writer:
        for index in range(12):
            frame = puppet.frame(0.3).copy()
            if 4 <= index < 9:
                frame[105:185, 45:150] = (120, 170, 220)
            writer.write(frame)
    sound = noise(clips / "masked.wav", 12 / 25, 2)
    before, (after, facts) = shown(clips / "masked.mp4"), move(video=clips / "masked.mp4", sound=sound)
    assert all(np.array_equal(before[k], after[k]) for k in range(5, 8)) and not np.array_equal(before[1], after[1])
    assert facts["needs_review"] and any("covered" in note for note in facts["notes"])


def phone_film(path, puppet, stamps, rotation):
    """A film as phones write it: uneven times, lying on its side."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 192, 192, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        stream.set_display_rotation(rotation)
        for index, stamp in enumerate(stamps):
            pixels = np.ascontiguousarray(np.rot90(puppet.frame(index / len(stamps)), -rotation // 90))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = stamp, Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_phone_video_keeps_its_time_stamps_and_its_rotation(clips, puppet, move, tmp_path):
    stamps = [0, 3003, 6010, 9000, 15_015, 18_000, 21_111, 27_000, 30_030, 33_033]
    video = phone_film(clips / "phone.mp4", puppet, stamps, 90)
    after, facts = move(video=video, sound=noise(clips / "phone.wav", 0.4, 3))
    assert times(tmp_path / "out.mp4") == times(video) == [Fraction(stamp, 90_000) for stamp in stamps]
    assert probe(tmp_path / "out.mp4").rotation_degrees == probe(video).rotation_degrees != 0
    before = shown(video)
    seen = track_faces(video, ["largest"])
    outside = outside_of(seen, before.shape)
    assert np.array_equal(before[outside], after[outside]) and (before != after).any() and facts["variable_rate"]


def test_longer_sound_is_refused_unless_the_remainder_is_silent_or_may_be_cut(clips, film, move, tmp_path):
    long = noise(clips / "long.wav", 1.0, 4)
    with pytest.raises(InvalidInputError, match="goes on for 0.60 s after the film") as caught:
        move(sound=long)
    assert "--long-sound cut" in caught.value.hint
    move(sound=long, long_sound="cut")
    assert abs(float(read_sound(tmp_path / "out.mp4").duration) - 0.4) < 1024 / 48_000
    wave = read_sound(long).samples.copy()
    wave[:, 19_200:] = 0
    write_sound(clips / "quiet_end.wav", Sound(wave, 48_000))
    move(sound=clips / "quiet_end.wav")
    facts = move(sound=noise(clips / "short.wav", 0.2, 5))[1]
    assert "ends 0.20 s before the film" in facts["notes"][-1]
    assert float(read_sound(tmp_path / "out.mp4").duration) >= 0.4


def test_films_that_cannot_be_changed_are_refused_in_words(clips, faceless, film, own_sound, move):
    cases = {
        "no face found in 12 frames": dict(video=faceless, sound=noise(clips / "faceless.wav", 0.48, 9)),
        "no moving picture": dict(video=own_sound),
        "no sound in it": dict(sound=clips / "mute.mp4"),
        "ends at 0.40 s": dict(spans="3-4"),
        "face 4 asked for": dict(video=film, words={"faces": [FaceEdit(None, "4")]}),
    }
    with VideoWriter(clips / "mute.mp4", RATE, 64, 64) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    for sentence, words in cases.items():
        with pytest.raises(InvalidInputError, match=sentence) as caught:
            move(**words)
        assert caught.value.hint


def test_the_command_writes_film_and_sidecar_with_the_seconds_that_changed(call, film, other_sound, tmp_path):
    words = (
        "lipsync",
        str(film),
        str(other_sound),
        "-o",
        str(tmp_path / "out.mp4"),
        "--spans",
        "0.12-0.28",
        "--steps",
        "2",
        "-q",
    )
    answer = call(*words, "--dry-run")
    assert answer.code == 0 and "would write" in answer.out and not list(tmp_path.iterdir())
    answer = call(*words)
    assert answer.code == 0, answer.err
    assert answer.out.startswith(str(tmp_path / "out.mp4")) and "0.16 of 0.40 s" in answer.out
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert sidecar["command"] == "lipsync" and sidecar["facts"]["changed_s"] == [[0.12, 0.28]]
    assert sidecar["provenance"]["marked"]
    answer = call("verify", str(tmp_path / "out.mp4"), "--json")
    assert answer.code == 0 and "0.12" in answer.out and "0.28" in answer.out
    answer = call("lipsync", str(film), str(film), "-o", str(film), "--force")
    assert answer.code == 2 and "input of the same job" in answer.err


@pytest.mark.parametrize(
    "name, value, reason",
    [("SMALLEST_CROP_PX", 1000, "the face is too small"), ("LARGEST_YAW_DEG", -1.0, "the face is turned away")],
)
def test_faces_too_small_or_turned_away_pass_and_the_picture_is_copied(name, value, reason, film, move, monkeypatch):
    from mouthpiece.lipsync.film import mouth_scan as room

    monkeypatch.setattr(room, name, value)
    after, facts = move()
    assert np.array_equal(after, shown(film)) and facts["copied"] and facts["needs_review"]
    assert facts["faces"][0]["frames_passed"] == {reason: FRAMES} and reason in facts["notes"][0]

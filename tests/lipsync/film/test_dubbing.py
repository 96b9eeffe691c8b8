"""Lips of a dub: each line by itself, and what an earlier run made is used again wherever nothing has changed."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.contracts import PHONES, Articulation, DubLine
from mouthpiece.engine.device import choose_device
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.media.film import open_film
from mouthpiece.engine.media.patches import FramePatch
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.progress import Progress
from mouthpiece.engine.weights.records import record_models
from mouthpiece.face import film_tracks
from mouthpiece.face.film_tracks import FilmFaceTracker
from mouthpiece.lipsync.film.cache import RETAINED_RUNS, BlobStore, DubCache, expand_to_blocks
from mouthpiece.lipsync.film.dubbing import (
    CACHE_FILE,
    DubLipsJob,
    DubMouthPredictor,
    copy_picture,
    lipsync_dub,
    make_box_lookup,
)
from mouthpiece.lipsync.models import load_models
from mouthpiece.lipsync.options import LipsyncOptions

FRAMES, RATE = 30, Fraction(25)
SILENT = Progress("none")
PLAIN = LipsyncOptions(steps=2, temperature=0.0)


@pytest.fixture(scope="module")
def film(clips, puppet, voice):
    """1.2 s of a mouth that opens and shuts, with two words from 0.3 s on."""
    sound = Sound(voice[:, :57_600], 48_000)
    with VideoWriter(clips / "dubbed.mp4", RATE, 192, 192, sound, crf=10) as writer:
        for opening in np.abs(np.sin(np.arange(FRAMES) / 2)):
            writer.write(puppet.frame(opening))
    write_sound(clips / "mix.wav", sound)
    return clips / "dubbed.mp4"


def line(name, start_s, end_s, phones="AA M", tick=None):
    """A line whose plan goes through phones at even pace; None listens."""
    first, count = int(start_s * 50), round((end_s - start_s) * 50)
    told = np.zeros((count, 43), np.float32)
    for k in range(count) if phones else ():
        told[k, PHONES.index(phones.split()[k * len(phones.split()) // count])] = 1
    told[:, 40] = told[:, -1] = 0.5
    articulation = Articulation(told) if phones else None
    return DubLine(name, "ANNA", "largest", start_s, end_s, first if tick is None else tick, articulation)


@pytest.fixture
def store(tmp_path):
    shelf = BlobStore(tmp_path / CACHE_FILE)
    yield DubCache(shelf, "film")
    shelf.close()


@pytest.fixture
def lips(debug_weights, clips, film, store):
    """Lips of lines at the film's frames; the last row is of a frame after all of them."""
    models = load_models(choose_device("cpu"))
    return lambda *lines: DubMouthPredictor(lines, PLAIN, clips / "mix.wav", store)(models, np.arange(FRAMES) / 25)


@pytest.fixture
def redub(debug_weights, film, clips, tmp_path):
    """Dub the film with lines; give the frames and what is reported of the picture."""
    options = LipsyncOptions(seed=0, device="cpu", on_missing_face="pass", quality=0, long_sound="cut")

    def redub(*lines, **differing):
        opened, folder, mix = open_film(film), tmp_path / "kept", clips / "mix.wav"
        job = DubLipsJob(opened, lines, mix, mix, dataclasses.replace(options, **differing), folder)
        picture = lipsync_dub(job, tmp_path / "out.mp4", FilmFaceTracker(opened, folder), SILENT, True)
        with VideoReader(tmp_path / "out.mp4") as reader:
            return np.stack([frame.pixels for frame in reader]), picture

    return redub


def test_another_word_in_one_line_leaves_the_lips_of_the_others_to_the_bit(lips):
    first, second = line("1", 0.08, 0.4), line("2", 0.7, 1.0, "OW F")
    one, two = lips(first, second), lips(line("1", 0.08, 0.4, "M UW P"), second)
    assert np.isfinite(one[2:10]).all() and np.isnan(one[14]).all()
    assert np.array_equal(one[17:25], two[17:25]) and not np.array_equal(one[2:10], two[2:10])
    alone = lips(second)
    assert np.array_equal(alone[17:25], one[17:25])


def test_lines_at_one_time_share_the_mouth(lips):
    first, second = line("1", 0.2, 0.8), line("2", 0.2, 0.8, "OW F")
    a, b, both = lips(first), lips(second), lips(first, second)
    assert np.allclose(both[5:20], (a[5:20] + b[5:20]) / 2, atol=1e-5) and not np.allclose(a[5:20], b[5:20], atol=1e-3)


def test_a_line_without_a_plan_is_listened_to_and_one_that_begins_before_the_film_is_cut(lips):
    heard, silent = lips(line("1", 0.2, 0.8, None)), line("1", 0.2, 0.8, "SIL")
    silent.articulation.values[:, 40:] = 0, 0, -1.5
    assert np.isfinite(heard[5:20]).all() and not np.allclose(heard[5:20], lips(silent)[5:20], atol=1e-3)
    assert np.isfinite(lips(line("1", 0.0, 0.4, tick=-3))[:10]).all()


def test_a_second_run_makes_nothing_and_writes_the_same_film(redub):
    one, picture = redub(line("1", 0.08, 0.4), line("2", 0.7, 1.0, "OW F"))
    assert picture.facts["used_again"]["patch"] == {"found": 0, "made": 15} and picture.facts["frames"] == FRAMES
    two, again = redub(line("1", 0.08, 0.4), line("2", 0.7, 1.0, "OW F"))
    assert again.facts["used_again"] == {
        "look": {"found": 1, "made": 0},
        "lips": {"found": 2, "made": 0},
        "segment": {"found": 1, "made": 0},
    }
    assert np.array_equal(one, two) and [m[0] for m in again.mouths] == ["1", "1", "2", "2"]


def test_a_changed_line_makes_its_own_frames_alone(redub):
    one, _ = redub(line("1", 0.08, 0.4), line("2", 0.7, 1.0, "OW F"))
    two, picture = redub(line("1", 0.08, 0.4, "M UW P"), line("2", 0.7, 1.0, "OW F"))
    assert picture.facts["used_again"]["patch"] == {"found": 7, "made": 8} and picture.facts["used_again"]["lips"] == {
        "found": 1,
        "made": 1,
    }
    other = [k for k in range(FRAMES) if not np.array_equal(one[k], two[k])]
    assert other and set(other) <= set(range(2, 10))


def test_segments_of_the_film_in_which_nothing_changed_are_encoded_once(redub, monkeypatch):
    for module in (
        "mouthpiece.engine.media.rewrite",
        "mouthpiece.lipsync.film.cache",
        "mouthpiece.lipsync.film.resync",
    ):
        monkeypatch.setattr(f"{module}.SEGMENT_FRAMES", 8)
    lines = line("1", 0.08, 0.4), line("2", 0.7, 1.0, "OW F")
    one, picture = redub(*lines)
    assert picture.facts["used_again"]["segment"] == {"found": 0, "made": 4}
    again, picture = redub(line("1", 0.08, 0.4, "M UW P"), lines[1])
    assert picture.facts["used_again"]["segment"] == {"found": 2, "made": 2} and picture.facts["frames"] == FRAMES
    assert np.array_equal(one[16:], again[16:]) and not np.array_equal(one[:16], again[:16])
    third, picture = redub(*lines)
    assert picture.facts["used_again"]["segment"] == {"found": 4, "made": 0} and np.array_equal(one, third)


@pytest.mark.parametrize("differing", [dict(seed=1), dict(on_missing_face="hold")])
def test_what_was_kept_under_other_options_is_used_only_where_they_mean_nothing(redub, differing):
    redub(line("1", 0.08, 0.4))
    _, picture = redub(line("1", 0.08, 0.4), **differing)
    assert (picture.facts["used_again"]["segment"]["made"] > 0) == ("seed" in differing)


def test_a_shelf_that_is_torn_is_begun_anew_and_one_that_cannot_be_made_keeps_nothing(tmp_path):
    (tmp_path / "torn.db").write_bytes(b"no database at all" * 100)
    shelf = BlobStore(tmp_path / "torn.db")
    shelf.put("a", b"1")
    assert shelf.find("a") == b"1" and shelf.find("b") is None
    shelf.close()
    (tmp_path / "file").write_text("in the way")
    nowhere = BlobStore(tmp_path / "file" / "kept.db")
    nowhere.put("a", b"1")
    assert nowhere.find("a") is None
    nowhere.close()


def test_what_no_run_has_used_for_long_goes_and_a_run_that_was_cut_off_throws_nothing_away(tmp_path):
    def run(*names, done=True):
        shelf = BlobStore(tmp_path / "kept.db")
        found = [shelf.find(name) is not None for name in names]
        for name in names:
            shelf.put(name, b"x")
        shelf.close(done)
        return found

    run("a", "b")
    for _ in range(RETAINED_RUNS):
        assert run("a") == [True]
    assert run("a", "b") == [True, False]
    for _ in range(2 * RETAINED_RUNS):
        run(done=False)
    assert run("b") == [True]


def test_a_kept_patch_makes_the_same_change(store):
    rng = np.random.default_rng(0)
    before, after = (rng.integers(0, 256, (9, 7, 3)).astype(np.uint8) for _ in range(2))
    store.save_patch("p", FramePatch(3, 5, before, after))
    found = store.load_patch("p")
    assert (found.x_px, found.y_px) == (3, 5)
    assert (
        np.array_equal(found.after.astype(int) - found.before, after.astype(int) - before)
        and store.load_patch("q") is None
    )


def test_names_tell_apart_everything_that_they_are_of(store):
    array = np.arange(6, dtype=np.float32)
    names = {
        store.make_key("k", array),
        store.make_key("k", array + 1),
        store.make_key("k", array.reshape(2, 3)),
        store.make_key("j", array),
        store.make_key("k", array, 1),
        store.make_key("k", array.astype(np.float64)),
        DubCache(None, "other film").make_key("k", array),
        DubCache(None, "film", "other weights").make_key("k", array),
    }
    assert len(names) == 8 and store.make_key("k", array) == store.make_key("k", array.copy())


def test_frames_are_looked_at_in_whole_stretches():
    times = np.arange(10) * 0.5
    flags = np.zeros(10, bool)
    flags[5] = True
    assert (
        np.flatnonzero(expand_to_blocks(flags, times)).tolist() == [4, 5, 6, 7]
        and not expand_to_blocks(np.zeros(10, bool), times).any()
    )


@pytest.fixture
def tracker(film, tmp_path):
    return FilmFaceTracker(open_film(film), tmp_path)


def test_a_face_is_tracked_once_for_both_branches_and_says_where_a_dub_may_change_the_film(
    film, tracker, tmp_path, monkeypatch
):
    tracks = tracker.track(("largest",), SILENT)
    monkeypatch.setattr("mouthpiece.face.film_tracks.track_faces", None)
    again = FilmFaceTracker(open_film(film), tmp_path).track(("largest",), SILENT)
    (track,) = tracks.tracks
    assert len(track) == len(tracks.times_s) == FRAMES and np.array_equal(track.points, again.tracks[0].points)
    (box,) = make_box_lookup(film, tmp_path, SILENT)(3)
    mouth = track.points[3][2:].mean(0)
    assert box[0] < mouth[0] < box[2] and box[1] < mouth[1] < box[3]
    assert make_box_lookup(film, tmp_path, SILENT)(10**6) == []


def test_faces_are_kept_one_by_one(tracker, monkeypatch):
    frames, track_faces = [], film_tracks.track_faces
    monkeypatch.setattr(
        film_tracks, "track_faces", lambda video, choices, advance: track_faces(video, choices, frames.append)
    )
    tracker.track(("largest",), SILENT)
    both = tracker.track(("0", "largest"), SILENT)
    assert sum(frames) == 2 * FRAMES and both.choices == ("0", "largest") and len(both.tracks) == 2
    swapped = tracker.track(("largest", "0"), SILENT)
    assert sum(frames) == 2 * FRAMES
    assert np.array_equal(swapped.get_track("0").points, both.get_track("0").points, equal_nan=True)


def test_that_nobody_is_in_a_film_is_kept_too(clips, tmp_path, monkeypatch):
    with VideoWriter(clips / "wall.mp4", RATE, 64, 64) as writer:
        for _ in range(3):
            writer.write(np.full((64, 64, 3), 90, np.uint8))
    tracker = FilmFaceTracker(open_film(clips / "wall.mp4"), tmp_path)
    with pytest.raises(InvalidInputError) as first:
        tracker.track(("largest",), SILENT)
    monkeypatch.setattr(film_tracks, "track_faces", None)
    with pytest.raises(InvalidInputError) as second:
        tracker.track(("largest",), SILENT)
    assert first.value.as_dict() == second.value.as_dict() and second.value.code == "no_face"


def test_faces_that_are_kept_name_the_models_that_found_them(tracker):
    def get_models():
        with record_models() as used:
            tracker.track(("largest",), SILENT)
        return used.get_hashes()

    first = get_models()
    assert first and all(name.startswith("facenet-pytorch ") for name in first) and get_models() == first


def test_a_film_without_a_face_is_left_to_be_copied_and_its_facts_say_so(debug_weights, tmp_path):
    with VideoWriter(tmp_path / "empty.mp4", RATE, 64, 64) as writer:
        for _ in range(25):
            writer.write(np.full((64, 64, 3), 90, np.uint8))
    film, mix, out = open_film(tmp_path / "empty.mp4"), tmp_path / "mix.wav", tmp_path / "out.mp4"
    write_sound(mix, Sound(np.full((1, 48_000), 0.01, np.float32), 48_000))
    tracker, options = FilmFaceTracker(film, tmp_path), LipsyncOptions(device="cpu", long_sound="cut")
    job = DubLipsJob(film, [line("1", 0.1, 0.5)], mix, mix, options, tmp_path)
    assert lipsync_dub(job, out, tracker, SILENT) is None and not out.exists()
    facts = copy_picture(job, out).facts
    assert facts["copied"] and facts["frames"] == 25 and "no face" in facts["lips"]
    assert "copied" not in copy_picture(dataclasses.replace(job, lines=[]), out, overwrite=True).facts
    strict = dataclasses.replace(job, options=dataclasses.replace(options, on_missing_face="fail"))
    with pytest.raises(InvalidInputError, match="no face"):
        lipsync_dub(strict, out, tracker, SILENT, overwrite=True)

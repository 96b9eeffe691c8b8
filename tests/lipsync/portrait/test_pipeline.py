"""The whole pipeline at debug size, from the real classes: every option acts, time is exact, nothing is done twice."""

import dataclasses
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.contracts import ARTICULATION_WIDTH, PHONES, Articulation
from mouthpiece.engine.device import choose_device
from mouthpiece.engine.media.images import write_image
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.progress import Progress
from mouthpiece.engine.timeline import count_frames
from mouthpiece.lipsync.models import load_models
from mouthpiece.lipsync.motion.speech_to_motion import generate_motion
from mouthpiece.lipsync.options import AnimateOptions
from mouthpiece.lipsync.portrait import animation_job
from mouthpiece.lipsync.portrait.animation_job import frame_portrait, prepare_animation
from mouthpiece.lipsync.portrait.pipeline import animate, prepare_portrait, render_frames

RATES = [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(60)]
QUICK = AnimateOptions(size=96, fps=Fraction(12))
SILENT = Progress("none")


@pytest.fixture
def make(desk, debug_weights):
    """Animates the desk's portrait under options that differ from QUICK; gives the frames as they are in the file."""
    models, placement = load_models(choose_device("cpu")), choose_device("cpu")

    def make(name="out.mp4", sound="line.wav", portrait="portrait.png", planned=None, **differing):
        job = prepare_animation(desk / portrait, desk / sound, dataclasses.replace(QUICK, **differing), planned)
        facts = animate(job, desk / name, models, placement, SILENT, overwrite=True)
        with VideoReader(desk / name) as reader:
            frames = np.stack([frame.pixels for frame in reader])
        assert len(frames) == facts["frames"] and frames.shape[1:3] == (facts["height_px"], facts["width_px"])
        return frames

    return make


def stressed():
    """Articulation, 60 ticks, of a vowel with one loud, high moment."""
    out = np.zeros((60, ARTICULATION_WIDTH), np.float32)
    out[:, PHONES.index("AA")], out[:, -3], out[:, -2:] = (
        1,
        1,
        0.8 * np.exp(-(((np.arange(60) - 10) / 4) ** 2))[:, None],
    )
    return Articulation(out)


def measure_motion(frames):
    """Mean deviation of the pixels over time."""
    return frames.astype(float).std(0).mean()


def measure_speed(frames):
    """Mean change of a pixel from one frame to the next."""
    return np.abs(np.diff(frames.astype(float), axis=0)).mean()


def measure_left_share(frames):
    """Share of the motion that lies in the left half of the picture."""
    spread = frames.astype(float).std(0).mean(-1)
    return spread[:, : spread.shape[1] // 2].sum() / spread.sum()


HELD_HEAD = {"gate": False, "pose_strength": 0.0}
STILL = {"expression": 0.0, "pose_strength": 0.0, "accents": 0.0}
SWAYING = {"expression": 0.0, "accents": 0.0, "stabilize_head": False, "pose_strength": 0.2}
STRESSED = {"planned": stressed()}
SAMPLING = {  # option -> (settings, others): they lead to another picture, in no direction
    "seed": ({}, {"seed": 1}),
    "steps": ({}, {"steps": 2}),
    "guidance": ({}, {"guidance": 4.0}),
    "temperature": ({}, {"temperature": 1.0}),
}
EFFECTS = {  # option -> (what grows, settings, others under which it is greater)
    "fps": (len, {}, {"fps": Fraction(25)}),
    "size": (lambda frames: frames.shape[1], {}, {"size": 128}),
    "frame": (lambda frames: frames.shape[2], {"frame": "crop"}, {}),
    "face": (measure_left_share, {}, {"face": "40,200,60"}),
    "expression": (measure_motion, HELD_HEAD | {"expression": 0.4}, HELD_HEAD),
    "closure": (measure_motion, HELD_HEAD, HELD_HEAD | {"closure": 0.0}),
    "normalize_mouth": (measure_motion, HELD_HEAD, HELD_HEAD | {"normalize_mouth": 0.0}),
    "stabilize_head": (measure_motion, {}, {"stabilize_head": False}),
    "accents": (measure_motion, STRESSED | {"accents": 0.0}, STRESSED | {"accents": 3.0}),
    "pose_strength": (measure_motion, {"gate": False, "pose_strength": 0.4}, {"gate": False}),
    "head_speed": (measure_speed, SWAYING | {"head_speed": 0.25}, SWAYING),
    "blink_rate": (measure_motion, STILL | {"blink_rate": 0.0, "seed": 2}, STILL | {"blink_rate": 60.0, "seed": 2}),
    "gate": (measure_motion, {}, {"gate": False}),
}


@pytest.mark.parametrize("name", SAMPLING)
def test_every_option_of_the_sampler_changes_the_picture(make, name):
    first, second = (make(**settings) for settings in SAMPLING[name])
    assert (first != second).any()


@pytest.mark.parametrize("name", EFFECTS)
def test_every_option_changes_the_picture_in_its_direction(make, name):
    measure, *settings = EFFECTS[name]
    less, more = (measure(make(**differing)) for differing in settings)
    assert more > 1.01 * less


def test_a_lower_quality_makes_a_smaller_file(make, desk):
    make("fine.mp4")
    make("coarse.mp4", quality=40)
    assert (desk / "coarse.mp4").stat().st_size < 0.9 * (desk / "fine.mp4").stat().st_size


def test_no_option_is_left_out_of_that_but_the_batch_and_those_with_one_choice_here():
    assert set(AnimateOptions.__dataclass_fields__) - {*SAMPLING, *EFFECTS, "quality"} == {
        "model",
        "device",
        "batch",
        "text",
        "voice",
    }


def test_a_planned_line_moves_the_mouth_by_its_plan_and_not_by_its_sound(desk, debug_weights):
    placement = choose_device("cpu")
    models = load_models(placement)
    planned = Articulation.silence(20).values
    planned[4:14, 0], planned[4:14, 3], planned[:, -1] = 0, 1, 0.5
    sound = Sound(0.1 * np.random.default_rng(0).standard_normal((1, 9_600)).astype(np.float32), 24_000)
    jobs = [
        prepare_animation(desk / "portrait.png", sound, QUICK, which)
        for which in (None, Articulation(planned), Articulation(np.roll(planned, 3, 0)))
    ]
    motions = [generate_motion(models, job.wave, 11, job.options, job.articulation) for job in jobs]
    assert jobs[0].frames == jobs[1].frames and jobs[1].inputs == (desk / "portrait.png",)
    assert np.allclose(motions[1].active[2:7], 1) and not motions[1].active[8:].any()
    assert (motions[0].codes != motions[1].codes).any() and (motions[1].codes != motions[2].codes).any()
    facts = animate(jobs[1], desk / "said.mp4", models, placement, SILENT)
    assert facts["frames"] == jobs[1].frames and read_sound(desk / "said.mp4").duration > 0


def test_the_same_options_give_the_same_picture_in_any_batch(make):
    first = make()
    for batch in (1, 3, 64):
        assert (make(batch=batch) == first).all()


def test_without_expression_pose_and_blinks_the_portrait_hardly_moves(make):
    still = make(expression=0.0, pose_strength=0.0, blink_rate=0.0)
    assert np.abs(still.astype(int) - still[0]).mean() < 0.2 < np.abs(make().astype(int) - make()[0]).mean()


def clicks(times_s, seconds, rate_hz):
    """A mono sound of single loud milliseconds."""
    samples = np.zeros((1, round(seconds * rate_hz)), np.float32)
    for time_s in times_s:
        at = round(time_s * rate_hz)
        samples[:, at : at + rate_hz // 1000] = 0.8
    return Sound(samples, rate_hz)


def onsets_s(path):
    """When the loud moments of a file begin, on the clock of its picture."""
    sound = read_sound(path)
    loud = np.flatnonzero(np.abs(sound.samples[0]) > 0.25) / sound.rate_hz
    return loud[np.diff(loud, prepend=-1) > 0.05]


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_clicks_stay_within_ten_milliseconds_and_the_frames_cover_the_sound_at_every_rate(make, desk, rate):
    times_s = np.array([0.05, 0.21, 0.4])
    write_sound(desk / "clicks.wav", clicks(times_s, 0.51, 44_100))
    make(sound="clicks.wav", fps=rate)
    assert np.abs(onsets_s(desk / "out.mp4") - times_s).max() < 0.010
    with VideoReader(desk / "out.mp4") as reader:
        assert [frame.time for frame in reader] == [i / rate for i in range(count_frames(Fraction(51, 100), rate))]
    assert probe(desk / "out.mp4").rate == rate


def test_clicks_of_a_video_that_lends_its_sound_keep_their_place(make, desk):
    times_s = np.array([0.2, 0.4])
    with VideoWriter(desk / "film.mkv", Fraction(25), 64, 64, clicks(times_s, 0.6, 48_000)) as writer:
        for _ in range(15):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    make(sound="film.mkv", fps=Fraction(30))
    assert np.abs(onsets_s(desk / "out.mp4") - times_s).max() < 0.010


@pytest.mark.parametrize("samples, frames", [(44_144, 24), (44_145, 25)])
def test_the_frames_are_counted_from_the_sound_at_its_own_rate(desk, samples, frames):
    """At 16 kHz both sounds are 1.001 s to the sample, which is 24 frames; the second is 20 microseconds longer."""
    write_sound(desk / "film.wav", Sound(np.zeros((1, samples), np.float32), 44_100))
    job = prepare_animation(
        desk / "portrait.png", desk / "film.wav", dataclasses.replace(QUICK, fps=Fraction(24000, 1001))
    )
    assert job.frames == frames and job.duration == Fraction(samples, 44_100)


def test_the_portrait_is_read_and_searched_once(make, monkeypatch):
    counts = dict.fromkeys(("read_image", "pick_face"), 0)

    def counted(name, function):
        def call(*words, **settings):
            counts[name] += 1
            return function(*words, **settings)

        return call

    for name in counts:
        monkeypatch.setattr(animation_job, name, counted(name, getattr(animation_job, name)))
    make()
    assert counts == {"read_image": 1, "pick_face": 1}


def test_frames_are_written_while_others_are_still_to_be_rendered(desk, debug_weights):
    models = load_models(choose_device("cpu"))
    job = prepare_animation(desk / "portrait.png", desk / "line.wav", dataclasses.replace(QUICK, batch=2))
    seen, codes = [], np.zeros((5, 32), np.float32)
    forward = models.renderer.network.forward
    models.renderer.network.forward = lambda *inputs: seen.append(len(inputs[0])) or forward(*inputs)
    frames = render_frames(prepare_portrait(job, models), models, codes, job.options)
    assert seen == []
    next(frames)
    assert seen == [2]
    assert len(list(frames)) == 4 and seen == [2, 2, 1]


def test_half_precision_changes_far_less_than_the_code_does(desk, debug_weights):
    placement = choose_device("cpu")
    job = prepare_animation(desk / "portrait.png", desk / "line.wav", QUICK)
    pictures = []
    for dtype in (torch.float32, torch.bfloat16):
        placed = dataclasses.replace(placement, dtype=dtype)
        models = load_models(placed)
        codes = np.tile(np.linspace(0, 1, 3, dtype=np.float32)[:, None], (1, 32))
        pictures.append(
            np.stack(list(render_frames(prepare_portrait(job, models), models, codes, job.options))).astype(int)
        )
    assert np.abs(pictures[0] - pictures[1]).mean() < 1
    assert np.abs(pictures[0][0] - pictures[0][2]).mean() > 1


def frame_points():
    return np.array([[110.0, 100], [146, 100], [114, 140], [142, 140]])


@pytest.mark.parametrize("size, wanted", [(None, (201, 256)), (128, (100, 128)), (129, (102, 128)), (512, (402, 512))])
def test_a_size_sets_the_long_side_and_the_points_stay_on_the_face(size, wanted):
    pixels = np.zeros((201, 256, 3), np.uint8)
    pixels[95:106, 105:116] = 255
    out, points = frame_portrait(pixels, frame_points(), dataclasses.replace(QUICK, size=size))
    assert out.shape == (*wanted, 3)
    y, x = np.argwhere(out[..., 0] > 128).mean(0)
    assert np.abs(points[0] - [x, y]).max() < 1.0


def test_the_head_alone_is_cut_out_at_the_resolution_of_the_portrait():
    pixels = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    out, points = frame_portrait(pixels, frame_points() + 60, dataclasses.replace(QUICK, frame="crop", size=None))
    offset = frame_points()[0] + 60 - points[0]
    x, y = offset.astype(int)
    assert (out == pixels[y : y + out.shape[0], x : x + out.shape[1]]).all()
    assert out.shape[0] < 300 and (points > 0).all() and (points < out.shape[1::-1]).all()


def test_a_place_is_given_in_the_pixels_of_the_file_however_it_was_reduced(desk, head, monkeypatch):
    write_image(desk / "large.png", cv2.resize(head, (1_024, 1_024)))
    monkeypatch.setattr(animation_job, "MAX_SIDE_PX", 256)
    for choice in ("largest", "512,470", "512,470,300"):
        options = dataclasses.replace(QUICK, face=choice)
        plan = prepare_animation(desk / "large.png", desk / "line.wav", options).plan()
        assert plan["face_source"] == "mtcnn" and np.abs(np.subtract(plan["face_at_px"], (512, 470))).max() < 16

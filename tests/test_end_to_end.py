"""Whole commands with the real classes: `dub` with its lips, `animate --text`, `dub --bed separate`."""

import json
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
import torch
from debug_separator import write_separator
from speaking_face import load_speaking_face

from mouthpiece import command_line
from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.encoders.phonetic import PhoneticEncoder
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.face.crop import crop_face
from mouthpiece.face.film_tracks import track_faces
from mouthpiece.face.measure import measure_frames
from mouthpiece.lipsync.film.mouth_compositor import get_mouth_box
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX
from mouthpiece.voice.asr import transcription
from mouthpiece.voice.mix import source_separation
from mouthpiece.voice.plan.speech_plan import UNIT_S

RATE, FRAMES, WIDTH_PX, HEIGHT_PX = Fraction(25), 85, 384, 192
FACES = {"ANNA": "96,96", "BOB": "288,96"}  # on the left, on the right
SRT = """1
00:00:00,200 --> 00:00:01,200
ANNA: Where is the map?

2
00:00:01,000 --> 00:00:02,000
BOB: It lies on the table.

3
00:00:02,400 --> 00:00:03,200
BOB: I saw it.
"""
OF_LINE = {"1": range(5, 30), "2": range(25, 50), "3": range(60, 80)}  # frames of the slots above
DUB = ("--voice", "hibari", "--recognizer", "off", "-q", "--no-provenance", "--force")
ANIMATE = ("--voice", "hibari", "-q", "--no-provenance", "--pose-strength", "0", "--blink-rate", "0", "--accents", "0")
SILENT_DB = -90.0  # of a difference between stems that come as 24 bits


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """3.4 s of two faces side by side whose mouths open and shut, with faint noise as sound."""
    puppet, path = load_speaking_face(), tmp_path_factory.mktemp("film") / "two.mp4"
    noise = 2e-3 * np.random.default_rng(0).standard_normal((1, FRAMES * 48_000 // 25)).astype(np.float32)
    with VideoWriter(path, RATE, WIDTH_PX, HEIGHT_PX, Sound(noise, 48_000), crf=10) as writer:
        for opening in np.abs(np.sin(np.arange(FRAMES) / 2)):
            writer.write(np.concatenate([puppet.frame(opening), puppet.frame(1 - opening)[:, ::-1]], 1))
    return path


@pytest.fixture(scope="module")
def mouths(film):
    """{speaker: (F, H, W) bool}: the pixels that his or her mouth may change."""
    shape, out = (HEIGHT_PX, WIDTH_PX), {}
    for name, track in zip(FACES, track_faces(film, list(FACES.values())).tracks):
        out[name] = np.zeros((FRAMES, *shape), bool)
        for index in range(FRAMES):
            x0, y0, x1, y1 = get_mouth_box(crop_face(track, index, WORK_PX), shape)
            out[name][index, y0 - 1 : y1 + 1, x0 - 1 : x1 + 1] = True  # a pixel more: colours are coded in pairs
    assert not (out["ANNA"] & out["BOB"]).any() and all(0.05 < mouth.mean() < 0.3 for mouth in out.values())
    return out


@pytest.fixture
def stage(tmp_path, call, film):
    """`dub` of a script on the film in a folder; gives the words told, the side-car and the files of takes."""

    def dub(script, *words):
        (tmp_path / "script.srt").write_text(script)
        answer = call("dub", str(film), str(tmp_path / "script.srt"), "-o", str(tmp_path / "out.mp4"), *DUB, *words)
        assert answer.code == 0, answer.err
        takes = {path.name: path.read_bytes() for path in (tmp_path / "out.dub" / "lines").glob("*.wav")}
        return answer.out, json.loads((tmp_path / "out.json").read_text()), takes

    dub.folder = tmp_path
    return dub


def frames_of(path):
    """All frames of a film as they are decoded, (F, H, W, 3) uint8."""
    with VideoReader(path) as reader:
        return np.stack([frame.pixels for frame in reader])


def differing(one, two, mouth):
    """Frames in which two films differ in the pixels of a mouth."""
    return np.flatnonzero(((one != two).any(-1) & mouth).any((1, 2))).tolist()


def level_db(wave):
    """Peak of a sound in dB of full scale."""
    return 20 * np.log10(np.abs(wave).max() + 1e-12)


@pytest.fixture
def deaf(monkeypatch):
    """Nothing may be recognised: neither phones nor words."""
    monkeypatch.setattr(PhoneticEncoder, "forward", lambda *words: pytest.fail("the sound was listened to"))
    monkeypatch.setattr(transcription, "open_transcriber", lambda *words: pytest.fail("words were recognised"))


@pytest.fixture
def lips(stage, film):
    """`dub` of a script with lips, without loss; gives what `stage` gives and the frames written."""

    def lips(script):
        faces = ";".join(f"{name}={face}" for name, face in FACES.items())
        told, sidecar, takes = stage(script, "--bed", "keep", "--quality", "0", "--faces", faces)
        return told, sidecar, takes, frames_of(stage.folder / "out.mp4")

    return lips


def test_a_changed_line_of_a_dub_is_spoken_again_alone_and_moves_its_own_mouth_alone(stage, lips, film, mouths, deaf):
    source = frames_of(film)
    told, sidecar, takes, first = lips(SRT)
    assert "3 lines, 3 spoken now" in told and list(sidecar["facts"]["spoken_again"]) == ["1", "2", "3"]
    assert {"core", "motion", "renderer", "finder", "hibari"} <= set(sidecar["models"])
    check_faces(stage.folder, sidecar["facts"]["picture"])
    assert len(first) == len(source) == probe(stage.folder / "out.mp4").frames == FRAMES
    assert np.array_equal(first[~(mouths["ANNA"] | mouths["BOB"])], source[~(mouths["ANNA"] | mouths["BOB"])])
    assert differing(source, first, mouths["ANNA"]) == [*OF_LINE["1"]]
    assert differing(source, first, mouths["BOB"]) == [*OF_LINE["2"], *OF_LINE["3"]]

    told, sidecar, again, second = lips(SRT.replace("table", "shelf"))
    picture = sidecar["facts"]["picture"]
    assert "3 lines, 1 spoken now" in told and sidecar["facts"]["spoken_again"] == {"2": ["text"]}
    assert set(again) - set(takes) == {"2.2.wav"} and all(again[name] == sound for name, sound in takes.items())
    check_faces(stage.folder, picture)
    assert len(second) == FRAMES and np.array_equal(first[~mouths["BOB"]], second[~mouths["BOB"]])
    assert differing(first, second, mouths["BOB"]) == [*OF_LINE["2"]]
    assert differing(source, second, mouths["BOB"]) == [*OF_LINE["2"], *OF_LINE["3"]]
    used = picture["used_again"]
    assert used["look"] == {"found": 2, "made": 0} and used["lips"] == {"found": 2, "made": 1}
    assert used["patch"] == {"found": len(OF_LINE["1"]) + len(OF_LINE["3"]), "made": len(OF_LINE["2"])}

    told, sidecar, _, third = lips(SRT.replace("table", "shelf"))
    used = sidecar["facts"]["picture"]["used_again"]
    assert "0 spoken now" in told and np.array_equal(second, third)
    assert used.keys() >= {"look", "lips", "segment"} and not any(row["made"] for row in used.values())


def check_faces(folder, picture):
    """Facts and page of a dub name both faces with their speakers, and every frame of their lines as changed."""
    counts = {"ANNA": len(OF_LINE["1"]), "BOB": len(OF_LINE["2"]) + len(OF_LINE["3"])}
    assert picture["lips"] == "moved" and picture["frames_match"] and picture["frames"] == FRAMES
    rows = {row["speakers"][0]: (row["face"], row["frames_changed"], len(row["speakers"])) for row in picture["faces"]}
    assert rows == {name: (FACES[name], count, 1) for name, count in counts.items()}
    page = (folder / "out.dub" / "report.html").read_text()
    assert all(f"{name}: {count} of {count} frames changed" in page for name, count in counts.items())


def said_by(desk, text, *words):
    """`animate --text`; gives its frames and facts."""
    path = desk / "said.mp4"
    portrait = str(desk / "portrait.png")
    assert command_line.main(["animate", portrait, "--text", text, "-o", str(path), "--force", *ANIMATE, *words]) == 0
    return frames_of(path), json.loads(path.with_suffix(".json").read_text())["facts"]


def test_a_text_moves_a_portrait_by_its_plan_and_nothing_is_listened_to(desk, debug_weights, deaf):
    small = "--size", "96", "--fps", "12", "--quality", "0"
    frames, facts = said_by(desk, "Papa, mama.", *small)
    speech = facts["speech"]
    assert (speech["text"], speech["voice"], speech["timed_by"]) == ("Papa, mama.", "hibari", "text")
    (plan,) = speech["plans"]
    assert [word[0] for word in plan["words"]] == ["Papa", "mama"]
    assert sum(plan["durations"]) * float(UNIT_S) == pytest.approx(speech["duration_s"]) == facts["duration_s"]
    assert len(frames) == facts["frames"] == ceil(12 * speech["duration_s"]) and 0.2 < facts["voiced_share"] < 1
    sound = read_sound(desk / "said.mp4")
    assert level_db(sound.samples) > -20 and float(sound.duration) == pytest.approx(speech["duration_s"], abs=0.05)
    again, _ = said_by(desk, "Papa, mama.", *small)
    other, told = said_by(desk, "We see you.", *small)
    assert np.array_equal(frames, again) and told["speech"]["text"] == "We see you."
    shared = min(len(frames), len(other))
    assert all(not np.array_equal(a, b) for a, b in zip(frames[shared // 2 : shared], other[shared // 2 :]))


def word_spans(speech):
    """[(start_s, end_s)] of the words in the plans of a spoken text."""
    for plan in speech["plans"]:
        edges = np.r_[0, np.cumsum(plan["durations"])] * float(UNIT_S) + plan["start_s"]
        yield from ((edges[first], edges[last]) for _, first, last, *_ in plan["words"])


def test_a_text_opens_the_mouth_in_every_word_and_leaves_it_shut_in_silence(desk, deaf):
    frames, facts = said_by(desk, "Papa, mama. [pause 900ms] Baba, papa.")
    opening, times_s = measure_frames(iter(frames)).opening, np.arange(len(frames)) / 25
    spans = list(word_spans(facts["speech"]))
    silent = (times_s > spans[1][1] + 0.24) & (times_s < spans[2][0] - 0.3)  # a breath from the words on both sides
    assert len(spans) == 4 and silent.sum() >= 8 and np.isfinite(opening).all()
    for start, end in spans:
        spoken = (times_s > start - 0.1) & (times_s < end + 0.1)
        assert opening[spoken].max() > opening[silent].max() + 0.02, (start, end)


@pytest.fixture
def separator(tmp_path_factory, monkeypatch):
    """Random weights where the package of separation has its own; gives the shapes that its networks have seen."""
    folder = tmp_path_factory.mktemp("packages")
    for name, digest in write_separator(folder).items():
        monkeypatch.setitem(source_separation.SHA256, name, digest)
    monkeypatch.syspath_prepend(folder)
    seen, forward = [], source_separation.SpleeterUNet.forward
    monkeypatch.setattr(
        source_separation.SpleeterUNet, "forward", lambda self, x: seen.append(x.shape) or forward(self, x)
    )
    source_separation.load_spleeter.cache_clear()
    yield seen
    source_separation.load_spleeter.cache_clear()


def test_a_separated_bed_and_its_dialogue_sum_to_the_mix(stage, film, separator):
    _, sidecar, _ = stage(SRT, "--bed", "separate", "--no-lips", "--lip-timing", "off")
    assert separator == [torch.Size([1, 2, 512, 1024])] * 2
    facts, kept, original = sidecar["facts"], stage.folder / "out.dub", read_sound(film).samples
    assert facts["bed"] == {"bed": "separate", "by": "Spleeter 2 stems", "samples": original.shape[1]}
    assert "<dt>bed</dt><dd>separate</dd>" in (kept / "report.html").read_text()
    named = {name: digest for name, digest in sidecar["models"].items() if name.startswith("spleeter")}
    assert named == {
        f"spleeter {name.removesuffix('.ckpt')}": digest for name, digest in source_separation.SHA256.items()
    }

    dialogue, bed, mix = (read_sound(kept / f"{name}.wav").samples for name in ("dialogue", "bed", "mix"))
    assert dialogue.shape == bed.shape == mix.shape and level_db(mix - dialogue - bed) < SILENT_DB
    assert level_db(bed) > -60 and level_db(dialogue) > -20
    old, left = (read_sound(kept / "bed" / name).samples for name in ("original-dialogue.wav", "bed.wav"))
    assert old.shape == left.shape == original.shape and level_db(old + left - original) < SILENT_DB
    power = [float((wave**2).mean() / (original**2).mean()) for wave in (old, left)]
    assert min(power) > 0.01 and max(power) < 0.99

    _, again, _ = stage(SRT.replace("table", "shelf"), "--bed", "separate", "--no-lips", "--lip-timing", "off")
    assert len(separator) == 2 and again["facts"]["bed"] == facts["bed"] and again["models"] == sidecar["models"]

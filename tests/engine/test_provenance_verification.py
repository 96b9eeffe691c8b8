"""`verify`: marked and intact, tampered, without mark; no byte of the media can change unseen."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.provenance.verification import format_verification, verify_file
from mouthpiece.job import finalize_output

OPTIONS = SimpleNamespace(seed=3, settings=lambda: {"model": "mini", "seed": 3})
NOISE = np.random.default_rng(0)


def write_film(path, sound=None):
    with VideoWriter(path, Fraction(25), 32, 32, sound, crf=40) as writer:
        for _ in range(3):
            writer.write(NOISE.integers(0, 255, (32, 32, 3), np.uint8))


@pytest.fixture(scope="module")
def film(tmp_path_factory, signing_folder):
    """Bytes of a signed mp4 with picture and sound."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    sound = Sound(0.1 * NOISE.standard_normal((1, 1_600)).astype(np.float32), 16_000)
    write_film(path, sound)
    finalize_output(path, "animate", OPTIONS, (), {})
    return path.read_bytes()


@pytest.fixture(scope="module")
def tone(tmp_path_factory, signing_folder):
    """Bytes of a signed wav."""
    path = tmp_path_factory.mktemp("tone") / "tone.wav"
    write_sound(path, Sound(0.1 * NOISE.standard_normal((1, 800)).astype(np.float32), 16_000))
    finalize_output(path, "speak", OPTIONS, (), {})
    return path.read_bytes()


def boxes(data):
    """(name, start, stop) of the boxes at the top of an mp4."""
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], place, place + size
        place += size


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]


def test_every_byte_of_picture_and_sound_in_an_mp4_is_watched(film, tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(film)
    assert verify_file(path)["state"] == "intact"
    watched = {name: range(start, stop) for name, start, stop in boxes(film) if name in (b"mdat", b"moov")}
    media = watched[b"mdat"]
    places = [*media[:16], *media[16::37], *media[-16:], *watched[b"moov"][::29]]
    for place in places:
        path.write_bytes(flipped(film, place))
        assert verify_file(path)["state"] == "tampered", place


def test_every_byte_of_a_wav_outside_its_manifest_is_watched(tone, tmp_path):
    path = tmp_path / "tone.wav"
    end = tone.index(b"C2PA")
    for place in [*range(60), *range(60, end, 23), end - 1]:
        path.write_bytes(flipped(tone, place))
        assert verify_file(path)["state"] == "tampered", place


def test_any_byte_at_all_is_watched_where_the_sidecar_is_at_hand(tone, tmp_path):
    import hashlib

    path, digest = tmp_path / "tone.wav", hashlib.sha256(tone).hexdigest()
    (tmp_path / "tone.json").write_text(
        json.dumps({"mouthpiece": "0", "provenance": {"file": "tone.wav", "marked": True, "sha256": digest}})
    )
    path.write_bytes(tone)
    assert verify_file(path)["state"] == "intact"
    for place in range(0, len(tone), 61):
        path.write_bytes(flipped(tone, place))
        assert verify_file(path)["state"] == "tampered", place


@pytest.mark.parametrize("spoil", ["cut", "longer", "manifest", "replaced"])
def test_cut_and_lengthened_files_and_changed_manifests_are_told(film, tmp_path, spoil):
    path = tmp_path / "film.mp4"
    start, stop = next((start, stop) for name, start, stop in boxes(film) if name == b"uuid")
    at = film.index(b"trainedAlgorithmicMedia", start, stop)
    changes = {
        "cut": film[:-10],
        "longer": film + film[-2000:],
        "manifest": film[:at] + b"t" + film[at + 1 :].replace(b"trainedAlgorithmicMedia", b"x" * 23, 1),
        "replaced": film[: at + 2] + b"??" + film[at + 4 :],
    }
    path.write_bytes(changes[spoil])
    found = verify_file(path)
    assert found["state"] == "tampered" and found["problems"]


def test_a_manifest_beside_another_file_is_told(tmp_path):
    paths = [tmp_path / f"{name}.mkv" for name in "ab"]
    for number, path in enumerate(paths):
        with VideoWriter(path, Fraction(25), 32, 32) as writer:
            writer.write(np.full((32, 32, 3), 50 * number, np.uint8))
        finalize_output(path, "animate", OPTIONS, (), {})
        path.with_suffix(".json").unlink()
    assert verify_file(paths[0])["state"] == "intact"
    paths[1].with_suffix(".c2pa").rename(paths[0].with_suffix(".c2pa"))
    found = verify_file(paths[0])
    assert found["state"] == "tampered" and "dataHash.mismatch" in found["problems"][0]
    paths[0].with_suffix(".c2pa").write_bytes(b"nonsense")
    assert verify_file(paths[0])["state"] == "tampered"


def test_the_command_tells_and_answers_by_exit_code(call, tmp_path, film):
    path = tmp_path / "film.mp4"
    path.write_bytes(film)
    answer = call("verify", str(path), "-q")
    assert (answer.code, answer.err) == (0, "") and answer.out.startswith(f"{path}: marked and intact\n")
    for line in (
        "generated: trainedAlgorithmicMedia",
        "seconds: all of it",
        "made by: mouthpiece 0.2.0 animate mini",
        "consent: consent not recorded",
    ):
        assert f"  {line}\n" in answer.out
    path.write_bytes(flipped(film, len(film) - 9))
    answer = call("verify", str(path), "--json", "-q")
    document = json.loads(answer.out)
    assert (answer.code, document["ok"], document["result"]["state"]) == (5, False, "tampered")
    assert "bmffHash" in document["result"]["problems"][0] and document["result"]["signature"]["valid"] is True


def test_a_file_without_mark_is_told_as_such(call, tmp_path):
    path = tmp_path / "plain.wav"
    write_sound(path, Sound(np.zeros((1, 1_600), np.float32), 16_000))
    answer = call("verify", str(path), "-q")
    assert answer.code == 5 and f"{path}: no mark." in answer.out and answer.err == ""
    (tmp_path / "plain.json").write_text(
        json.dumps(
            {"mouthpiece": "0", "provenance": {"file": "plain.wav", "marked": False, "reason": "--no-provenance"}}
        )
    )
    assert "made by mouthpiece without mark (--no-provenance)" in call("verify", str(path), "-q").out
    (tmp_path / "plain.json").write_text(
        json.dumps({"mouthpiece": "0", "provenance": {"file": "plain.wav", "marked": True}})
    )
    answer = call("verify", str(path), "-q")
    assert answer.code == 5 and "TAMPERED" in answer.out and "says that it was marked" in answer.out
    path.rename(tmp_path / "plain.wave")
    assert verify_file(tmp_path / "plain.wave")["state"] == "unmarked", (
        "a side-car speaks of the file that it names alone"
    )


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.txt", b"hello"),
        ("a.mp4", b"hello"),
        ("a.mp4", b""),
        ("a.bin", bytes(100)),
        ("a.c2pa", b"hello"),
        ("a.json", b'{"provenance": 1}'),
    ],
)
def test_anything_at_all_is_answered_in_words(call, tmp_path, name, text):
    (tmp_path / name).write_bytes(text)
    answer = call("verify", str(tmp_path / name), "-q")
    assert answer.code == 5 and (answer.out + answer.err).count("\n") >= 1 and "internal error" not in answer.err


@pytest.mark.parametrize("name", ["a.txt", "a.mp4", "a.png", "a.wav"])
def test_what_is_no_media_is_refused_as_such_without_loading_networks(tmp_path, name):
    (tmp_path / name).write_text("Hello there, this is a text.\n" * 3000)
    code = (
        "import sys; from mouthpiece import command_line; code = command_line.main(['verify', sys.argv[1], '-q']);"
        " sys.exit(99 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / name)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout) == (5, "") and "neither video, sound nor picture" in done.stderr


def test_an_unmarked_film_under_a_wrong_ending_is_not_called_tampered_and_a_marked_one_that_broke_is(tmp_path, film):
    write_film(tmp_path / "a.mkv")
    (tmp_path / "a.mkv").rename(tmp_path / "a.mp4")
    assert verify_file(tmp_path / "a.mp4")["state"] == "unmarked"
    (tmp_path / "b.mp4").write_bytes(b"hello" + film[5:])
    assert verify_file(tmp_path / "b.mp4")["state"] == "tampered"


def test_what_is_not_there_is_refused(call, tmp_path):
    assert call("verify", str(tmp_path / "none.mp4"), "-q").code == 5
    assert call("verify", str(tmp_path), "-q").code == 5


def test_names_from_a_manifest_do_not_steer_the_terminal(tmp_path, tone):
    path = tmp_path / "tone.wav"
    path.write_bytes(tone)
    found = verify_file(path)
    found["generated"]["inputs"] = [{"name": "a\x1b[2Jb\nc: intact", "sha256": ""}]
    assert "inputs: a?[2Jb?c: intact" in format_verification(found)

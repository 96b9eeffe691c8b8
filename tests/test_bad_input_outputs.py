"""Outputs that cannot be, disks that fill up, jobs that are stopped: nothing half-written is left, inputs are
untouched.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK
from small_disk import limit_file_size

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.media.writing import VideoWriter

ROOT = Path(__file__).parents[1]


def test_a_folder_that_does_not_exist_is_refused_before_any_work(refuse):
    assert "nowhere does not exist. Give a name in a folder that is there." in refuse(5, output="nowhere/out.mp4")


def test_a_path_through_a_file_is_refused(refuse):
    assert "line.wav is not a folder" in refuse(5, output="line.wav/out.mp4")


def test_a_folder_closed_to_us_is_refused(refuse, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "no permission to write" in refuse(5)


def test_a_folder_in_the_place_of_the_output_is_refused(refuse, desk):
    (desk / "out.mp4").mkdir()
    assert "this is a folder" in refuse(2)


@pytest.mark.parametrize("name", ["out.avi", "out", "out.json"])
def test_an_ending_that_is_no_video_is_refused_and_the_known_ones_are_named(refuse, name):
    assert ".mp4 .mov .mkv" in refuse(2, output=name)


def test_an_output_that_is_there_is_kept_without_force(refuse, desk):
    (desk / "out.mp4").write_bytes(b"precious")
    assert refuse(2) == "out.mp4: already there. Use --force to replace it, or another name."


def test_an_output_that_is_an_input_is_refused_even_with_force(refuse, desk):
    (desk / "sound.mp4").write_bytes((desk / "line.wav").read_bytes())
    (desk / "link.mp4").symlink_to(desk / "sound.mp4")
    for name in ("sound.mp4", "link.mp4"):
        assert "inputs are never touched" in refuse(2, "--force", sound="sound.mp4", output=name)


def test_a_file_of_the_user_where_the_sidecar_would_go_is_never_replaced(refuse, desk):
    (desk / "out.json").write_text('{"mine": 1}')
    assert "was not written by us" in refuse(2, "--force")


def test_two_results_of_one_stem_have_a_sidecar_each_and_each_is_found(call, desk, perform):
    perform(output="take.mov")
    before = (desk / "take.json").read_bytes()
    for words in ((), ("--force",)):
        answer = call(
            "animate",
            str(desk / "portrait.png"),
            str(desk / "line.wav"),
            "-o",
            str(desk / "take.mp4"),
            "--json",
            "-q",
            *QUICK,
            *words,
        )
        assert answer.code == 0 and json.loads(answer.out)["result"]["sidecar"] == str(desk / "take.mp4.json")
        assert (desk / "take.json").read_bytes() == before
    for name, sidecar in (("take.mov", "take.json"), ("take.mp4", "take.mp4.json")):
        assert call("verify", str(desk / name), "-q").code == 0
        with open(desk / name, "ab") as file:
            file.write(b"\0\0\0\x08free")
        assert f"the file is not the one that {sidecar} describes" in call("verify", str(desk / name), "-q").out
    (desk / "take.mov").unlink()
    assert "take.mp4.json: already there" in refuse_again(call, desk), (
        "its own side-car needs --force like the output itself"
    )


def refuse_again(call, desk):
    (desk / "take.mp4").unlink()
    return call(
        "animate", str(desk / "portrait.png"), str(desk / "line.wav"), "-o", str(desk / "take.mp4"), "-q", *QUICK
    ).err


def test_a_disk_that_fills_up_is_said_so_and_nothing_is_left(refuse):
    with limit_file_size(4_000):
        told = refuse(5)
    assert "out.mp4: no space left while writing. Free some space" in told


def test_a_disk_that_fills_up_at_the_sidecar_takes_the_video_with_it(refuse, monkeypatch):
    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert "out.json: no space left" in refuse(5)


def test_a_failed_job_with_force_keeps_the_old_output(call, desk, monkeypatch):
    (desk / "out.mp4").write_bytes(b"precious")

    def broken(self, pixels):
        raise RuntimeError("of the test")

    monkeypatch.setattr(VideoWriter, "write", broken)
    names = (str(desk / name) for name in ("portrait.png", "line.wav"))
    assert call("animate", *names, "-o", str(desk / "out.mp4"), "--size", "96", "--force").code == 1
    assert (desk / "out.mp4").read_bytes() == b"precious" and len(list(desk.iterdir())) == 3


def stop_at(monkeypatch, count, act):
    """Something happens in the place of frame number `count`."""
    write = VideoWriter.write

    def stopping(self, pixels):
        if self.frames == count:
            act()
        write(self, pixels)

    monkeypatch.setattr(VideoWriter, "write", stopping)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_in_the_middle_ends_the_job_with_130_and_leaves_nothing(refuse, monkeypatch, number):
    if signal.getsignal(number) is signal.SIG_IGN:  # the suite may run where it is, as under nohup
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    handlers = signal.getsignal(number)
    stop_at(monkeypatch, 3, lambda: os.kill(os.getpid(), number))
    assert refuse(130) == "interrupted. Nothing half-written is left; run it again to start over."
    assert signal.getsignal(number) is handlers


def test_control_c_reaches_a_process_of_its_own_whose_streams_stay_clean(desk, debug_weights):
    write_sound(desk / "long.wav", Sound(np.zeros((1, 60 * 16_000), np.float32), 16_000))
    before = sorted(desk.iterdir())
    words = [
        "animate",
        "portrait.png",
        "long.wav",
        "-o",
        "out.mp4",
        "--size",
        "96",
        "--fps",
        "60",
        "--progress",
        "none",
    ]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *words],
        cwd=desk,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # the suite itself may run where it is ignored
    )
    while process.poll() is None and not any(path.name.startswith(".out.part") for path in desk.iterdir()):
        time.sleep(0.05)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "mouthpiece: interrupted. Nothing half-written is left; run it again to start over.\n"
    assert sorted(desk.iterdir()) == before

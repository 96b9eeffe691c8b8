"""The contract of the command line: exit codes, streams, JSON, presets, and what each flag promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mouthpiece import command_line
from mouthpiece.engine.config import read_preset
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import read_sound

ROOT = Path(__file__).parents[1]
QUICK = ("--size", "96", "--fps", "12")


@pytest.fixture
def animate(call, desk):
    """`animate` on the desk; words are added."""

    def animate(*words, output="out.mp4", quick=QUICK):
        names = ("portrait.png", "line.wav")
        return call("animate", *(str(desk / n) for n in names), "-o", str(desk / output), *quick, *words)

    return animate


def outputs(desk):
    return sorted(path.name for path in desk.iterdir() if path.name not in ("portrait.png", "line.wav"))


def test_a_result_is_one_line_on_standard_output_and_progress_is_events_on_standard_error(animate, desk):
    code, out, err = animate()
    assert code == 0 and out == f"{desk / 'out.mp4'}: 5 frames, 0.40 s, 96x96\n"
    events = [json.loads(line) for line in err.splitlines()]
    assert [(e["stage"], e["event"]) for e in events if e["event"] != "progress"] == [
        ("listening", "start"),
        ("listening", "end"),
        ("rendering", "start"),
        ("rendering", "end"),
    ]
    assert events[-1]["done"] == events[-1]["total"] == 5


def test_quiet_and_progress_none_say_nothing_and_verbose_says_more(animate):
    assert animate("-q").err == animate("--progress", "none", "--force").err == ""
    notes = [json.loads(line) for line in animate("-v", "--force").err.splitlines()]
    told = " ".join(event["text"] for event in notes if event["event"] == "note")
    assert "cpu" in told and "seed=0" in told and "face_source=mtcnn" in told
    assert animate("-v", "-q", "--force").err == ""


def test_progress_as_a_bar_is_no_json(animate):
    err = animate("--progress", "bar").err
    assert "rendering" in err and "0/5" in err and "{" not in err


def test_with_json_the_result_is_one_document(animate, desk):
    code, out, _ = animate("--json", "-q")
    document = json.loads(out)
    assert code == 0 and out.count("\n") == 1 and document["ok"] is True
    result = document["result"]
    assert result["output"] == str(desk / "out.mp4") and result["sidecar"] == str(desk / "out.json")
    ours, others = ({name for name in result["models"] if (" " in name) is packaged} for packaged in (False, True))
    assert ours == {"motion", "phonetic", "core", "renderer", "finder", "matting"}
    assert {name.split()[0] for name in others} == {"facenet-pytorch", "silero-vad"} and {
        len(digest) for digest in result["models"].values()
    } == {64}
    assert result["facts"]["frames"] == 5 and result["settings"]["fps"] == "12"
    sidecar = json.loads((desk / "out.json").read_text())
    assert {key: result[key] for key in sidecar} == sidecar
    assert [Path(row["path"]).name for row in sidecar["inputs"]] == ["portrait.png", "line.wav"]


BAD = [
    (("animate", "{}/none.png", "{}/line.wav", "-o", "{}/out.mp4"), 5, "refused", "no_such_file"),
    (("animate", "{}/portrait.png", "{}/line.wav", "-o", "{}/no/out.mp4"), 5, "write", "no_folder"),
    (("animate", "{}/portrait.png", "{}/line.wav", "-o", "{}/out.mp4", "--fps", "0"), 2, "usage", "bad_option"),
    (("animate", "{}/portrait.png", "{}/line.wav", "-o", "{}/out.mp4", "--sise", "9"), 2, "usage", "unknown_option"),
    (("animate", "{}/portrait.png", "{}/line.wav"), 2, "usage", "usage"),
    (("models", "path", "nothing"), 2, "usage", "no_model"),
]


@pytest.mark.parametrize("words, code, kind, name", BAD, ids=[row[3] for row in BAD])
def test_with_json_an_error_is_one_document_of_the_promised_shape(call, desk, words, code, kind, name):
    answer = call(*(word.format(desk) for word in words), "--json")
    error = json.loads(answer.out)["error"]
    assert answer.code == code and json.loads(answer.out)["ok"] is False
    assert list(error) == ["kind", "code", "message", "hint", "retryable"]
    assert (error["kind"], error["code"], error["retryable"]) == (kind, name, False)
    assert answer.err == f"mouthpiece: {error['message']} {error['hint']}".strip() + "\n"


def test_an_interruption_is_a_document_too(animate, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mouthpiece.lipsync.portrait.pipeline.prepare_portrait", stop)
    code, out, _ = animate("--json", "-q")
    assert code == 130 and json.loads(out)["error"]["kind"] == "interrupted"


def test_a_fault_of_ours_is_one_sentence_and_shows_its_trace_only_with_vv(animate, desk, monkeypatch):
    def fault(*_):
        raise ZeroDivisionError("of the test")

    monkeypatch.setattr("mouthpiece.lipsync.portrait.pipeline.prepare_portrait", fault)
    code, out, err = animate("-q")
    assert code == 1 and out == "" and err.count("\n") == 1
    assert "internal error: ZeroDivisionError: of the test. Run again with -vv" in err
    assert "Traceback" in animate("-vv").err and outputs(desk) == []


def test_a_dry_run_checks_everything_and_writes_nothing(animate, desk, monkeypatch):
    plan = json.loads(animate("--dry-run", "--json").out)["result"]
    assert outputs(desk) == [] and plan["dry_run"] is True
    made = json.loads(animate("--json", "-q").out)["result"]
    assert {key: made["facts"][key] for key in plan["facts"]} == plan["facts"]
    assert plan["settings"] == made["settings"]
    assert animate("--dry-run").code == 2
    assert "would write" in animate("--dry-run", "--force").out
    (desk / "portrait.png").write_bytes(b"")
    assert animate("--dry-run", output="other.mp4").code == 5
    monkeypatch.setenv("MOUTHPIECE_WEIGHTS_DIR", str(desk))
    assert animate("--dry-run", output="other.mp4").code == 5


def test_missing_weights_are_told_with_exit_code_three_before_work(animate, desk, monkeypatch):
    monkeypatch.setenv("MOUTHPIECE_WEIGHTS_DIR", str(desk))
    for words in ((), ("--dry-run",)):
        code, out, err = animate(*words)
        assert code == 3 and out == "" and "MOUTHPIECE_WEIGHTS_DIR" in err and err.count("\n") == 1
    assert outputs(desk) == []


def test_force_replaces_an_earlier_result_and_its_sidecar(animate, desk):
    animate()
    before = (desk / "out.mp4").read_bytes()
    assert animate("--seed", "5").code == 2 and (desk / "out.mp4").read_bytes() == before
    assert animate("--seed", "5", "--force").code == 0 and (desk / "out.mp4").read_bytes() != before
    assert json.loads((desk / "out.json").read_text())["seed"] == 5


def test_the_same_call_gives_the_same_file_and_so_does_the_sidecar_as_preset(animate, desk):
    odd = ("--seed", "3", "--size", "80", "--fps", "30000/1001", "--head-speed", "1.5", "--no-gate", "--quality", "30")
    bare = "--no-provenance"  # two signatures of the same thing differ
    animate(*odd, bare, output="a.mp4", quick=())
    animate(*odd, bare, output="b.mp4", quick=())
    animate("--preset", str(desk / "a.json"), bare, output="c.mp4", quick=())
    assert (desk / "a.mp4").read_bytes() == (desk / "b.mp4").read_bytes() == (desk / "c.mp4").read_bytes()
    assert read_preset(str(desk / "c.json")) == read_preset(str(desk / "a.json"))


def test_flags_rule_over_a_preset_and_presets_over_defaults(animate, desk):
    (desk / "mine.toml").write_text('size = 80\nseed = 4\nfps = "25"\n')
    words = ("--preset", str(desk / "mine.toml"), "--seed", "0", "--json", "--dry-run")
    settings = json.loads(animate(*words, quick=()).out)["result"]["settings"]
    assert (settings["size"], settings["seed"], settings["fps"], settings["steps"]) == (80, 0, "25", 8)


def test_a_packaged_preset_is_known_by_name(animate):
    assert animate("--preset", "animate", "--dry-run").code == 0


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("sise = 80", "Did you mean size?"),
        ("size = 9", "--size 9: need 64 to 4096 px"),
        ("size =", "cannot be read as settings"),
        ('fps = "source"', "no frame rate to follow"),
    ],
)
def test_a_preset_with_nonsense_is_a_usage_problem(animate, desk, text, wanted):
    (desk / "mine.toml").write_text(text)
    code, _, err = animate("--preset", str(desk / "mine.toml"), quick=())
    assert code == 2 and wanted in err


@pytest.mark.parametrize(
    "words, wanted",
    [
        (("--fps", "0"), "--fps 0: need a rate such as 25, 29.97 or 30000/1001"),
        (("--fps", "-5"), "need a rate"),
        (("--fps", "source"), "--fps source: a portrait has no frame rate to follow. Give a number"),
        (("--voice", "af_heart"), "--voice af_heart: nothing is spoken, the sound is given"),
        (("--size", "63"), "need 64 to 4096 px"),
        (("--size", "wide"), "--size wide: need a whole number"),
        (("--steps", "0"), "need 1 to 100"),
        (("--expression", "nan"), "need 0.0 to 3.0"),
        (("--face", "smallest"), "Give largest, an index"),
        (("--frame", "half"), "need full or crop"),
        (("--model", "huge"), "need mini"),
        (("--device", "tpu"), "--device tpu: need auto, cpu"),
        (("--preset", "nothing"), "no such file"),
        (("--preset", ""), "no such file"),
        (("--sise", "3"), "animate: there is no option --sise. Did you mean --size?"),
        (("--levle", "1"), "animate: there is no option --levle. Did you mean --normalize-mouth?"),
        (("--siz", "96"), "there is no option --siz"),
        (("--progress", "loud"), "invalid choice: 'loud'"),
        (("extra.wav",), "unrecognized arguments: extra.wav"),
    ],
    ids=" ".join,
)
def test_nonsense_on_the_command_line_is_exit_code_two_and_one_sentence(animate, desk, words, wanted):
    code, out, err = animate(*words)
    assert code == 2 and out == "" and err.count("\n") == 1 and wanted in err
    assert outputs(desk) == []


def test_without_a_known_command_the_known_ones_are_named(call):
    assert call().code == 2
    answer = call("animat")
    assert answer.code == 2 and all(
        f"'{name}'" in answer.err for name in ("animate", "evaluate", "models", "doctor", "train")
    )


def test_help_and_version_are_results(call):
    assert call("--version")[:2] == (0, "mouthpiece 0.2.0\n")
    code, out, err = call("animate", "--help")
    assert code == 0 and err == ""
    for word in ("--fps RATE", "--frame full|crop", "--seed N", "--no-gate", "--size PX", "[0.0 to 3.0; default 1.0]"):
        assert word in " ".join(out.split()), word


def test_video_formats_other_than_mp4_work(animate, desk):
    for name in ("out.mov", "out2.mkv"):
        assert animate("-q", output=name).code == 0
        assert probe(desk / name).frames in (5, None) and read_sound(desk / name).duration >= 0.4


def test_evaluate_measures_a_result_and_draws_its_sheet(animate, call, desk):
    animate("-q", "--fps", "25", "--size", "160", quick=())
    words = ("evaluate", str(desk / "out.mp4"), "--sheet", str(desk / "sheet.png"), "-q")
    code, out, err = call(*words, "--portrait", str(desk / "portrait.png"), "--json")
    facts = json.loads(out)["result"]
    assert (code, err) == (0, "") and facts["frames"] == 10 and facts["frames_match"] is True
    assert (desk / "sheet.png").stat().st_size > 1000
    assert call(*words).code == 2 and "frames" in call(*words, "--force").out


@pytest.mark.parametrize(
    "words, code, wanted",
    [
        (("none.mp4",), 5, "no such file"),
        (("portrait.png",), 5, "Give a "),
        (("line.wav",), 5, "no moving picture"),
        (("line.wav", "--sheet", "sheet.txt"), 2, "Use one of .png"),
        (("line.wav", "--project", "portrait.png"), 5, "this is a picture"),
        (("line.wav", "--sheet", "no/sheet.png"), 5, "does not exist"),
        (
            ("line.wav", "--portrait", "portrait.png", "--sheet", "portrait.png", "--force"),
            2,
            "inputs are never touched",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_evaluate_refuses_what_it_cannot_measure_or_write(call, desk, monkeypatch, words, code, wanted):
    monkeypatch.chdir(desk)
    answer = call("evaluate", *words, "-q")
    assert (answer.code, answer.out) == (code, "") and wanted in answer.err and answer.err.count("\n") == 1
    assert outputs(desk) == []


def test_evaluate_refuses_what_is_no_project_before_it_looks_at_the_video(call, desk):
    (desk / "other.json").write_text('{"settings": {}}')
    answer = call("evaluate", str(desk / "line.wav"), "--project", str(desk / "other.json"), "-q")
    assert (answer.code, answer.out) == (5, "") and "other.json: not a valid project" in answer.err


def test_documents_are_strict_json_whatever_was_measured():
    import numpy as np
    import torch

    facts = {"a": float("nan"), "b": np.float32(0.5), "c": (Path("x"), torch.tensor([1.0, float("inf")])), 4: None}
    assert json.loads(command_line.to_json(facts)) == {"a": None, "b": 0.5, "c": ["x", [1.0, None]], "4": None}


def run(*words, cwd, **settings):
    return subprocess.run([sys.executable, str(ROOT / "cli.py"), *words], cwd=cwd, capture_output=True, **settings)


def test_a_process_of_its_own_keeps_native_noise_off_both_streams(desk, debug_weights):
    from PIL import Image

    Image.new("RGB", (80, 80), (90, 120, 60)).save(desk / "blank.png")
    done = run("animate", "blank.png", "line.wav", "-o", "out.mp4", "--json", cwd=desk, text=True)
    assert done.returncode == 5 and json.loads(done.stdout)["error"]["code"] == "no_face"
    assert done.stderr.startswith("mouthpiece: blank.png: no face found") and done.stderr.count("\n") == 1
    assert not (desk / "out.mp4").exists()


HEAVY = {"torch._dynamo", "torchvision", "facenet_pytorch", "sympy", "scipy.signal", "scipy.stats", "mediapipe"}
HEAVY |= {"diffusers", "transformers"}
STARTED = f"""
import sys
from mouthpiece.batch.worker import run_request
from mouthpiece.use_cases import USE_CASES
inputs = dict(portrait="portrait.png", sound="line.wav", output="out.mp4")
code, _ = run_request(USE_CASES["animate"].from_fields(inputs | dict(size=96, fps=12)))
print(code, sorted({HEAVY} & set(sys.modules)))
"""


def test_an_animation_loads_no_library_that_it_does_not_use(desk, debug_weights):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", STARTED], cwd=desk, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.stdout.splitlines() == ["0 []"], done.stderr


def test_a_reader_that_has_left_is_no_reason_for_a_trace(desk):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), "models", "list"],
        cwd=desk,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert process.communicate()[1] == "" and process.returncode == 1


@pytest.mark.parametrize(
    "words", [("evaluate", "-line.wav"), ("animate", "portrait.png", "-line.wav", "-o", "out.mp4")]
)
def test_a_file_whose_name_begins_with_a_dash_is_told_apart_from_an_option(call, desk, monkeypatch, words):
    monkeypatch.chdir(desk)
    (desk / "line.wav").rename(desk / "-line.wav")
    answer = call(*words)
    assert answer.code == 2 and "Write ./-line.wav." in answer.err


def test_an_option_behind_two_dashes_is_told_where_it_stands(call):
    assert "Options stand before --." in call("verify", "--", "a.mp4", "--quiet").err

"""`import mouthpiece`: the examples of its docstrings, docs/api.md, and what a call has in common with a command."""

import doctest
import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import mouthpiece
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.job import OutputSettings, Result
from mouthpiece.use_cases import USE_CASES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
FUNCTIONS = {name: getattr(mouthpiece, name) for name in USE_CASES}
ERRORS = [getattr(mouthpiece, name) for name in mouthpiece.__all__ if name.endswith("Error")]
RULES = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


@pytest.fixture(scope="session")
def sound_weights(tmp_path_factory):
    """A folder of random MMAudio weights of debug size."""
    from mouthpiece.voice.mmaudio.random_weights import write_random_weights

    return write_random_weights(tmp_path_factory.mktemp("mmaudio"), "mmaudio-small-16k")


@pytest.fixture
def folder(desk, debug_weights, puppet, voice, monkeypatch):
    """The current folder, with what the examples name: portrait.png, line.wav, film.mp4, speech.wav, script.srt."""
    from mouthpiece.engine.audio.sound import Sound, write_sound

    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 38_400)).astype(np.float32)
    with VideoWriter(desk / "film.mp4", Fraction(25), 192, 192, Sound(noise, 48_000)) as writer:
        for opening in np.abs(np.sin(np.arange(20) / 2)):
            writer.write(puppet.frame(opening))
    write_sound(desk / "speech.wav", Sound(voice, 48_000))
    (desk / "script.srt").write_text("1\n00:00:00,100 --> 00:00:00,600\nANNA: Hello.\n", encoding="utf-8")
    monkeypatch.chdir(desk)
    return desk


def run_examples(object_, name):
    tests = [test for test in doctest.DocTestFinder(recurse=False).find(object_, name) if test.examples]
    assert tests, f"{name} has no example"
    report = []
    for test in tests:
        failed, _ = doctest.DocTestRunner(optionflags=RULES, verbose=False).run(test, out=report.append)
        assert failed == 0, "".join(report)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_of_each_function_give_what_they_say(name, folder, request):
    if name == "sound":
        os.symlink(request.getfixturevalue("sound_weights"), folder / "mmaudio")
    run_examples(FUNCTIONS[name], name)


def test_the_example_of_the_package_gives_what_it_says(folder):
    run_examples(mouthpiece, "mouthpiece")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_page_shows_the_signature_of_each_function(name):
    blocks = re.findall(r"```python\n(\w+\(.*?\) -> \w+)\n```", PAGE, re.DOTALL)
    written = {block.partition("(")[0]: re.sub(r"\s+", " ", block) for block in blocks}
    signature = str(inspect.signature(FUNCTIONS[name])).replace("'", "")
    assert written[name].replace("( ", "(").replace(", )", ")") == f"{name}{signature}"
    assert set(written) == set(FUNCTIONS)


def test_the_page_explains_what_is_exported_the_fields_of_a_result_and_the_codes_of_errors():
    for name in mouthpiece.__all__:
        assert f"`{name}`" in PAGE or f"\n{name}(" in PAGE, name
    for kind in (Result, mouthpiece.ProgressEvent, OutputSettings):
        for field in fields(kind):
            assert f"`{field.name}`" in PAGE, (kind.__name__, field.name)
    for error in ERRORS:
        assert re.search(rf"^\| `{error.__name__}` \| {int(error.exit_code)} \|", PAGE, re.MULTILINE), error


def test_every_function_has_a_command_of_its_name_and_takes_its_inputs(call):
    from mouthpiece.command_line import get_parser

    for name, case in USE_CASES.items():
        known = {action.dest for action in get_parser(name)._actions}
        assert {argument.name for argument in case.arguments} <= known, name
        parameters = inspect.signature(FUNCTIONS[name]).parameters
        assert {argument.name for argument in case.arguments} <= set(parameters), name


def test_a_call_writes_what_the_command_writes(folder, call):
    options = dict(size=96, fps="12", seed=3, head_speed=1.5)
    result = mouthpiece.animate("portrait.png", "line.wav", "a.mp4", provenance=False, **options)
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    answer = call("animate", "portrait.png", "line.wav", "-o", "b.mp4", "--no-provenance", "--json", "-q", *words)
    assert (folder / "a.mp4").read_bytes() == (folder / "b.mp4").read_bytes()
    document = json.loads(answer.out)["result"]
    assert {key: result.document[key] for key in ("settings", "facts", "models", "command", "seed")} == {
        key: document[key] for key in ("settings", "facts", "models", "command", "seed")
    }
    assert result.sidecar == Path("a.json") and json.loads((folder / "a.json").read_text())["facts"] == result.facts


def test_progress_is_told_to_a_function_from_nothing_to_all(folder):
    events = []
    mouthpiece.animate("portrait.png", "line.wav", "out.mp4", size=96, fps=12, progress=events.append)
    rendering = [event for event in events if event.stage == "rendering"]
    assert [(rendering[k].done, rendering[k].total, rendering[k].unit) for k in (0, -1)] == [
        (0, 5, "frames"),
        (5, 5, "frames"),
    ]
    assert [event.done for event in rendering] == sorted(event.done for event in rendering)


def test_nothing_is_printed_and_notes_are_in_the_result(folder, capfd):
    result = mouthpiece.transcribe("speech.wav", "speech.srt", model="pocketsphinx", dry_run=True)
    assert capfd.readouterr().out == "" and result.notes[0].startswith("pocketsphinx: ")
    assert result.output is None and not (folder / "speech.srt").exists()


def test_each_call_names_the_models_of_its_own(folder):
    mouthpiece.animate("portrait.png", "line.wav", "out.mp4", size=96, fps=12)
    result = mouthpiece.transcribe("speech.wav", "speech.srt", model="pocketsphinx")
    assert "renderer" not in result.document["models"]


WRONG = [
    (dict(expresion=1.4), mouthpiece.UsageError, "Did you mean expression"),
    (dict(expression=9), mouthpiece.UsageError, "--expression 9.0: need 0.0 to 3.0"),
    (dict(output=None), mouthpiece.UsageError, "output is missing"),
    (dict(output="line.wav"), mouthpiece.UsageError, "line.wav"),
    (dict(portrait="none.png"), mouthpiece.InvalidInputError, "none.png"),
    (dict(output="no/out.mp4"), mouthpiece.OutputError, "no"),
    (dict(device="cpu", text="Hello."), mouthpiece.UsageError, "one of them"),
    (dict(overwrite="perhaps"), mouthpiece.UsageError, "--overwrite perhaps: need yes or no"),
]


@pytest.mark.parametrize("values, kind, sentence", WRONG, ids=[next(iter(row[0])) for row in WRONG])
def test_errors_are_typed_and_name_what_was_wrong(folder, values, kind, sentence):
    with pytest.raises(kind, match=re.escape(sentence)):
        mouthpiece.animate(**(dict(portrait="portrait.png", sound="line.wav", output="out.mp4") | values))
    assert not (folder / "out.mp4").exists()


def test_missing_weights_are_an_error_of_their_own(folder, monkeypatch):
    monkeypatch.setenv("MOUTHPIECE_WEIGHTS_DIR", str(folder))
    with pytest.raises(mouthpiece.MissingDependencyError):
        mouthpiece.animate("portrait.png", "line.wav", "out.mp4")


def test_a_request_is_made_of_text_under_names_as_tables_spell_them(folder):
    case = USE_CASES["animate"]
    rows = {"portrait": "portrait.png", "sound": "line.wav", "output": "out.mp4", "head-speed": "1.5", "gate": "no"}
    request = case.from_fields(rows | {"force": "yes", "no-provenance": "true", "preset": None}, folder)
    assert request.portrait == folder / "portrait.png" and request.output == folder / "out.mp4"
    assert (request.options.head_speed, request.options.gate) == (1.5, False)
    assert request.settings == OutputSettings(overwrite=True, provenance=False)
    assert request.given == {"head_speed": "1.5", "gate": "no"} and request.inputs == (
        folder / "portrait.png",
        folder / "line.wav",
    )


def test_a_preset_lies_under_what_is_given_and_is_found_from_the_base(folder):
    (folder / "own.toml").write_text("expression = 2.0\nhead_speed = 0.5\n", encoding="utf-8")
    values = dict(portrait="portrait.png", sound="line.wav", output="out.mp4", preset="own.toml", expression=1.1)
    request = USE_CASES["animate"].from_fields(values, folder)
    assert (request.options.expression, request.options.head_speed) == (1.1, 0.5)
    assert request.given == {"expression": 1.1}


def test_functions_and_modules_share_their_names():
    for name, function in FUNCTIONS.items():
        assert getattr(mouthpiece, name) is function and callable(function)
        assert import_module(f"mouthpiece.{name}") is sys.modules[f"mouthpiece.{name}"]
    import mouthpiece.lipsync.options as options

    assert mouthpiece.lipsync.options is options
    assert mouthpiece.animate.run_animate is import_module("mouthpiece.animate").run_animate


START = """
import sys
from mouthpiece.command_line import main
main({words})
print(*[name for name in {heavy} if name in sys.modules])
"""
HEAVY = ("torch", "numpy", "cv2", "scipy", "tqdm", "av")


@pytest.mark.parametrize("words", (["--help"], ["--version"], ["animate", "--help"]), ids=" ".join)
def test_help_loads_nothing_heavy(words):
    code = START.format(words=words, heavy=HEAVY)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == ""


def test_import_of_the_package_loads_nothing_heavy():
    code = f"import sys, mouthpiece; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"

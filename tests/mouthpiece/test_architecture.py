"""The rules of the house that can be read off the source: who imports whom, who may print, how long things are."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "engine": set(),
    "face": {"engine"},
    "lipsync": {"engine", "face"},
    "voice": {"engine", "face"},
    "evaluation": {"engine", "face", "lipsync", "voice"},
    "training": {"engine", "face", "lipsync", "voice", "evaluation"},
    "mouthpiece": {"engine", "face", "lipsync", "voice", "evaluation", "training"},
}
ROOMS = tuple(MAY_IMPORT)
# tracking, crops, and which face is meant
VOICE_MAY_USE = tuple(f"mouthpiece.face.{name}" for name in ("track", "film_tracks", "crop", "detect"))
LONGEST_FILE, LONGEST_FUNCTION, MOST_POSITIONAL = 400, 60, 6
EXCEPTIONS = {}  # (path, name or "") -> why it may be longer


def tracked(*folders):
    """Python files under version control in some folders; all of them where there is no version control."""
    answer = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True)
    names = answer.stdout.split() if answer.returncode == 0 else []
    paths = [ROOT / name for name in names] or [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(p for p in paths if p.exists() and p.relative_to(ROOT).parts[0] in folders)


SOURCES = tracked(*ROOMS)
ALL = tracked(*ROOMS, "benchmarks", "examples", "tests")


def named(path):
    return path.relative_to(ROOT).as_posix()


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), named(path))


def imported(tree):
    """Full dotted names of everything imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name):
    """The room a dotted name lies in: that of mouthpiece.engine.x is engine; None outside of the package."""
    parts = name.split(".")
    if parts[0] != "mouthpiece":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "mouthpiece"


def strangers(room, tree):
    """Imports that a room may not make."""
    found = set()
    for name in imported(tree):
        other = room_of(name)
        if name in ("mouthpiece", "mouthpiece.configs") or other is None:
            continue  # `from mouthpiece import engine` gives mouthpiece.engine too
        if other != room and other not in MAY_IMPORT[room]:
            found.add(name)
        if room == "voice" and other == "face" and name != "mouthpiece.face" and not name.startswith(VOICE_MAY_USE):
            found.add(name)
    return found


def test_there_are_sources_to_look_at():
    assert {named(path).split("/")[0] for path in SOURCES} == set(ROOMS)


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_rooms_import_only_the_rooms_they_may(path):
    assert strangers(named(path).split("/")[0], tree_of(path)) == set()


def test_the_import_rules_catch_what_they_should():
    cases = {
        "engine": (
            "import mouthpiece.face.crop",
            "from mouthpiece.lipsync import portrait",
            "from mouthpiece.job import Job",
        ),
        "face": ("from mouthpiece.lipsync.motion.speech_to_motion import x", "def f():\n    import mouthpiece.voice"),
        "lipsync": ("import mouthpiece.voice.plan.speech_plan", "from mouthpiece.evaluation import video_metrics"),
        "voice": (
            "import mouthpiece.lipsync",
            "from mouthpiece.face.measure import measure_frames",
            "from mouthpiece.face import composite",
        ),
        "evaluation": ("from mouthpiece.training.core import train", "from mouthpiece import command_line"),
    }
    for room, lines in cases.items():
        for line in lines:
            assert strangers(room, ast.parse(line)), (room, line)
    allowed = "from mouthpiece.face.track import Track\nfrom mouthpiece.face import crop\nimport mouthpiece.engine.core"
    assert not strangers("voice", ast.parse(allowed))
    assert not strangers("lipsync", ast.parse("import mouthpiece.face.crop, mouthpiece.engine.media.reading, numpy"))


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_imports_between_rooms_are_absolute(path):
    relative = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom) and node.level > 1]
    assert relative == []


def test_only_media_knows_pyav():
    users = {named(path) for path in SOURCES if any(name.split(".")[0] == "av" for name in imported(tree_of(path)))}
    assert users and {str(Path(user).parent) for user in users} == {"engine/media"}


def test_only_device_names_a_kind_of_gpu():
    users = {named(path) for path in SOURCES if "cuda" in path.read_text(encoding="utf-8").lower()}
    assert users == {"engine/device.py"}


def test_only_the_door_prints():
    printing = {
        named(path)
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing <= {"mouthpiece/command_line.py"}


@pytest.mark.parametrize("path", ALL, ids=named)
def test_files_and_functions_are_short_enough_to_read(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE or (named(path), "") in EXCEPTIONS, f"{lines} lines"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (named(path), node.name) not in EXCEPTIONS:
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name}: {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_functions_take_at_most_six_positional_parameters(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (named(path), node.name) not in EXCEPTIONS:
            names = [argument.arg for argument in node.args.posonlyargs + node.args.args]
            count = len([name for name in names if name not in ("self", "cls")])
            assert count <= MOST_POSITIONAL, f"{node.name}: {count}"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nothing_is_left_for_later(path):
    text = path.read_text(encoding="utf-8")
    for word in ("TODO", "FIXME", "NotImplemented"):
        assert word not in text


def test_every_exception_is_still_needed_and_says_why():
    for (name, function), reason in EXCEPTIONS.items():
        assert reason and (ROOT / name).exists(), name
        if function:
            assert any(getattr(node, "name", "") == function for node in ast.walk(tree_of(ROOT / name))), function

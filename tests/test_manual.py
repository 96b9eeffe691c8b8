"""The manual names every command, every flag and every default that the program has, and no others."""

import argparse
import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from mouthpiece import command_line
from mouthpiece.engine.config import to_flag
from mouthpiece.engine.errors import ExitCode
from mouthpiece.use_cases import USE_CASES

DOCS = Path(__file__).parents[1] / "docs"
README = (DOCS.parent / "README.md").read_text(encoding="utf-8")
MANUAL = (DOCS / "commands.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", MANUAL, re.MULTILINE))
SHARED = "".join(text for title, text in SECTIONS.items() if title.startswith("What "))
BORROWED = {"dub": "speak"}  # whose options a section does not say again
ELSEWHERE = {"batch": "batch.md"}  # where the options of a section stand
PACKAGED_PRESETS = [path.stem for path in (DOCS.parent / "configs" / "presets").glob("*.toml")]
COMMANDS = list(command_line.load_commands())


def text_of(command):
    """What the manual says of a command, in its section or in the page that it names."""
    return SECTIONS[command] if command not in ELSEWHERE else (DOCS / ELSEWHERE[command]).read_text(encoding="utf-8")


def table_of(text):
    """{flag: default as printed} of the tables of options: rows of four cells that begin with a flag."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `--")]
    return {re.match(r" `(--[a-z-]+)", row[0])[1]: row[1].strip() for row in rows if len(row) == 4}


def printed(value):
    """A default as the manual writes it: on, off, nothing for what is not set, no needless decimals."""
    return (
        {True: "on", False: "off"}[value]
        if isinstance(value, bool)
        else ""
        if value is None
        else str(value).removesuffix(".0")
    )


def options_of(command):
    """{flag: default as printed} of the option dataclasses of a command."""
    classes = command_line.get_parser(command).get_default("option_classes") or ()
    return {to_flag(field.name): printed(field.default) for cls in classes for field in dataclasses.fields(cls)}


def flags_of(command):
    """Flags that the help page of a command shows; former names are hidden."""
    shown = [action for action in command_line.get_parser(command)._actions if action.help != argparse.SUPPRESS]
    return {flag for action in shown for flag in action.option_strings}


def test_every_command_has_its_section_and_every_section_its_command():
    titles = [title for title in SECTIONS if not title.startswith("What ") and title != "Environment"]
    assert titles == COMMANDS
    for command in COMMANDS:
        assert re.search(rf"^\| \[`mouthpiece {command}\b", MANUAL, re.MULTILINE), command


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ELSEWHERE])
def test_a_table_of_options_has_the_names_and_defaults_of_the_program(command):
    borrowed = options_of(BORROWED[command]) if command in BORROWED else {}
    wanted = {flag: default for flag, default in options_of(command).items() if flag not in borrowed}
    assert table_of(SECTIONS[command]) == wanted


@pytest.mark.parametrize("command", COMMANDS)
def test_a_section_names_every_flag_of_its_command_and_no_other(command):
    flags = flags_of(command)
    told = text_of(command) + SHARED + (text_of(BORROWED[command]) if command in BORROWED else "")
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", told))
    assert flags - named - {f"--no-{flag[2:]}" for flag in named} == set()
    every = set().union(*map(flags_of, COMMANDS))
    assert set(re.findall(r"`(--[a-z][a-z-]*)", text_of(command))) <= every


def test_example_lines_are_understood():
    blocks = re.findall(r"^```\n(.*?)^```", MANUAL + README, re.MULTILINE | re.DOTALL)
    examples = [line for block in blocks for line in block.splitlines() if line.startswith("mouthpiece ")]
    assert {shlex.split(line)[1] for line in examples} >= set(COMMANDS) - {"doctor", "train"}
    for line in examples:
        args = command_line.build_parser().parse_args(shlex.split(line, comments=True)[1:])
        if args.command in USE_CASES:
            own = args.preset if getattr(args, "preset", None) in PACKAGED_PRESETS else None
            USE_CASES[args.command].from_namespace(argparse.Namespace(**vars(args) | {"preset": own}))


def test_every_exit_code_is_explained():
    for code in ExitCode:
        assert f"| {int(code)} |" in MANUAL, code


def test_every_variable_of_the_environment_is_explained():
    root = DOCS.parent
    found = set()
    for folder in ("engine", "face", "lipsync", "voice"):
        for path in (root / folder).rglob("*.py"):
            found |= set(re.findall(r'"(MOUTHPIECE_[A-Z_]+)"', path.read_text(encoding="utf-8")))
    assert found and found == set(re.findall(r"`(MOUTHPIECE_[A-Z_]+)`", SECTIONS["Environment"]))


def test_links_of_the_manual_lead_somewhere():
    for page in [DOCS / "commands.md", DOCS.parent / "README.md"]:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if "://" not in target:
                path, _, place = target.partition("#")
                assert not path or (page.parent / path).exists(), target
                assert not place or path or place in SECTIONS, target

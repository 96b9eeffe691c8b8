"""The table of script formats: one row is all that a new format needs."""

import argparse
from fractions import Fraction as F

import pytest

from mouthpiece.commands import speak, transcribe
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.voice.scripts import formats
from mouthpiece.voice.scripts.formats import detect_format, read_script, read_script_file, write_script
from mouthpiece.voice.scripts.script import Line, Script
from mouthpiece.voice.scripts.script_format import Match, ScriptFormat, ScriptReadOptions

LINES = (Line("1", "Anna", F(1), F(2), "Hello."), Line("2", "Bob", F(3), F(4), "Yes."))


def read_toy(file, options):
    rows = (row.split("~") for row in file.text.splitlines()[1:])
    return Script(tuple(Line(i, who, F(a), F(b), text) for i, who, a, b, text in rows), source=file.name)


def sniff_toy(text, suffix):
    return Match.YES if text.startswith("TOY\n") else Match.NO


def write_toy(script, suffix):
    rows = (f"{line.id}~{line.speaker}~{line.start}~{line.end}~{line.text}" for line in script.lines)
    return "\n".join(("TOY", *rows)) + "\n"


TOY = ScriptFormat("toy", "toy script", (".toy", ".toyold"), read_toy, sniff_toy, None, write_toy, (".toyold",))
BINARY = ScriptFormat(
    "bits",
    "bit script",
    (".bits",),
    lambda file, options: Script((Line("1", file.raw[4:].decode("utf-16-le"), F(0), F(1), "x"),)),
    sniff_bytes=lambda raw: raw.startswith(b"\0BIT"),
    write=lambda script, suffix: b"\0BIT" + script.lines[0].speaker.encode("utf-16-le"),
)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, TOY))


def get_help(command):
    parser = argparse.ArgumentParser()
    command.COMMAND.add(parser)
    return " ".join(parser.format_help().split())


def test_one_row_makes_a_format_readable_writable_and_known_to_help_and_errors(tmp_path, toy):
    path = write_script(Script(LINES), tmp_path / "a.toy")
    assert path.read_text().startswith("TOY\n1~Anna~1~2~Hello.\n") and read_script(path).lines == LINES
    assert read_script_file(path.rename(tmp_path / "a.srt")).format is TOY
    assert "toy script" in get_help(speak) and ".toy" in get_help(transcribe) and ".toyold" not in get_help(transcribe)
    with pytest.raises(UsageError) as wrong_suffix:
        write_script(Script(LINES), tmp_path / "a.toyold")
    assert wrong_suffix.value.hint.endswith(" .toy.")
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4")
    with pytest.raises(InvalidInputError) as no_script:
        read_script(tmp_path / "a.pdf")
    assert "or toy script" in no_script.value.hint


def test_without_its_row_the_format_does_not_exist(tmp_path):
    assert "toy script" not in get_help(speak)
    with pytest.raises(UsageError, match="not written as '.toy'"):
        write_script(Script(LINES), tmp_path / "a.toy")


def test_a_binary_format_is_recognised_before_its_bytes_are_taken_for_text(tmp_path, monkeypatch):
    (tmp_path / "a.bits").write_bytes(b"\0BIT\1\2\3\4")
    with pytest.raises(InvalidInputError, match="binary data"):
        read_script(tmp_path / "a.bits")
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, BINARY))
    path = write_script(Script(LINES), tmp_path / "a.bits", overwrite=True)
    file = read_script_file(path)
    assert file.format is BINARY and file.text == ""
    assert read_script(path, options=ScriptReadOptions(encoding="ascii"), file=file).lines[0].speaker == "Anna"
    (tmp_path / "b.bits").write_text("Just words.")
    assert read_script(tmp_path / "b.bits").lines[0].text == "Just words."


CUE = "00:00:01,000 --> 00:00:02,000\nHello\n"
HEADER = "character,in,out,text\n"


@pytest.mark.parametrize(
    "text, suffix, name",
    [
        ("{}", ".srt", "project"),
        ("[{}]", ".csv", "project"),
        ("<tt/>", ".srt", "ttml"),
        (HEADER + f'A,1,2,"\n{CUE}"', ".csv", "csv"),
        (HEADER + f'A,1,2,"\n{CUE}"', ".srt", "srt"),
        (HEADER + "A,1,2,x", ".srt", "csv"),
        (HEADER + "A,1,2,[Events]", ".tab", "csv"),
        (HEADER + "A,1,2,[Events]", ".txt", "ass"),
        ("no header", ".tsv", "csv"),
        ("WEBVTT\n\n" + CUE, ".srt", "vtt"),
        (CUE, ".vtt", "vtt"),
        (CUE, ".ass", "srt"),
        (CUE, ".csv", "srt"),
        ("words", ".vtt", "vtt"),
        ("words", ".ssa", "ass"),
        ("words", ".dfxp", "ttml"),
        ("words", ".json", "project"),
        ("words", ".docx", "txt"),
        ("words", "", "txt"),
    ],
)
def test_contents_decide_before_suffixes(text, suffix, name):
    assert detect_format(text, suffix).name == name


def test_rows_of_the_table_share_neither_names_nor_suffixes():
    names = [row.name for row in formats.FORMATS]
    suffixes = [suffix for row in formats.FORMATS for suffix in row.suffixes]
    assert len(set(names)) == len(names) and len(set(suffixes)) == len(suffixes)

"""ASS: dialogue is told from signs and karaoke by style, effect and place."""

import pytest

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.voice.options import SpeakOptions
from mouthpiece.voice.scripts.formats import read_script
from mouthpiece.voice.scripts.script_format import ScriptReadOptions

STYLE = "Style: {},Arial,40,&H00FFFFFF,&H000000FF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,2,0,{},10,10,10,1\n"
HEAD = (
    "[Script Info]\nScriptType: v4.00+\nPlayResX: 1280\nPlayResY: 720\n\n[V4+ Styles]\n"
    "Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic,"
    " Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR,"
    " MarginV, Encoding\n"
)
EVENTS = "\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"


@pytest.fixture
def read(tmp_path):
    """Read an ASS of events (style, name, effect, text), one a second; a style is put where a pair says."""

    def read(*events, placed=(), styles=None):
        alignments = {"Default": 2} | {event[0]: 2 for event in events} | dict(placed)
        head = HEAD + "".join(STYLE.format(name, place) for name, place in alignments.items()) + EVENTS
        rows = [
            f"Dialogue: 0,0:00:{k:02d}.00,0:00:{k:02d}.90,{style},{name},0,0,0,{effect},{text}\n"
            for k, (style, name, effect, text) in enumerate(events)
        ]
        (tmp_path / "a.ass").write_text(head + "".join(rows), encoding="utf-8")
        return read_script(tmp_path / "a.ass", options=ScriptReadOptions(styles=styles))

    return read


SPOKEN = (("Default", "Ben", "", "Did you lock\\Nthe gate?"), ("Default", "Ada", "", "{\\i1}I think so.{\\i0}"))
TEXTS = ["Did you lock\nthe gate?", "I think so."]


def list_texts(script):
    return [line.text for line in script.lines]


@pytest.mark.parametrize(
    "other, reason",
    [
        (("Sign", "", "", "SHOP"), "style 'Sign'"),
        (("Ep Title-2", "", "", "The Gate"), "style 'Ep Title-2'"),
        (("OPRomaji", "", "", "la la"), "style 'OPRomaji'"),
        (("ed", "", "", "la la"), "style 'ed'"),
        (("歌詞", "", "", "ラ"), "style '歌詞'"),
        (("Default", "", "fx", "la"), "an Effect"),
        (("Default", "", "", "{\\k40}la{\\kf40}ter"), "karaoke"),
        (("Default", "", "", "{\\an8\\pos(640,80)\\fad(200,200)}SHOP"), "placed"),
        (("Default", "", "", "{\\blur2\\frz20}SHOP"), "placed"),
        (("Default", "", "", "{\\clip(0,0,9,9)}SHOP"), "placed"),
    ],
)
def test_signs_and_karaoke_are_left_out_with_a_remark(read, other, reason):
    script = read(*SPOKEN, other, other)
    assert list_texts(script) == TEXTS
    left_out = [remark.text for remark in script.remarks if remark.kind == "left_out"]
    assert len(left_out) == 1 and "2 left out" in left_out[0] and reason in left_out[0] and "--styles" in left_out[0]


@pytest.mark.parametrize(
    "other",
    [
        ("Ed", "", "", "Hello."),  # a person
        ("Default", "", "", "{\\an8}Hello."),
        ("Default", "", "", "{\\pos(300,650)}Hello."),
        ("Default", "", "!Effect", "Hello."),
        ("Sign", "Ben", "", "Hello."),
        ("Top", "Cy", "", "Hello."),
        ("SubTitle", "", "", "Hello."),
    ],
)
def test_dialogue_in_other_styles_and_places_is_spoken(read, other):
    assert list_texts(read(*SPOKEN, other, placed={"Top": 8})) == [*TEXTS, "Hello."]


def test_styles_in_the_middle_and_nameless_ones_at_the_top_are_signs(read):
    tavola, tafel = ("Tavola", "", "", "SHOP"), ("Tafel", "", "", "SHOP")
    assert list_texts(read(*SPOKEN, tavola, tafel, placed={"Tavola": 5, "Tafel": 8})) == TEXTS
    unnamed = [(style, "", effect, text) for style, _, effect, text in SPOKEN]
    assert list_texts(read(*unnamed, tafel, placed={"Tafel": 8})) == [*TEXTS, "SHOP"]


def test_a_mark_that_all_lines_have_says_nothing(read):
    placed = [("Default", "", "", f"{{\\pos(640,{y})}}row {y}") for y in (60, 80, 90)]
    assert len(read(*placed).lines) == 3
    by_hand = [("Default", "", "", f"{{\\pos(640,{y})}}row {y}") for y in (600, 610, 80)]
    assert len(read(*by_hand).lines) == 3
    timed = [("Default", "", "", f"{{\\k20}}word{{\\k30}} {k}") for k in range(3)]
    assert list_texts(read(*timed)) == ["word 0", "word 1", "word 2"]
    assert len(read(("Title", "", "", "Hello."), ("Title", "", "", "Yes.")).lines) == 2


def test_a_file_of_nothing_but_signs_and_songs_is_refused_with_its_styles(read):
    with pytest.raises(InvalidInputError, match="no dialogue .*OP, Sign") as refusal:
        read(("Sign", "", "", "SHOP"), ("OP", "", "", "la la"))
    assert "--styles" in refusal.value.hint


def test_styles_that_are_named_are_the_ones_spoken(read):
    script = read(*SPOKEN, ("OP", "", "", "{\\k20}la la"), ("Sign", "", "", "SHOP"), styles="op, Sign")
    assert list_texts(script) == ["la la", "SHOP"]
    with pytest.raises(UsageError, match="no style 'Song'") as refusal:
        read(*SPOKEN, styles="Default,Song")
    assert refusal.value.hint == "Its styles: Default."


def test_the_option_reaches_the_reader_and_is_remarked_where_there_are_no_styles(tmp_path):
    options = SpeakOptions(styles="OP").get_script_reading(None)
    assert options.styles == "OP"
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    assert "--styles is not used" in read_script(tmp_path / "a.srt", options=options).remarks[0].text


def test_layers_of_one_text_are_one_line_but_two_people_are_two(tmp_path):
    row = "Dialogue: {},0:00:01.00,0:00:02.00,Default,{},0,0,0,,Yes!\n"
    events = row.format(0, "Ben") + row.format(1, "Ben") + row.format(0, "Ada") + row.format(2, "")
    (tmp_path / "a.ass").write_text(HEAD + STYLE.format("Default", 2) + EVENTS + events)
    script = read_script(tmp_path / "a.ass")
    assert [line.speaker for line in script.lines] == ["Ben", "Ada"]
    assert "2 left out: the same text in another layer" in script.remarks[0].text


def test_entities_that_a_converter_left_in_ass_are_resolved(read):
    assert list_texts(read(("Default", "", "", "Salt &amp; pepper&nbsp;only"))) == ["Salt & pepper only"]

"""Scripts: every format read, written and read again; bad files answered in words."""

import random
from dataclasses import replace
from fractions import Fraction as F

import pytest

from mouthpiece.engine.errors import InvalidInputError, MouthpieceError, UsageError
from mouthpiece.voice.scripts.formats import read_script, write_script
from mouthpiece.voice.scripts.script import Line, Script
from mouthpiece.voice.scripts.script_checks import check_script
from mouthpiece.voice.scripts.script_format import ScriptReadOptions

LINES = (
    Line(
        "1",
        "Anna",
        F(1001, 1000),
        F(2999, 1000),
        "How many?\n42",
        "en",
        "on",
        "Combien ?\n42",
        "scene: High\nsay it softly",
    ),
    Line(
        "2",
        "Bob Builder",
        F(3),
        F(4567, 1000),
        'Fish & chips <now>, said "they"; 3 > 2, {really}.',
        "en",
        "off_on",
        "Du poisson",
        "",
    ),
    Line("3", "", F(5), F(6), "Remember: be careful.", "en", "", "Attention", ""),
    Line("4", "Anna", F(7), F(7), "Zero", "en", "off", "Zéro", ""),
    Line("5", "O'Neil, Zoë", F(360_009), F(360_010), "Ünïcode – “quotes” 日本語", "en", "on_off", "x", ""),
)


def written(tmp_path, suffix, script):
    return read_script(write_script(script, tmp_path / f"again{suffix}", overwrite=True))


@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".csv", ".tsv", ".ttml"])
def test_speakers_milliseconds_and_texts_survive_writing_and_reading(tmp_path, suffix):
    again = written(tmp_path, suffix, Script(LINES, "en", "fr"))
    assert [(i.id, i.speaker, i.start, i.end, i.text) for i in again.lines] == [
        (i.id, i.speaker, i.start, i.end, i.text) for i in LINES
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".ttml", ".dapt"])
def test_cue_sheets_and_dapt_keep_everything_a_line_holds(tmp_path, suffix):
    assert written(tmp_path, suffix, Script(LINES, "en", "fr")).lines == LINES


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_words_before_a_colon_do_not_become_speakers_by_writing(tmp_path, suffix):
    lines = tuple(Line(str(k), "", F(k), F(k + 1), f"Remember: this {k}") for k in (1, 2, 3))
    assert [line.text for line in written(tmp_path, suffix, Script(lines)).lines] == [line.text for line in lines]


def test_unusual_ids_survive_where_the_format_has_names_for_cues(tmp_path):
    lines = tuple(replace(line, id=name) for line, name in zip(LINES, ("intro", "2b", "x.3", "10", "9")))
    for suffix in (".vtt", ".csv", ".ttml"):
        assert [line.id for line in written(tmp_path, suffix, Script(lines)).lines] == ["intro", "2b", "x.3", "10", "9"]


def test_other_programs_read_what_we_write(tmp_path):
    pysubs2 = pytest.importorskip("pysubs2")
    script = Script(LINES[:3], "en", "fr")
    for suffix in (".srt", ".vtt"):
        subs = pysubs2.load(str(write_script(script, tmp_path / f"a{suffix}")))
        assert [(e.start, e.end) for e in subs] == [
            (int(line.start * 1000), int(line.end * 1000)) for line in LINES[:3]
        ]
    reader = pytest.importorskip("ttconv.imsc.reader")
    from lxml import etree

    model = reader.to_model(etree.parse(write_script(script, tmp_path / "a.ttml")))
    assert [div.get_begin() for div in model.get_body()] == [line.start for line in LINES[:3]]


def test_bytes_of_any_usual_kind_read_alike(tmp_path):
    text = (
        "1\n00:00:01,001 --> 00:00:02,999\nANNA: Où êtes-vous allée ?\n\n2\n00:00:03,000 --> 00:00:04,000\nBob here\n"
    )
    for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"):
        for ends in ("\n", "\r\n", "\r"):
            path = tmp_path / "a.srt"
            path.write_bytes(text.replace("\n", ends).encode(name))
            script = read_script(path)
            assert [(line.speaker, line.text) for line in script.lines] == [
                ("ANNA", "Où êtes-vous allée ?"),
                ("", "Bob here"),
            ]
            assert any(r.kind == "encoding" for r in script.remarks) == (name in ("utf-16-le", "utf-16-be", "cp1252"))


def test_older_character_sets_are_found_out_or_told(tmp_path):
    path = tmp_path / "a.txt"
    said = "Привет, как у тебя дела сегодня? Я думаю, что всё хорошо."
    path.write_bytes(said.encode("cp1251"))
    assert read_script(path).lines[0].text == said
    path.write_bytes("Zażółć gęślą jaźń".encode("cp1250"))
    assert read_script(path, options=ScriptReadOptions(encoding="cp1250")).lines[0].text == "Zażółć gęślą jaźń"
    with pytest.raises(InvalidInputError, match="cannot be read as utf-8"):
        read_script(path, options=ScriptReadOptions(encoding="utf-8"))
    with pytest.raises(UsageError, match="unknown"):
        read_script(path, options=ScriptReadOptions(encoding="klingon"))


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "empty"),
        (b" \n\r\n", "white space"),
        (bytes(range(256)) * 20, "binary"),
        (b"PK\x03\x04" + b"x" * 99, "spreadsheet"),
        (b"\x00\x00\x00\x18ftypmp42" + b"\0" * 99, "video"),
        (b"\xff\xfe1", "utf-16"),
        (b"WEBVTT\n\nNOTE nothing\n", "no line"),
        (b"1\n00:00:99,000 --> 00:01:00,000\nx\n", "beyond 59"),
        (b"<tt><body>", "malformed XML"),
        (b"<html></html>", "<html>"),
        (
            b'<tt xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="soon" end="2s">x</p></div></body></tt>',
            "'soon' is not a time",
        ),
        (
            (
                b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><tt><body><div><p begin="1s"'
                b' end="2s">&x;</p></div></body></tt>'
            ),
            "document type",
        ),
        (b"[Script Info]\n[Events]\nDialogue: 0,soon", "no ASS script"),
        (b"character,in,out,text\nA,soon,later,hi\n", "row 2: 'soon' is not a time"),
        (b'{"lines": 1}', "project"),
        (b'{"broken', "JSON"),
    ],
)
def test_what_is_no_script_is_refused_in_words(tmp_path, content, sentence):
    path = tmp_path / "a.srt"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=sentence) as refusal:
        read_script(path)
    assert refusal.value.hint


def test_an_xml_bomb_is_refused_without_being_expanded(tmp_path):
    entities = '<!ENTITY b0 "boom">' + "".join(f'<!ENTITY b{k} "{f"&b{k - 1};" * 10}">' for k in range(1, 12))
    (tmp_path / "a.ttml").write_text(f"<!DOCTYPE a [{entities}]><tt><body><p>&b11;</p></body></tt>")
    with pytest.raises(InvalidInputError):
        read_script(tmp_path / "a.ttml")
    (tmp_path / "a.ttml").write_text("<tt><body>" + "<div>" * 3000 + "</div>" * 3000 + "</body></tt>")
    with pytest.raises(InvalidInputError):
        read_script(tmp_path / "a.ttml")


def test_odd_cues_are_kept_and_remarked(tmp_path):
    cues = [
        ("1", 1, 3, "A: one"),
        ("2", 2, 4, "A: two"),
        ("3", 5, 5, "A: three"),
        ("4", 7, 6, "B: four"),
        ("5", 9, 12, "B: five"),
        ("6", 8, 9, ""),
    ]
    text = "\n".join(f"{n}\n00:00:{a:02d},000 --> 00:00:{b:02d},000\n{t}\n" for n, a, b, t in cues)
    (tmp_path / "a.srt").write_text(text)
    script = read_script(tmp_path / "a.srt", F(10), ScriptReadOptions(speakers=("A",)))
    assert [(line.start, line.end) for line in script.lines] == [(a, b) for _, a, b, _ in cues]
    found = {(r.kind, r.line_id) for r in script.remarks}
    wanted = {("overlap", "2"), ("zero_length", "3"), ("reversed", "4"), ("beyond_end", "5"), ("empty", "6")}
    assert found == wanted | {("unknown_speaker", k) for k in "456"}


def test_lines_one_after_the_other_are_no_overlap():
    assert check_script(Script((Line("1", "", F(0), F(1), "a"), Line("2", "", F(1), F(2), "b"))), F(2)) == ()


def test_a_script_of_another_film_is_refused_and_a_programme_start_is_taken_off(tmp_path):
    path = tmp_path / "a.srt"
    path.write_text("1\n01:00:01,000 --> 01:00:02,000\nx\n\n2\n01:40:00,000 --> 01:40:02,000\nx\n")
    with pytest.raises(InvalidInputError, match="2 of 2 lines start after the end"):
        read_script(path, F(60))
    path.write_text("1\n01:00:01,000 --> 01:00:02,000\nx\n\n2\n01:00:40,000 --> 01:00:42,000\nx\n")
    script = read_script(path, F(60))
    assert [line.start for line in script.lines] == [1, 40] and script.remarks[0].kind == "origin"


def test_ten_thousand_lines_come_through_whole(tmp_path):
    lines = tuple(
        Line(str(k), f"S{k % 7}", F(k * 1000 + k % 1000, 1000), F(k * 1000 + 1500, 1000), f"line {k}")
        for k in range(1, 10_001)
    )
    again = written(tmp_path, ".srt", Script(lines))
    assert [(i.speaker, i.start, i.text) for i in again.lines] == [(i.speaker, i.start, i.text) for i in lines]
    assert 0 < sum(r.kind == "overlap" for r in again.remarks) < 10_000


def test_writing_refuses_other_suffixes_and_lines_without_times(tmp_path):
    with pytest.raises(UsageError, match="not written as '.ass'"):
        write_script(Script(LINES), tmp_path / "a.ass")
    with pytest.raises(UsageError, match="line 1 has no times"):
        write_script(Script((Line("1", "", None, None, "x"),)), tmp_path / "a.srt")
    assert list(tmp_path.iterdir()) == []


def test_a_line_of_the_wrong_kind_is_not_made():
    for wrong in ({"id": "a b"}, {"start": 1.5}, {"end": None}, {"on_screen": "maybe"}):
        with pytest.raises(MouthpieceError):
            replace(LINES[0], **wrong)


@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".csv", ".ttml"])
def test_damaged_scripts_are_read_or_refused_but_never_crash(tmp_path, suffix):
    whole, chance = write_script(Script(LINES, "en", "fr"), tmp_path / f"a{suffix}").read_bytes(), random.Random(7)
    pieces = (
        b"",
        b"\0",
        b"\xff",
        b'"',
        b"\n\n",
        b"-->",
        b":",
        b"99999999",
        b"<",
        b"&",
        b"\t",
        b"\xe2\x80\xa8",
        b"\r",
        b"<v>",
    )
    outcomes = set()
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(chance.randint(1, 5)):
            place = chance.randrange(len(broken))
            broken[place : place + chance.randint(0, 6)] = chance.choice(pieces)
        (tmp_path / "b").write_bytes(broken)
        try:
            outcomes.add(len(read_script(tmp_path / "b", F(400_000)).lines) > 0)
        except MouthpieceError as error:
            outcomes.add(type(error))
    assert True in outcomes and InvalidInputError in outcomes


def test_a_csv_whose_text_holds_times_of_an_srt_is_still_a_csv(tmp_path):
    line = replace(LINES[0], text="1\n00:00:01,000 --> 00:00:02,000\nhm")
    assert written(tmp_path, ".csv", Script((line,))).lines == (line,)


def test_names_of_speakers_may_hold_signs_of_markup(tmp_path):
    lines = (replace(LINES[0], speaker="A>n & <b>"), replace(LINES[1], speaker="Ann: the cook"))
    for suffix in (".srt", ".vtt", ".csv", ".ttml"):
        assert written(tmp_path, suffix, Script(lines)).speakers == ("A>n & <b>", "Ann: the cook")


def test_a_text_of_more_rows_than_a_day_of_subtitles_has_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    from mouthpiece.voice.scripts import formats

    (tmp_path / "a.txt").write_text("Hello.\n" * 250_001)
    rows = tuple(replace(row, read=lambda *given: pytest.fail("parsed")) for row in formats.FORMATS)
    monkeypatch.setattr(formats, "FORMATS", rows)
    with pytest.raises(InvalidInputError, match="250001 rows, too long for a script"):
        read_script(tmp_path / "a.txt")

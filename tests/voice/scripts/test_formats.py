"""Formats one by one: what each says about speakers and times, and what libraries lose."""

from fractions import Fraction as F

import pytest

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.voice.scripts.formats import read_script
from mouthpiece.voice.scripts.script_format import ScriptReadOptions


def read(tmp_path, name, text, **facts):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_script(tmp_path / name, options=ScriptReadOptions(**facts) if facts else None)


def said(script):
    return [(line.speaker, line.text) for line in script.lines]


def test_srt_keeps_numbers_that_are_words(tmp_path):
    text = (
        "1\n00:00:01,000 --> 00:00:02,000\nHow many?\n42\n\n2\n00:00:03,000 --> 00:00:04,000\n7\n3\n00:00:05,5 -->"
        " 0:0:6 X1:0\nand\n42"
    )
    script = read(tmp_path, "a.srt", text)
    assert said(script) == [("", "How many?\n42"), ("", "7"), ("", "and\n42")]
    assert [line.id for line in script.lines] == ["1", "2", "3"] and script.lines[2].start == F(11, 2)


def test_srt_takes_names_for_speakers_only_where_they_are(tmp_path):
    cue = "00:00:01,000 --> 00:00:02,000\n"
    text = "\n\n".join(
        cue + t
        for t in ("ANNA: Hi", "Bob: Yes", "Remember: be careful", "Bob: No", "At 5: go", "<i>Only</i> {\\an8}text")
    )
    wanted = [
        ("ANNA", "Hi"),
        ("Bob", "Yes"),
        ("", "Remember: be careful"),
        ("Bob", "No"),
        ("", "At 5: go"),
        ("", "Only text"),
    ]
    assert said(read(tmp_path, "a.srt", text)) == wanted


def test_a_rate_of_timecodes_for_what_has_none_is_remarked(tmp_path):
    text = "1\n00:00:01,000 --> 00:00:02,000\nHello\n"
    script = read(tmp_path, "a.srt", text, cue_rate=F(25))
    assert [(r.kind, r.text) for r in script.remarks] == [("format", "a.srt: not a cue sheet; --cue-rate is not used.")]
    assert read(tmp_path, "a.srt", text).remarks == ()


def test_vtt_keeps_voices_and_leaves_notes_names_and_styles_unspoken(tmp_path):
    text = (
        "WEBVTT - A film\nLanguage: fr\n\nSTYLE\n::cue { color: red }\n\nNOTE\nnot spoken\n\nintro\n00:01.000 -->"
        " 00:02.000 align:start\n<v.loud Anna Á>Fish &amp; <i>chips</i>\n\nNOTE 00:03 no\n\n1:00:03.000 -->"
        " 1:00:04.500\n<v Bob>yes yes yes</v> <v Anna Á>no <00:03.5><c.x>two</c>\n"
    )
    script = read(tmp_path, "a.vtt", text)
    assert said(script) == [("Anna Á", "Fish & chips"), ("Bob", "yes yes yes"), ("Anna Á", "no two")]
    assert (script.title, script.language, script.lines[0].id) == ("A film", "fr", "intro")
    assert [(line.start, line.end) for line in script.lines[1:]] == [(3603, F("3603.9")), (F("3603.9"), F("3604.5"))]
    assert [r.kind for r in script.remarks] == ["split"]


def test_ass_keeps_names_and_leaves_comments_out(tmp_path):
    rows = [
        "Dialogue: 0,0:00:01.23,0:00:02.00,Default,Anna,0,0,0,,{\\i1}Hi{\\i0}, you\\Nthere",
        "Comment: 0,0:00:01.23,0:00:02.00,Default,B,0,0,0,,no",
    ]
    head = (
        "[Script Info]\nTitle: Foo\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL,"
        " MarginR, MarginV, Effect, Text\n"
    )
    script = read(tmp_path, "a.ass", head + "\n".join(rows))
    assert (
        said(script) == [("Anna", "Hi, you\nthere")] and script.lines[0].start == F(123, 100) and script.title == "Foo"
    )


def test_cue_sheets_in_all_the_ways_studios_write_them(tmp_path):
    sheet = (
        "Cue Sheet of the film;;;;;\n\nCue;Character;TC in;TC out;Text;On/Off"
        ' Screen;Prefix\n1;ANNA;00:00:01:00;00:00:02:12;"Hi; you";OFF;MX\n'
    )
    script = read(tmp_path, "a.csv", sheet, cue_rate=F(25))
    line = script.lines[0]
    assert (line.speaker, line.start, line.end, line.text, line.on_screen, line.notes) == (
        "ANNA",
        1,
        F(62, 25),
        "Hi; you",
        "off",
        "prefix: MX",
    )
    eleven = read(
        tmp_path, "b.csv", "speaker,start_time,end_time,transcription,translation\nA,0.5,1.25,hello,salut\n"
    ).lines[0]
    assert (eleven.start, eleven.end, eleven.text, eleven.original) == (F(1, 2), F(5, 4), "salut", "hello")
    table = read(tmp_path, "c.txt", "character\tin\tduration\tdialogue\nA\t500\t750\thello\nB\t2000\t900\tyes\n")
    assert [(i.start, i.end) for i in table.lines] == [(F(1, 2), F(5, 4)), (2, F(29, 10))] and table.remarks[
        0
    ].kind == "unit"
    assert read(tmp_path, "d.csv", "speaker,start_ms,end_ms,text\nA,5,9,x\n").lines[0].end == F(9, 1000)


def test_timecodes_follow_their_rate_and_dropped_numbers(tmp_path):
    sheet = "character,in,out,text\nA,00:01:00;02,00:10:00;00,x\n"
    line = read(tmp_path, "a.csv", sheet, cue_rate=F(30000, 1001)).lines[0]
    assert (line.start, line.end) == (1800 * F(1001, 30000), 17982 * F(1001, 30000))
    line = read(tmp_path, "b.csv", sheet.replace(";", ":"), cue_rate=F(30000, 1001)).lines[0]
    assert (line.start, line.end) == (1802 * F(1001, 30000), 18000 * F(1001, 30000))
    with pytest.raises(UsageError, match="unknown rate"):
        read(tmp_path, "c.csv", sheet)
    with pytest.raises(UsageError, match="no such frame"):
        read(tmp_path, "d.csv", sheet.replace("00;02", "00;01"), cue_rate=F(30000, 1001))
    with pytest.raises(UsageError, match="no such frame"):
        read(tmp_path, "e.csv", "character,in,out,text\nA,00:01:00:25,00:02:00:00,x\n", cue_rate=F(25))


DAPT = """<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttm="http://www.w3.org/ns/ttml#metadata" xmlns:ttp="http://www.w3.org/ns/ttml#parameter"
 xmlns:d="http://www.w3.org/ns/ttml/profile/dapt#metadata" ttp:contentProfiles="http://www.w3.org/ns/ttml/profile/dapt1.0/content"
 xml:lang="en" d:langSrc="fr" d:scriptRepresents="audio.dialogue" d:scriptType="preRecording">
<head><metadata><ttm:agent type="character" xml:id="c1"><ttm:name type="full">Assane Diop</ttm:name>
<ttm:name type="alias">ASSANE</ttm:name>
</ttm:agent></metadata></head><body begin="1h"><div begin="10s" end="13.5s"
xml:id="d1" ttm:agent="c1" d:onScreen="ON_OFF">
<ttm:desc d:descType="scene">A garden</ttm:desc><p xml:lang="fr"><span>C'est ça.</span></p>
<p><metadata><ttm:desc>no</ttm:desc></metadata><span
begin="0s">That's</span><span begin="1.5s"> it<br/>then.</span></p></div>
<div begin="20s" end="22s" xml:id="d2"/></body></tt>"""


def test_dapt_keeps_character_both_languages_screen_and_notes(tmp_path):
    script = read(tmp_path, "a.ttml", DAPT)
    line = script.lines[0]
    assert (line.id, line.speaker, line.text, line.original) == ("d1", "ASSANE", "That's it\nthen.", "C'est ça.")
    assert (line.start, line.end, line.on_screen, line.notes, line.language) == (
        3610,
        F("3613.5"),
        "on_off",
        "scene: A garden",
        "en",
    )
    assert (script.language, script.original_language) == ("en", "fr")
    assert script.lines[1].text == "" and script.remarks[-1].kind == "empty"
    assert read(tmp_path, "a.ttml", DAPT, language="fr-FR").lines[0].text == "C'est ça."


def test_ttml_times_in_every_notation(tmp_path):
    text = """<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" ttp:frameRate="30"
    ttp:frameRateMultiplier="1000 1001" ttp:tickRate="10000000"><body><div begin="10s">
    <p begin="00:00:01:15" end="00:00:02.25">a</p>
    <p begin="50000000t" dur="500ms">b</p><p><span begin="1m" end="1.5m">c</span></p></div>
    <div timeContainer="seq"><p dur="1s">d</p><p begin="0.5s" dur="30f">e</p></div></body></tt>"""
    times = [(line.start, line.end) for line in read(tmp_path, "a.xml", text).lines]
    assert times == [(11 + F(1001, 2000), F("12.25")), (15, F("15.5")), (70, 100), (0, 1), (F(3, 2), F("2.501"))]


def test_ttml_rows_at_the_same_time_stay_two_lines(tmp_path):
    text = (
        '<tt xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="1s" end="2s">a</p><p begin="1s"'
        ' end="2s">b</p></div></body></tt>'
    )
    assert said(read(tmp_path, "a.ttml", text)) == [("", "a"), ("", "b")]


def test_times_of_day_are_refused(tmp_path):
    text = (
        '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter"'
        ' ttp:timeBase="clock"><body/></tt>'
    )
    with pytest.raises(InvalidInputError, match="times of day"):
        read(tmp_path, "a.ttml", text)


def test_plain_text_has_speakers_and_no_times(tmp_path):
    script = read(tmp_path, "a.txt", "ANNA: Hello there\n\nBob goes: nowhere\nTHE KING:\nEnough!\n")
    assert said(script) == [("ANNA", "Hello there"), ("", "Bob goes: nowhere"), ("THE KING", "Enough!")]
    assert {line.start for line in script.lines} == {None}

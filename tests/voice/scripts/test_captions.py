"""Captions as programs and archives write them: what is spoken of each, and what is left out with a remark."""

from fractions import Fraction as F

import pytest

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.formats import read_script, write_script
from mouthpiece.voice.scripts.script import Line, Script
from mouthpiece.voice.scripts.script_format import ScriptReadOptions


def read(tmp_path, name, text, **facts):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_script(tmp_path / name, options=ScriptReadOptions(**facts) if facts else None)


def list_texts(script):
    return [(line.start, line.text) for line in script.lines]


def list_remarks(script, kind):
    return [remark.text for remark in script.remarks if remark.kind == kind]


# rows of blanks in WebVTT


def test_a_row_of_blanks_belongs_to_the_text_of_a_webvtt_cue(tmp_path):
    first = "00:01.000 --> 00:03.000\nThe kettle is on.\n \nPour it, please.\n\t \nNow."
    text = f"WEBVTT\n\n{first}\n\n00:04.000 --> 00:06.000\n \nThanks.\n"
    script = read(tmp_path, "a.vtt", text)
    assert list_texts(script) == [(1, "The kettle is on.\nPour it, please.\nNow."), (4, "Thanks.")]


def test_times_end_the_cue_before_them_with_and_without_an_empty_row(tmp_path):
    numbered = "1\n00:01.000 --> 00:02.000\none\n \n2\n00:03.000 --> 00:04.000\ntwo"
    text = f"WEBVTT\n\n{numbered}\n00:05.000 --> 00:06.000\nI count\n3\n \n00:07.000 --> 00:08.000\nfour\n"
    script = read(tmp_path, "a.vtt", text)
    assert list_texts(script) == [(1, "one"), (3, "two"), (5, "I count\n3"), (7, "four")]
    assert [line.id for line in script.lines][:2] == ["1", "2"]


def test_a_note_with_a_row_of_blanks_stays_unspoken_to_its_end(tmp_path):
    text = "WEBVTT\n\nNOTE\nold:\n \n00:00.000 --> 00:00.500\nno\n\n \n00:01.000 --> 00:02.000\nyes\n"
    assert list_texts(read(tmp_path, "a.vtt", text)) == [(1, "yes")]


# ruby and entities

SRT_CUE = "1\n00:00:01,000 --> 00:00:03,000\n"
VTT_CUE = "WEBVTT\n\n00:01.000 --> 00:03.000\n"


@pytest.mark.parametrize("name, head", [("a.srt", SRT_CUE), ("a.vtt", VTT_CUE)])
@pytest.mark.parametrize(
    "body",
    [
        "<ruby>週末<rt>しゅうまつ</rt></ruby>は晴れです。",
        "<ruby>週<rt>しゅう</rt>末<rt>まつ</rt></ruby>は晴れです。",
        "<ruby>週<rt>しゅう<rb>末<rt>まつ</ruby>は晴れです。",
        "<ruby>週末<rp>(</rp><rt>しゅうまつ</rt><rp>)</rp></ruby>は<ruby.big>晴<rt>は</ruby>れです。",
        "<RUBY>週末<RTC><RT>しゅうまつ</RT></RTC></RUBY>は晴れです。",
        "週末<rt>しゅうまつ</rt>は晴れです。",
    ],
)
def test_words_with_ruby_are_read_once(tmp_path, name, head, body):
    assert read(tmp_path, name, head + body + "\n").lines[0].text == "週末は晴れです。"


TTML = (
    '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:tts="http://www.w3.org/ns/ttml#styling" xmlns:ttm="http://www.w3.org/ns/ttml#metadata"'
    ' xml:lang="ja"><head><styling><style xml:id="reading" tts:ruby="text"/>'
    '<style xml:id="small" style="reading" tts:fontSize="50%"/>'
    '<style xml:id="a" style="b"/>'
    '<style xml:id="b" style="a"/></styling></head><body><div>{}</div></body></tt>'
)


@pytest.mark.parametrize(
    "reading",
    [
        '<span tts:ruby="text">しゅうまつ</span>',
        '<span style="reading">しゅうまつ</span>',
        '<span style="a small">しゅう<span>まつ</span></span>',
        '<span tts:ruby="textContainer"><span tts:ruby="text">しゅう</span><span tts:ruby="text">まつ</span></span>',
        '<span tts:ruby="delimiter">(</span><span tts:ruby="text">しゅうまつ</span><span tts:ruby="delimiter">)</span>',
    ],
)
def test_ruby_of_ttml_is_read_once_by_attribute_and_by_style(tmp_path, reading):
    ruby = f'<span tts:ruby="container"><span tts:ruby="base" style="a">週末</span>{reading}</span>'
    script = read(tmp_path, "a.ttml", TTML.format(f'<p begin="1s" end="3s">{ruby}は晴れです。</p>'))
    assert [line.text for line in script.lines] == ["週末は晴れです。"]


@pytest.mark.parametrize(
    "body, text",
    [
        ("Salt &amp; pepper", "Salt & pepper"),
        ("It costs &lt;five&gt; pounds&nbsp;only.", "It costs <five> pounds only."),
        ("&lt;i&gt;Hello&lt;/i&gt; you", "Hello you"),
        ("&#8220;Yes&#x201D;, caf&eacute;", "“Yes”, café"),
        ("AT&T, R&D; &copy and &nonsense;", "AT&T, R&D; &copy and &nonsense;"),
    ],
)
def test_entities_of_srt_are_resolved_and_come_back_when_written(tmp_path, body, text):
    script = read(tmp_path, "a.srt", SRT_CUE + body + "\n")
    assert script.lines[0].text == text
    assert read_script(write_script(script, tmp_path / "b.srt")).lines[0].text == text


def test_a_text_that_looks_like_an_entity_survives_srt(tmp_path):
    script = Script((Line("1", "Ann", F(1), F(2), "Write &amp; for &, and A&B."),))
    path = write_script(script, tmp_path / "a.srt")
    assert read_script(path).lines == script.lines and "Write &amp;amp; for &, and A&B." in path.read_text()


# what an event of DAPT or TTML represents

DAPT = (
    '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" xmlns:ttm="http://www.w3.org/ns/ttml#metadata"'
    ' xmlns:d="http://www.w3.org/ns/ttml/profile/dapt#metadata" ttp:contentProfiles="http://www.w3.org/ns/ttml/profile/dapt1.0/content"'
    ' xml:lang="en" d:scriptRepresents="audio visual.text"><body>{}</body></tt>'
)


def make_event(represents, text, begin):
    attribute = f'd:represents="{represents}"' if represents else ""
    return f'<div begin="{begin}s" end="{begin + 1}s" {attribute}><p>{text}</p></div>'


def test_only_dialogue_of_dapt_is_spoken_and_the_rest_remarked(tmp_path):
    kinds = ("visual.text.location", "audio.nonDialogueSounds", "audio.dialogue", "", "visual.nonText", "audio")
    events = "".join(make_event(kind, f"text {k}", k) for k, kind in enumerate(kinds))
    script = read(tmp_path, "a.dapt", DAPT.format(events))
    assert [line.text for line in script.lines] == ["text 2", "text 3", "text 5"]
    left_out = list_remarks(script, "left_out")
    assert [k for k in range(6) for text in left_out if f"'text {k}'" in text] == [0, 1, 4]
    assert "audio.nonDialogueSounds" in left_out[1]


def test_what_an_event_represents_is_inherited_and_may_differ_inside(tmp_path):
    events = (
        '<div d:represents="visual.text">'
        + make_event("", "HARBOUR", 1)
        + make_event("audio.dialogue", 'Late <span d:represents="audio.nonDialogueSounds">(horn) </span>again.', 2)
        + '</div><div begin="5s" end="6s"><p d:represents="audio.nonDialogueSounds">horn</p></div>'
    )
    script = read(tmp_path, "a.dapt", DAPT.format(events))
    assert list_texts(script) == [(2, "Late again.")] and len(list_remarks(script, "left_out")) == 2


def test_an_audio_description_is_spoken_though_it_is_no_dialogue(tmp_path):
    events = make_event("visual.nonText", "A ship sails in.", 1) + make_event("audio.nonDialogueSounds", "horn", 2)
    script = read(tmp_path, "a.dapt", DAPT.format(events))
    assert list_texts(script) == [(1, "A ship sails in.")]
    assert "descriptions of the picture are spoken" in list_remarks(script, "format")[0]
    with pytest.raises(InvalidInputError, match="no line of dialogue"):
        read(tmp_path, "b.dapt", DAPT.format(make_event("audio.nonDialogueSounds", "horn", 1)))


def test_sounds_of_ttml_are_known_by_their_role(tmp_path):
    rows = '<p begin="1s" end="2s" ttm:role="sound">door</p><p begin="3s" end="4s" ttm:role="dialog">Hello.</p>'
    script = read(tmp_path, "a.ttml", TTML.format(rows))
    assert list_texts(script) == [(3, "Hello.")] and "'door' is role.sound" in list_remarks(script, "left_out")[0]


# rows in two writing systems


@pytest.mark.parametrize(
    "text, names",
    [
        ("你好，今天天气很好。\nHello, the weather is fine today.", "Chinese or Japanese and Latin"),
        ("Привет, как дела?\nHello, how are you?", "Cyrillic and Latin"),
        ("Where to?\nمرحبا بكم هنا", "Latin and Arabic"),
        ("नमस्ते दुनिया\n안녕하세요", "Devanagari and Hangul"),
    ],
)
def test_a_line_whose_rows_are_in_two_writing_systems_is_remarked(tmp_path, text, names):
    script = read(tmp_path, "a.srt", SRT_CUE + text + "\n")
    assert script.lines[0].text == text
    assert [(r.kind, r.line_id) for r in script.remarks] == [("two_scripts", "1")] and names in script.remarks[0].text


@pytest.mark.parametrize(
    "text",
    [
        "週末は晴れ\nです。OK!",
        "今日は\nカフェで",
        "iPhoneを買った\nNHK",
        "Ça va ?\nNaïve, très naïve",
        "Привет\n12 + 3 = 15",
    ],
)
def test_a_line_in_one_writing_system_is_not_remarked(tmp_path, text):
    assert read(tmp_path, "a.srt", SRT_CUE + text + "\n").remarks == ()

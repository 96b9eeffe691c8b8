"""SBV, LRC, SCC and EBU STL are read with their times; what is not read is refused by name, and never spoken."""

import struct
from fractions import Fraction as F

import pytest

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.scripts.formats import detect_format, read_script, read_script_file

NTSC_FRAME = F(1001, 30000)


def read(tmp_path, name, content, duration=None):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return read_script(path, duration)


def get_cues(script):
    return [(line.start, line.end, line.text) for line in script.lines]


SBV = "0:00:00.500,0:00:02.000\nThe kettle is on.\n42\n\n0:00:02.500,0:00:04.000\n>> ANNA: Pour it, &amp; drink.\n"


@pytest.mark.parametrize("name", ["a.sbv", "a.txt", "a.srt"])
def test_sbv_is_read_whatever_its_suffix(tmp_path, name):
    script = read(tmp_path, name, SBV)
    assert get_cues(script) == [(F(1, 2), 2, "The kettle is on.\n42"), (F(5, 2), 4, "Pour it, & drink.")]
    assert script.speakers == ("ANNA",)


def test_subviewer_writes_its_times_as_sbv_does(tmp_path):
    head = "[INFORMATION]\n[TITLE] Evening\n[END INFORMATION]\n[SUBTITLE]\n[COLF]&HFFFFFF,[STYLE]no,[SIZE]18\n"
    script = read(tmp_path, "a.sub", head + "00:00:01.00,00:00:02.50\nOne[br]<i>two</i>\n")
    assert get_cues(script) == [(1, F(5, 2), "One\ntwo")] and script.title == "Evening"
    with pytest.raises(InvalidInputError, match="beyond 59"):
        read(tmp_path, "b.sbv", "0:00:99.500,0:02:02.000\nx\n")


def test_lines_of_lrc_last_until_the_next_time(tmp_path):
    tags = "[ti:Evening]\n[la:en]\n[offset:+500]\n"
    text = tags + "[00:01.00]The <00:01.50>kettle is on\n[00:03.00]\n[00:05.5][00:10]Pour it\n"
    script = read(tmp_path, "a.lrc", text, F(20))
    assert get_cues(script) == [
        (F(1, 2), F(5, 2), "The kettle is on"),
        (5, F(19, 2), "Pour it"),
        (F(19, 2), F(21, 2), "Pour it"),
    ]
    assert (script.title, script.language) == ("Evening", "en")
    assert read(tmp_path, "b.lrc", "[00:01]A long line of many words\n", F(2)).lines[0].end == 2


def test_a_third_number_of_lrc_is_hundredths_in_lyrics_and_seconds_in_transcripts(tmp_path):
    text = "[00:01:50]One\n[00:02:30]Two\n"
    assert [line.start for line in read(tmp_path, "a.lrc", text).lines] == [F(3, 2), F(23, 10)]
    assert [line.start for line in read(tmp_path, "a.txt", text).lines] == [110, 150]
    assert read(tmp_path, "b.txt", "[00:01:75]One\n").lines[0].start == F(7, 4)
    assert read(tmp_path, "c.lrc", "[01:00:01.50]One\n").lines[0].start == F(7203, 2)


def encode_608(text):
    codes = [ord(c) | (0 if bin(ord(c)).count("1") % 2 else 0x80) for c in text + " " * (len(text) % 2)]
    return " ".join(f"{a:02x}{b:02x}" for a, b in zip(codes[::2], codes[1::2]))


def make_scc(*rows):
    return "Scenarist_SCC V1.0\n\n" + "\n\n".join(f"{at}\t{codes}" for at, codes in rows) + "\n"


def pop_on(text):
    return f"94ae 94ae 9420 9420 9470 9470 {encode_608(text)} 942f 942f"


def test_scc_appears_where_its_caption_is_shown(tmp_path):
    text = make_scc(("00:00:00:15", pop_on("The kettle is on.")), ("00:00:02:00", "942c 942c"))
    ((start, end, said),) = get_cues(read(tmp_path, "captions.scc", text))
    assert said == "The kettle is on." and abs(start - 30 * NTSC_FRAME) <= NTSC_FRAME and end == 60 * NTSC_FRAME


@pytest.mark.parametrize("sign", [":", ";"])
def test_scc_of_a_programme_in_hour_1_starts_at_the_film(tmp_path, sign):
    rows = (f"01:00:10{sign}00", pop_on("Hello there.")), (f"01:00:12{sign}00", "942c 942c")
    script = read(tmp_path, "a.scc", make_scc(*rows), F(60))
    assert "origin" in [remark.kind for remark in script.remarks]
    assert abs(script.lines[0].end - 360 * NTSC_FRAME) < F(1, 100)


def test_rolling_scc_has_each_row_once(tmp_path):
    rows = [
        (f"00:00:0{2 * k};00", f"9425 9425 94ad 94ad 9470 9470 {encode_608(said)}")
        for k, said in enumerate(("The kettle is on.", "Pour it, please.", "Thank you."))
    ]
    script = read(tmp_path, "a.scc", make_scc(*rows, ("00:00:06;00", "942c 942c")))
    assert [line.text for line in script.lines] == ["The kettle is on.", "Pour it, please.", "Thank you."]
    assert [round(float(line.start)) for line in script.lines] == [0, 2, 4]


def make_stl(start, *cues):
    """Make an EBU STL file at 25 frames a second. start: "HHMMSSFF".  cues: (in, out, text), times as four numbers."""
    gsi = bytearray(b" " * 1024)
    gsi[:14] = b"850STL25.01100"
    gsi[14:16] = b"09"
    gsi[238:256] = f"{len(cues):05d}{len(cues):05d}00140231".encode()[:18]
    gsi[255:264] = b"1" + start.encode()
    blocks = b""
    for number, (begin, end, text) in enumerate(cues, 1):
        field = text.replace("\n", "\x8a").encode("latin-1").ljust(112, b"\x8f")
        blocks += struct.pack("<BHBB4B4BBBB112s", 0, number, 0xFF, 0, *begin, *end, 20, 2, 0, field)
    return bytes(gsi) + blocks


def test_ebu_stl_counts_from_the_start_it_states(tmp_path):
    raw = make_stl("10000000", ((10, 0, 1, 5), (10, 0, 2, 0), "Hello\nyou"), ((10, 0, 3, 0), (10, 0, 4, 0), "Yes."))
    script = read(tmp_path, "a.stl", raw)
    assert get_cues(script) == [(F(6, 5), 2, "Hello\nyou"), (3, 4, "Yes.")] and script.language == "en"
    assert read_script_file(tmp_path / "a.stl").format.name == "stl"


def test_an_ebu_stl_whose_start_is_after_its_first_line_counts_from_zero(tmp_path):
    raw = make_stl("10000000", ((0, 0, 1, 0), (0, 0, 2, 0), "Hello."))
    assert get_cues(read(tmp_path, "a.stl", raw)) == [(1, 2, "Hello.")]
    raw = make_stl("00000000", ((10, 0, 1, 0), (10, 0, 2, 0), "Hello."))
    assert get_cues(read(tmp_path, "b.stl", raw, F(60))) == [(1, 2, "Hello.")]
    with pytest.raises(InvalidInputError):
        read(tmp_path, "c.stl", raw[:1100])


@pytest.mark.parametrize(
    "name, text, title",
    [
        ("a.sub", "{1}{1}25\n{12}{50}The kettle is on.\n", "MicroDVD"),
        ("a.smi", "<SAMI><HEAD/><BODY><SYNC Start=500><P>Hi.</BODY></SAMI>", "SAMI"),
        ("a.txt", "SESSION NAME:\tDub\nSAMPLE RATE:\t48000.0\n", "Pro Tools"),
        ("a.txt", "[12][50]The kettle is on.\n", "MPL2"),
        ("a.edl", "TITLE: Dub\nFCM: NON-DROP FRAME\n001  AX  V  C  00:00:00:00 00:00:01:00\n", "EDL"),
        ("a.txt", "0.500000\t2.000000\tThe kettle is on.\n", "Audacity"),
        ("a.TextGrid", 'File type = "ooTextFile"\nObject class = "TextGrid"\n', "TextGrid"),
        ("a.stl", "$FontName = Arial\n00:00:01:00 , 00:00:02:00 , Hello.\n", "Spruce"),
    ],
)
def test_formats_that_are_not_read_are_refused_by_name(tmp_path, name, text, title):
    with pytest.raises(InvalidInputError, match=title) as refusal:
        read(tmp_path, name, text)
    assert refusal.value.hint and refusal.value.code == "unread_format"


@pytest.mark.parametrize(
    "text, time",
    [
        ("00:00:01:The kettle is on.\n00:00:02:Pour it.\n", "00:00:01"),
        ("1 ANNA 01:00:00:12 The kettle is on.\n", "01:00:00:12"),
        ("0:05 The kettle is on.\n0:07 Pour it.\n", "0:05"),
        ("(00:01) Anna\nThe kettle is on.\n(00:04) Ben\nPour it.\n", "00:01"),
        ("timestamp: 00:00:01:000, filepos: 000000000\n", "00:00:01:000"),
    ],
)
def test_no_timecode_is_spoken_as_plain_text(tmp_path, text, time):
    with pytest.raises(InvalidInputError, match=f"row 1: '.*{time}") as refusal:
        read(tmp_path, "a.txt", text)
    assert refusal.value.code == "unread_format"


@pytest.mark.parametrize("text", ["Meet me at 12:30.\n12:30 is fine.\nSo be it.\nYes.\n", "ANNA: The score is 3:2.\n"])
def test_times_of_day_in_a_plain_text_are_words(tmp_path, text):
    assert len(read(tmp_path, "a.txt", text).lines) == text.count("\n")


@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.txt"])
def test_a_time_with_a_wrong_sign_is_named(tmp_path, name):
    good = "1\n00:00:00,100 --> 00:00:00,400\nHello.\n\n"
    with pytest.raises(InvalidInputError, match="row 6: '00:00:00:500' is not a time") as refusal:
        read(tmp_path, name, good + "2\n00:00:00:500 --> 00:00:02:000\nThe kettle is on.\n")
    assert "00:00:00,500" in refusal.value.hint


@pytest.mark.parametrize(
    "times",
    [
        "00.00.01,000 --> 00.00.02,000",
        "00:00:01,000 -- > 00:00:02,000",
        "00:00:01,000 --> soon",
        "00:00:01,000 → 00:00:02,000",
    ],
)
def test_times_that_are_nearly_those_of_a_cue_are_not_spoken(tmp_path, times):
    with pytest.raises(InvalidInputError, match="row 5: '.*' is not a (pair of )?time"):
        read(tmp_path, "a.srt", f"1\n00:00:00,100 --> 00:00:00,400\nHello.\n2\n{times}\nPour it.\n")


def test_a_text_that_begins_with_a_brace_is_no_project(tmp_path):
    for text in ("{sighs} Hello.\n", "{\\an8}Hello.\n", "[{x}] Hello.\n"):
        assert detect_format(text, ".txt").name == "txt"
    for text in ('{"format": 1}', '\n{\n  "format": 1}', "{}", "[{}]"):
        assert detect_format(text, ".txt").name == "project"

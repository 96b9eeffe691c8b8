"""Captions for the deaf: sounds are left out, names become speakers, turns become lines, songs are marked."""

from fractions import Fraction as F

import pytest

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.options import SpeakOptions
from mouthpiece.voice.scripts.formats import read_script
from mouthpiece.voice.scripts.script import Line, Script
from mouthpiece.voice.scripts.script_format import ScriptReadOptions
from mouthpiece.voice.scripts.sdh import resolve_sdh

CAPTIONS = (
    "[door slams]",
    "- Did you hear that?\n- Hear what?",
    "(sighs) I am going.",
    "♪ ♪",
    "[MARTHA] Wait for me!",
    "<i>MAN ON RADIO: Storm tonight.</i>",
    "♪ Row, row, row your boat ♪",
    ">> JOHN: Good evening.",
)


def resolve(*texts, speaker=""):
    lines = tuple(Line(str(k), speaker, F(2 * k), F(2 * k + 2), text) for k, text in enumerate(texts, 1))
    return resolve_sdh(Script(lines))


def said(script):
    return [(line.speaker, line.text) for line in script.lines]


def write_srt(path, texts):
    cues = (f"{k}\n00:00:{k:02d},000 --> 00:00:{k:02d},900\n{text}\n" for k, text in enumerate(texts, 1))
    path.write_text("\n".join(cues), encoding="utf-8")
    return path


def test_captions_become_dialogue_with_a_remark_on_each(tmp_path):
    script = read_script(write_srt(tmp_path / "a.srt", CAPTIONS), F(20))
    assert said(script) == [
        *(("", "Did you hear that?"), ("", "Hear what?"), ("", "I am going."), ("MARTHA", "Wait for me!")),
        *(("MAN ON RADIO", "Storm tonight."), ("", "Row, row, row your boat"), ("JOHN", "Good evening.")),
    ]
    assert [line.id for line in script.lines] == ["2a", "2b", "3", "5", "6", "7", "8"]
    a, b = script.lines[:2]
    assert a.start == 2 and b.end == F(29, 10) and a.end == b.start and a.start < a.end < b.end
    assert [line.notes for line in script.lines if line.notes] == ["sung"] and script.lines[5].notes == "sung"
    kinds = [(remark.kind, remark.line_id) for remark in script.remarks]
    assert kinds == [
        *(("sound", ""), ("split", "2a"), ("sound", "3"), ("sound", "")),
        *(("speaker", "5"), ("song", "7"), ("speaker", "8")),
    ]
    assert "[door slams]" in script.remarks[0].text and "00:00:01.000" in script.remarks[0].text


def test_keep_leaves_captions_as_they_are_written(tmp_path):
    path = write_srt(tmp_path / "a.srt", CAPTIONS)
    options = SpeakOptions(sdh="keep").get_script_reading(F(20))
    assert [line.text for line in read_script(path, options=options).lines][:3] == list(CAPTIONS[:3])
    assert SpeakOptions().get_script_reading(F(20)).sdh == "drop"


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n[sighs] Go.\n\n00:03.000 --> 00:04.000\n&gt;&gt; JO: Yes.\n"),
        ("a.csv", "character,in,out,text\n,1.5,2.5,[sighs] Go.\n,3.5,4.5,>> JO: Yes.\n"),
        ("a.txt", "[sighs] Go.\n>> JO: Yes.\n"),
        (
            "a.ttml",
            '<tt xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="1s" end="2s">[sighs] Go.</p>'
            '<p begin="3s" end="4s">&gt;&gt; JO: Yes.</p></div></body></tt>',
        ),
    ],
)
def test_all_formats_are_resolved_alike(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    script = read_script(tmp_path / name)
    assert said(script) == [("", "Go."), ("JO", "Yes.")]
    assert [remark.kind for remark in script.remarks if remark.line_id] == ["sound", "speaker"]


@pytest.mark.parametrize(
    "text, turns",
    [
        ("[LAUGHING] Stop!", [("", "Stop!")]),
        ("[Martha, whispering] Come.", [("Martha", "Come.")]),
        ("[man on TV] News!", [("man on TV", "News!")]),
        ("[MAN]\nWait!", [("MAN", "Wait!")]),
        ("[MARTHA]: Hello", [("MARTHA", "Hello")]),
        ("JOHN [whispering]: Quiet.", [("JOHN", "Quiet.")]),
        ("(MARTHA) Wait", [("MARTHA", "Wait")]),
        ("I was (laughs) there.", [("", "I was there.")]),
        ("[in French] Bonjour", [("", "Bonjour")]),
        ("[[sighs]] Fine.", [("", "Fine.")]),
        ("*sighs* Fine.", [("", "Fine.")]),
        ("- [gasps]\n- What?", [("", "What?")]),
        ("-¿Qué?\n-¡Nada!", [("", "¿Qué?"), ("", "¡Nada!")]),
        ("Where were you?\n- Out.", [("", "Where were you?"), ("", "Out.")]),
        ("-Did you?\n-Yes.\nI did.", [("", "Did you?"), ("", "Yes.\nI did.")]),
        ("- JOHN: Hi\n- MARY: Ho", [("JOHN", "Hi"), ("MARY", "Ho")]),
        ("[JOHN] Hi.\n[MARY] Ho.", [("JOHN", "Hi."), ("MARY", "Ho.")]),
        (">> JOHN: Hi. >> MARY: Ho. >> Bye.", [("JOHN", "Hi."), ("MARY", "Ho."), ("", "Bye.")]),
        (">>> Bob: And now.", [("Bob", "And now.")]),
        ("# La la la #", [("", "La la la")]),
        ("（マーサ）待って！", [("マーサ", "待って！")]),
        ("（ため息）行くよ", [("", "行くよ")]),
        ("[seufzt] Na gut.", [("", "Na gut.")]),
    ],
)
def test_marks_of_speakers_and_sounds_are_told_apart(text, turns):
    script = resolve(text)
    assert said(script) == turns and script.remarks


@pytest.mark.parametrize(
    "text",
    [
        "♪",
        "♫ [upbeat music playing] ♫",
        "(DOOR SLAMS)",
        "[MARTHA SIGHS]",
        "（ドアの閉まる音）",
        "(phone\nringing)",
        ">> JO: [sighs]",
    ],
)
def test_a_cue_of_sounds_alone_is_no_line(text):
    script = resolve(text, "Hello.")
    assert said(script) == [("", "Hello.")] and [(r.kind, r.line_id) for r in script.remarks] == [("sound", "")]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "He (my brother) left.",
            "(I can't believe it.)",
            "Array[0] is first.",
            "*really* good",
            "Shops (open daily) sell it.",
            "#1 in the charts",
        ),
        *("-5 degrees\n-10 tomorrow", "I thought\n—never mind", "- Hello.", "...", "Remember: be careful.", "a > b"),
    ],
)
def test_words_without_marks_stay_as_they_are(text):
    script = resolve(text)
    assert said(script) == [("", text)] and script.remarks == ()


def test_songs_are_marked_however_they_are_written():
    for text in ("♪ La la ♪", "# La la #", "♫ La\nla", "[singing] La la", "¶ La la ¶"):
        (line,) = resolve(text).lines
        assert (line.notes, line.text.replace("\n", " ")) == ("sung", "La la"), text
    assert resolve("# Row #\n# boat #").lines[0].text == "Row\nboat"


def test_entities_and_numbered_speakers_are_read(tmp_path):
    path = write_srt(tmp_path / "a.srt", ["&gt;&gt; MAN #1: Hi.", "MAN #1: Ho.", "-[Martha] Wait!\n-[John] No!"])
    assert said(read_script(path)) == [("MAN #1", "Hi."), ("MAN #1", "Ho."), ("Martha", "Wait!"), ("John", "No!")]


def test_a_direction_in_the_name_is_not_another_speaker():
    assert said(resolve("Hush.", speaker="MARTHA (whispering)")) == [("MARTHA", "Hush.")]
    assert said(resolve("Hush.", speaker="JOHN (on phone)")) == [("JOHN", "Hush.")]
    assert said(resolve("Hush.", speaker="ANNA (child)")) == [("ANNA (child)", "Hush.")]
    assert said(resolve("Hi.\nBOB: Ho.", speaker="ANNA")) == [("ANNA", "Hi."), ("BOB", "Ho.")]


def test_a_speaker_is_written_as_elsewhere_in_the_script():
    lines = (Line("1", "Martha", F(0), F(1), "Hi."), Line("2", "", F(1), F(2), "[MARTHA] Wait."))
    assert resolve_sdh(Script(lines)).speakers == ("Martha",)
    lines = (
        *lines,
        Line("3", "", F(2), F(3), "[MARTHA ON PHONE] Yes."),
        Line("4", "", F(3), F(4), "[Jo on phone] No."),
    )
    assert resolve_sdh(Script(lines)).speakers == ("Martha", "Jo on phone")


def test_the_original_of_a_line_loses_its_sounds_too():
    line = Line("1", "", F(0), F(2), "(soupire) Oui.", original="(sighs) Yes.")
    assert resolve_sdh(Script((line,))).lines[0].original == "Yes."


def test_the_lines_of_a_project_are_spoken_as_they_stand(tmp_path):
    from mouthpiece.voice.scripts.project import create_project
    from mouthpiece.voice.scripts.project_file import save_project

    save_project(create_project(Script((Line("1", "", F(0), F(1), "(sighs) Oh."),))), tmp_path / "a.json")
    assert read_script(tmp_path / "a.json").lines[0].text == "(sighs) Oh."


def test_a_script_of_sounds_alone_is_refused_in_words(tmp_path):
    path = write_srt(tmp_path / "a.srt", ["[door slams]", "♪ ♪"])
    with pytest.raises(InvalidInputError, match="sounds and music alone") as refusal:
        read_script(path)
    assert "--sdh keep" in refusal.value.hint
    assert len(read_script(path, options=ScriptReadOptions(sdh="keep")).lines) == 2

"""Rolling captions: every row is one line at its own time, and ordinary captions stay as they are."""

from fractions import Fraction as F

import pytest

from mouthpiece.voice.scripts.formats import read_script, write_script
from mouthpiece.voice.scripts.script import Line, Script

ROWS = ("good morning everyone", "today we paint the fence", "and then we rest")


def write_cues(tmp_path, name, cues):
    """Write an SRT or WebVTT. cues: (start in ms, end in ms, text)."""

    def clock(ms):
        return f"00:{ms // 60_000:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"

    text = "\n\n".join(f"{clock(a)} --> {clock(b)}\n{body}" for a, b, body in cues)
    path = tmp_path / name
    path.write_text(("WEBVTT\n\n" if name.endswith("vtt") else "") + text + "\n", encoding="utf-8")
    return path


def list_lines(script):
    return [(float(line.start), line.text) for line in script.lines]


ROLLING = [
    (240, 2310, f" \n{ROWS[0]}"),
    (2310, 2320, f"{ROWS[0]}\n "),
    (2320, 4550, f"{ROWS[0]}\n{ROWS[1]}"),
    (4550, 4560, f"{ROWS[1]}\n "),
    (4560, 6800, f"{ROWS[1]}\n{ROWS[2]}"),
    (6800, 6810, f"{ROWS[2]}\n "),
]


@pytest.mark.parametrize("name", ["a.vtt", "a.srt"])
def test_captions_that_roll_in_two_rows_are_read_once_each(tmp_path, name):
    script = read_script(write_cues(tmp_path, name, ROLLING), F(8))
    assert list_lines(script) == [(0.24, ROWS[0]), (2.32, ROWS[1]), (4.56, ROWS[2])]
    assert [float(line.end) for line in script.lines] == [2.32, 4.56, 6.81]
    assert [(r.kind, "6 cues hold 3 lines" in r.text) for r in script.remarks] == [("format", True)]


def test_words_with_times_of_their_own_are_one_row(tmp_path):
    tagged = [
        (a, b, body.replace(" we", "<00:00:02.700><c> we</c>") if k == 2 else body)
        for k, (a, b, body) in enumerate(ROLLING)
    ]
    assert list_lines(read_script(write_cues(tmp_path, "a.vtt", tagged)))[1] == (2.32, ROWS[1])


def test_captions_that_roll_up_in_three_rows_keep_their_speakers(tmp_path):
    rows = ["ANNA: one", "two two", "BOB: three", "four", "five five"]
    cues = [(k * 1000, k * 1000 + 1000, "\n".join(rows[max(0, k - 2) : k + 1])) for k in range(5)]
    script = read_script(write_cues(tmp_path, "a.srt", cues))
    assert list_lines(script) == [(0, "one"), (1, "two two"), (2, "three"), (3, "four"), (4, "five five")]
    assert [line.speaker for line in script.lines][::2] == ["ANNA", "BOB", "BOB"]


def test_captions_that_are_painted_on_word_by_word_are_one_line(tmp_path):
    words, cues = ROWS[0].split(), []
    for k in range(3):
        cues.append((k * 400, k * 400 + 400, " ".join(words[: k + 1])))
    cues += [(3000, 3400, "今天"), (3400, 3900, "今天天气"), (3900, 4500, "今天天气很好")]
    script = read_script(write_cues(tmp_path, "a.srt", cues))
    assert [(line.start, line.end, line.text) for line in script.lines] == [
        (0, F("1.2"), ROWS[0]),
        (3, F("4.5"), "今天天气很好"),
    ]


def test_a_highlight_that_moves_from_word_to_word_leaves_one_line(tmp_path):
    cues = []
    for n, row in enumerate(ROWS):
        words = row.split()
        for k in range(len(words)):
            shown = " ".join(f"<u>{word}</u>" if k == j else word for j, word in enumerate(words))
            cues.append((n * 3000 + k * 300, n * 3000 + k * 300 + 300, shown))
    script = read_script(write_cues(tmp_path, "a.srt", cues))
    assert list_lines(script) == [(0, ROWS[0]), (3, ROWS[1]), (6, ROWS[2])]
    assert script.lines[1].end == F("4.5")


def test_rows_that_stay_while_the_next_is_spoken_end_where_it_begins(tmp_path):
    starts = [240, 2320, 4560, 7000, 9100, 11_000, 13_000]
    cues = [(a, c, f"row {k}") for k, (a, c) in enumerate(zip(starts, starts[2:]))]
    script = read_script(write_cues(tmp_path, "a.srt", cues))
    assert [float(line.end) for line in script.lines] == [2.32, 4.56, 7.0, 9.1, 13.0]
    assert [r.kind for r in script.remarks] == ["format"]


@pytest.mark.parametrize(
    "texts",
    [
        ("No!", "No!", "Stop it.", "Please.", "No!", "Why?"),  # said twice
        ("Wait.", "Wait. Who is there?", "Me.", "Come in.", "Sit down.", "Thanks."),  # one row that grows by chance
        ("a\nb", "c\nd", "d\ne", "f\ng", "h\ni", "j\nk"),
    ],
)
def test_ordinary_captions_stay_as_they_are(tmp_path, texts):
    cues = [(k * 1000, k * 1000 + 1000, text) for k, text in enumerate(texts)]
    script = read_script(write_cues(tmp_path, "a.srt", cues))
    assert [line.text for line in script.lines] == list(texts) and script.remarks == ()


def test_words_said_again_after_a_pause_are_not_taken_for_rows_that_stayed(tmp_path):
    cues = [*ROLLING, (9000, 9900, ROWS[2])]
    assert list_lines(read_script(write_cues(tmp_path, "a.vtt", cues)))[2:] == [(4.56, ROWS[2]), (9.0, ROWS[2])]


def test_a_script_that_repeats_rows_is_written_as_it_is(tmp_path):
    lines = tuple(Line(str(k), "", F(k), F(k + 1), text) for k, text in enumerate(("a", "a\nb", "b\nc"), 1))
    assert "a\nb" in write_script(Script(lines), tmp_path / "a.srt").read_text()


def test_rows_that_roll_while_cues_overlap_end_where_the_next_row_comes(tmp_path):
    cues = [(240, 4000, ROWS[0]), (2320, 6000, f"{ROWS[0]}\n{ROWS[1]}"), (4560, 6800, f"{ROWS[1]}\n{ROWS[2]}")]
    script = read_script(write_cues(tmp_path, "a.srt", cues))
    assert list_lines(script) == [(0.24, ROWS[0]), (2.32, ROWS[1]), (4.56, ROWS[2])]
    assert [float(line.end) for line in script.lines] == [2.32, 4.56, 6.8]


def test_sounds_between_rolling_rows_are_left_out_as_elsewhere(tmp_path):
    cues = [
        *ROLLING[:4],
        (4560, 6800, f"{ROWS[1]}\n[Music]"),
        (6800, 6810, "[Music]\n "),
        (6810, 7900, f"[Music]\n{ROWS[2]}"),
    ]
    script = read_script(write_cues(tmp_path, "a.vtt", cues))
    assert list_lines(script) == [(0.24, ROWS[0]), (2.32, ROWS[1]), (6.81, ROWS[2])]


def test_lines_of_a_song_that_are_sung_again_stay(tmp_path):
    texts = ["Let it be", "Let it be", "Let it be, let it be", "Let it be", "Let it be", "Let it be", "Whisper words"]
    script = read_script(write_cues(tmp_path, "a.srt", [(k * 2500, k * 2500 + 2500, t) for k, t in enumerate(texts)]))
    assert [line.text for line in script.lines] == texts
    lrc = tmp_path / "a.lrc"
    lrc.write_text("".join(f"[00:{k * 3:02d}.00]{text}\n" for k, text in enumerate(texts)))
    assert [line.text for line in read_script(lrc, F(30)).lines] == texts

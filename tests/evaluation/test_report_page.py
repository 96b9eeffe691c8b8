"""The page of a dub: whole in itself, true to its numbers, deaf to markup in scripts."""

import re

import numpy as np
import pytest
from lxml import html

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.errors import UsageError
from mouthpiece.evaluation.report_page import compute_severity, render_page, write_page
from mouthpiece.evaluation.timeline_svg import compute_waveform_peaks, draw_timeline, format_time_label

EVIL = "</title></style><script>alert(1)</script><img src=x onerror='alert(2)'>\"&"


def line(number, **facts):
    base = {
        "id": str(number),
        "speaker": "ANNA",
        "start_s": number * 3.0,
        "end_s": number * 3.0 + 2,
        "text": f"line {number}",
        "status": "spoken",
    }
    return {**base, "start_err_ms": 5.0, "end_err_ms": -3.0, "stretch": 1.0, **facts}


def test_nothing_a_script_says_becomes_markup():
    evil = line(
        1,
        text=EVIL,
        speaker=EVIL,
        original=EVIL,
        why=EVIL,
        lost_words=[EVIL],
        status=EVIL,
        rungs=[{"name": EVIL, "amount": 1, "note": EVIL}],
    )
    report = {
        "title": EVIL,
        "duration_s": 30,
        "lines": [evil],
        "remarks": [EVIL],
        "settings": {EVIL: EVIL},
        "loudness": {"spec": EVIL},
    }
    text = render_page(report, {EVIL: np.zeros((600, 2))}, [(EVIL, 1.0, b"x")])
    page = html.fromstring(text)
    assert not page.xpath("//script") and not page.xpath("//@onerror") and len(page.xpath("//style")) == 1
    assert (
        page.xpath("//head/title/text()") == [EVIL]
        and EVIL in page.xpath("//h1/text()")
        and EVIL in page.xpath("//li/text()")
    )


def test_the_page_asks_for_nothing_from_outside():
    text = render_page(
        {"title": "x", "duration_s": 9, "lines": [line(1)]}, {"mix": np.zeros((180, 2))}, [("1", 3.2, b"\x89PNG")]
    )
    page = html.fromstring(text)
    assert all(
        link.startswith(("#line-", "data:image/png;base64,"))
        for link in page.xpath("//@href | //@src | //@data | //@xlink:href", namespaces={"xlink": "x"})
    )
    assert not re.search(r"https?:|@import|url\(", text) and "default-src 'none'" in text


def test_takes_and_stems_can_be_heard_from_the_page_by_links_beside_it():
    text = render_page(
        {
            "title": "x",
            "duration_s": 9,
            "lines": [line(1, sound="lines/a b#1.wav")],
            "stems": ["dialogue.wav", "mix.wav"],
        },
        {},
        [],
    )
    page = html.fromstring(text)
    assert page.xpath("//tr//a/@href") == ["lines/a%20b%231.wav"] and page.xpath("//p/a/@href") == [
        "dialogue.wav",
        "mix.wav",
    ]


def test_the_keyboard_reaches_every_panel_and_drawings_leave_their_links_to_readers():
    page = html.fromstring(
        render_page({"title": "x", "duration_s": 9, "lines": [line(1)], "settings": {"a": 1}}, {}, [])
    )
    panels = page.xpath("//div[@class='panel']")
    assert len(panels) == 3 and all(panel.get("tabindex") == "0" and panel.get("aria-label") for panel in panels)
    assert (
        page.xpath("//svg/@role") == ["group"]
        and set(page.xpath("//th/@scope")) == {"col"}
        and len(page.xpath("//main")) == 1
    )


def test_a_line_that_its_slot_did_not_time_says_what_did():
    told = render_page(
        {"duration_s": 20, "lines": [line(1, timed_by="source", aimed_s=[3.2, 4.0]), line(2, timed_by="slot")]}, {}, []
    )
    assert told.count("timed as the actor speaks, 3.20 to 4.00 s") == 1 and "timed by" not in told


def test_the_worst_lines_come_first_and_every_link_has_its_row():
    lines = [
        line(1),
        line(2, start_err_ms=80.0),
        line(3, status="needs_review"),
        line(4, status="approved", start_err_ms=500.0),
        line(5, lost_words=["x"]),
    ]
    page = html.fromstring(render_page({"duration_s": 30, "lines": lines}, {}, []))
    rows = page.xpath("//tbody/tr/@id")
    assert rows == [f"line-{k}" for k in (3, 5, 2, 1, 4)] and {
        link[1:] for link in page.xpath("//svg//a/@href")
    } == set(rows)
    assert compute_severity(line(1, stretch=0.8)) < compute_severity(line(1, stretch=1.1))
    assert page.xpath("//tr[@id='line-2']/td[5]/@class") == ["number bad"] and page.xpath(
        "//tr[@id='line-1']/td[5]/text()"
    ) == ["+5"]


def test_slots_stand_where_their_times_are_on_every_row_they_touch():
    lines = [line(1, start_s=7.5, end_s=15.0, spoken_s=[9.0, 12.0]), line(2, start_s=28.0, end_s=34.0)]
    rows = draw_timeline(lines, 45.0, {}).split("</svg>\n")
    assert (
        len(rows) == 2
        and 'x="300.0" y="18" width="300.0"' in rows[0]
        and 'x="360.0" y="34" width="120.0" height="4" class="said"' in rows[0]
    )
    assert 'x="1120.0" y="18" width="80.0"' in rows[0] and 'x="0.0" y="18" width="160.0"' in rows[1]


def test_lines_at_the_same_time_lie_in_lanes():
    # a short film fills the width
    assert 'x="120.0" y="18" width="480.0"' in draw_timeline([line(1, start_s=1.0, end_s=5.0)], 9.6, {})
    picture = draw_timeline(
        [line(1, start_s=1.0, end_s=5.0), line(2, start_s=3.0, end_s=6.0), line(3, start_s=5.0, end_s=7.0)], 10.0, {}
    )
    assert re.findall(r'<rect x="[\d.]+" y="(\d+)" width="[\d.]+" height="15"', picture) == ["18", "44", "18"]


def test_waves_are_drawn_at_their_times_and_full_height():
    wave = np.zeros((1, 48000), np.float32)
    wave[0, 24000:26400], wave[0, 30000] = 0.5, -0.25
    peaks = compute_waveform_peaks(Sound(wave, 24000))
    assert (
        peaks.shape == (40, 2) and peaks[20].tolist() == [0.5, 0.5] and peaks[25, 0] == -0.25 and not peaks[:20].any()
    )
    drawn = re.search(r'<path d="M([^"]+)Z" class="wave"', draw_timeline([], 2.0, {"mix": peaks}))[1]
    points = [tuple(map(float, point.split())) for point in drawn.split("L")]
    top = min(y for _, y in points)
    assert {x for x, y in points if y == top} == {246.0, 258.0}  # 20.5 and 21.5 of 20 a second, 5 s in 1200 px


def test_peaks_of_a_file_are_those_of_its_sound(tmp_path):
    sound = Sound((0.4 * np.sin(np.arange(24000 * 3) / 40)).astype(np.float32)[None], 24000)
    write_sound(tmp_path / "a.wav", sound)
    assert np.abs(compute_waveform_peaks(tmp_path / "a.wav") - compute_waveform_peaks(sound)).max() < 1e-3


def test_a_thousand_lines_and_an_hour_are_one_page(tmp_path):
    path = write_page(
        tmp_path / "a.html",
        {"title": "x", "duration_s": 3600, "lines": [line(k) for k in range(1000)]},
        {"mix": np.zeros((72000, 2))},
    )
    page = html.parse(str(path))
    assert len(page.xpath("//tbody/tr")) == 1000 and len(page.xpath("//svg")) == 120


def test_little_is_enough_and_odd_values_do_no_harm():
    assert "0 lines" in render_page({}, {}, []) and "1 line<" in render_page(
        {"lines": [{"id": "1", "text": ""}]}, {}, []
    )
    odd = [
        line(1, start_s=None, end_s=None),
        line(2, end_s=6.0),
        line(3, start_s=9.0, end_s=8.0),
        line(4, start_s=500.0, end_s=501.0),
        line(5, stretch=0.0, start_err_ms=None),
    ]
    page = html.fromstring(
        render_page({"duration_s": 20, "lines": odd, "file": {"start_err_ms_p95": None}}, {"mix": np.zeros((0, 2))}, [])
    )
    assert len(page.xpath("//tbody/tr")) == 5


def test_tiles_are_coloured_by_what_they_mean():
    report = {
        "file": {"start_err_ms_p95": 12.0, "end_err_ms_p95": 45.0, "stretch_p95": 1.3, "lost_words": 0},
        "lines": [],
        "duration_s": 1,
    }
    report |= {"loudness": {"integrated_lufs": -22.1, "target_lufs": -23.0, "true_peak_dbtp": -0.5, "limit_dbtp": -1.0}}
    report |= {"picture": {"frames": 99, "frames_source": 100, "frames_match": False, "outside_changed_share": 0.0}}
    tiles = html.fromstring(render_page(report, {}, [])).xpath("//div[starts-with(@class, 'tile ')]")
    assert [tile.get("class").split()[1] for tile in tiles] == [
        "good",
        "good",
        "warn",
        "bad",
        "good",
        "warn",
        "bad",
        "bad",
        "good",
    ]


def test_a_page_that_is_there_stays_unless_told(tmp_path):
    path = write_page(tmp_path / "a.html", {"title": "one"})
    with pytest.raises(UsageError, match="already there"):
        write_page(path, {"title": "two"})
    assert "two" in write_page(path, {"title": "two"}, overwrite=True).read_text() and [
        p.name for p in tmp_path.iterdir()
    ] == ["a.html"]


def test_times_are_written_for_people():
    assert [format_time_label(t) for t in (0, 59.96, 62.34, 3725.0)] == ["0:00.0", "1:00.0", "1:02.3", "1:02:05.0"]

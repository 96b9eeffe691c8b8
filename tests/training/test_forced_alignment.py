import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.signal import resample_poly

from mouthpiece.engine.encoders.phonetic import PHONES
from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.training.data import forced_alignment
from mouthpiece.training.data.forced_alignment import (
    UNKNOWN_PHONE,
    align_phones,
    label_sentence,
    load_labelled_clips,
    save_labels,
    split_words,
    track_pitch,
)

LINE = "The small boat sailed past the old stone bridge."
LEAD_S = 0.4


@pytest.fixture(scope="module")
def decoder():
    from pocketsphinx import Decoder

    return Decoder(lm=None, loglevel="FATAL")


@pytest.fixture(scope="module")
def wave():
    """A line after 0.4 s of silence, 16 kHz."""
    from hibari import Hibari

    spoken = resample_poly(Hibari(threads=1)(LINE), 2, 3)
    return np.r_[np.zeros(int(16000 * LEAD_S)), spoken, np.zeros(4800)].astype(np.float32)


@pytest.fixture(scope="module")
def found(wave, decoder):
    return align_phones(wave, LINE, decoder)


def test_words_are_lower_case_without_punctuation_but_with_their_apostrophes():
    assert split_words("Don't -- 'stop', NOW! 3") == ["don't", "stop", "now"] and split_words("?!") == []


def test_phones_of_a_spoken_line_come_in_order_without_gap_or_overlap(found):
    ends = [start + length for _, start, length in found]
    assert all(length > 0 for _, _, length in found)
    assert [start for _, start, _ in found[1:]] == ends[:-1]
    said = [name for name, _, _ in found if name != "SIL"]
    assert set(said) <= set(PHONES)
    assert said[0] == "DH" and said[-4:] == ["B", "R", "IH", "JH"]


def test_phones_cover_the_speech_and_little_else(found, wave):
    loud = np.abs(wave[: len(wave) // 160 * 160].reshape(-1, 160)).max(1) > 0.02 * np.abs(wave).max()
    spoken = np.zeros(len(loud), bool)
    for name, start, length in found:
        if name != "SIL":
            spoken[start : start + length] = True
    assert (spoken & loud).sum() > 0.9 * loud.sum()
    assert not spoken[: int(100 * LEAD_S) - 8].any()


def test_sounds_that_are_not_the_text_or_words_unknown_give_nothing(wave, decoder):
    assert align_phones(wave, "", decoder) is None
    assert align_phones(wave, "the xqzvw boat", decoder) is None
    assert align_phones(np.zeros(1600, np.float32), LINE, decoder) is None


def test_labels_hold_one_phone_a_frame_and_silence_between(found, wave, decoder):
    mel, ids, f0 = label_sentence(wave * 0.05, LINE, decoder)
    assert mel.shape == (80, len(wave) // 160) and ids.shape == (mel.shape[1],) and f0.shape == (mel.shape[1] // 2,)
    assert mel.dtype == np.float16 and ids.dtype == np.uint8 and f0.dtype == np.float16
    name, start, length = max(found, key=lambda phone: phone[2] * (phone[0] != "SIL"))
    assert PHONES[ids[start + length // 2]] == name or abs(length) < 4
    assert (ids[:20] == PHONES.index("SIL")).all() and set(ids) - {UNKNOWN_PHONE} <= set(range(40))
    assert 70 < np.median(f0[f0 > 0]) < 300 and (f0[:15] == 0).all()


def test_pitch_of_a_tone_that_rises_is_where_it_should_be_at_each_tick():
    t = np.arange(32000) / 16000
    hz = 120 + 60 * t
    phase = np.cumsum(hz) / 16000
    wave = sum(np.sin(2 * np.pi * k * phase) / k for k in range(1, 8)).astype(np.float32) * 0.1
    track = track_pitch(np.r_[wave, np.zeros(16000, np.float32)], 150)
    middle = np.arange(10, 90)
    assert np.abs(track[middle] - (120 + 60 * (middle + 0.5) * 0.02)).max() < 1.0 and not track[110:].any()


def test_clips_come_back_from_the_file_as_they_went_in(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for name, length in (("a.ogg", 7), ("b.ogg", 10), ("c.ogg", 1)):
        mel, f0 = rng.normal(size=(80, length)).astype(np.float16), rng.uniform(80, 200, length // 2).astype(np.float16)
        rows.append((name, "who" if name == "b.ogg" else "", mel, rng.integers(0, 40, length).astype(np.uint8), f0))
    save_labels(tmp_path / "out" / "phones.npz", rows)
    clips = load_labelled_clips(tmp_path / "out" / "phones.npz")
    assert list(clips) == ["a.ogg", "b.ogg", "c.ogg"] and clips["b.ogg"]["speaker"] == "who"
    for name, _, mel, ids, f0 in rows:
        clip = clips[name]
        assert np.array_equal(clip["mel"], mel) and np.array_equal(clip["phones"], ids)
        assert np.array_equal(clip["f0"][: len(f0)], f0) and len(clip["f0"]) == -(-len(ids) // 2)


def test_the_whole_stage_writes_what_aligns_and_refuses_when_nothing_does(tmp_path, wave, monkeypatch):
    import soundfile

    here = nullcontext(SimpleNamespace(imap_unordered=map))  # a pool that works in this process
    monkeypatch.setattr(
        forced_alignment.multiprocessing, "get_context", lambda how: SimpleNamespace(Pool=lambda workers: here)
    )
    soundfile.write(tmp_path / "one.wav", wave, 16000)
    soundfile.write(tmp_path / "two.wav", wave, 16000)
    base = {"kind": "speech", "language": "en", "licence": "CC0-1.0", "source": "here"}
    rows = [
        base | {"path": "one.wav", "text": LINE, "speaker": "x"},
        base | {"path": "two.wav", "text": "xqzvw"},
        base | {"path": "not-there.wav", "language": "de"},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert forced_alignment.align_clips(tmp_path, tmp_path / "out") == (1, 2)
    assert [(n, c["speaker"]) for n, c in load_labelled_clips(tmp_path / "out" / "phones.npz").items()] == [
        ("one.wav", "x")
    ]
    (tmp_path / "manifest.jsonl").write_text(json.dumps(rows[1]))
    with pytest.raises(InvalidInputError, match="not one English clip"):
        forced_alignment.align_clips(tmp_path, tmp_path / "out")


def test_where_the_decoder_loses_its_way_it_is_tried_with_quiet_margins_and_times_stay_those_of_the_sound(
    wave, decoder, monkeypatch, found
):
    seen = []

    def lost_at_first(padded, said, how):
        seen.append(len(padded))
        return None if len(seen) == 1 else aligned(padded, said, how)

    aligned = forced_alignment._align_words
    monkeypatch.setattr(forced_alignment, "_align_words", lost_at_first)
    again = align_phones(wave, LINE, decoder)
    assert seen == [len(wave), len(wave) + 8000]
    assert [n for n, *_ in again] == [n for n, *_ in found]
    assert np.abs(np.array([a for _, a, _ in again]) - [a for _, a, _ in found])[1:].max() <= 6

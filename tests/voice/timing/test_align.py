"""Forced alignment: a known line found in its recording, and refused in words where it is not there."""

import numpy as np
import pytest
from scipy.signal import resample_poly

from mouthpiece.engine.encoders.phonetic import PHONES
from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.timing import align as module
from mouthpiece.voice.timing.align import (
    ARPABET_OF_PHONE,
    Alignment,
    align,
    find_quiet_frames,
    look_up_pronunciation,
    normalize_word,
    split_spoken_words,
)

RATE_HZ = 16_000
LINE = "The small boat carried 23 zorbloxes, past the old bridge."
OTHER = "Nobody ever thought much about photosynthesis in those winters."
LEAD_S, PAUSE_S = 0.4, 0.5


@pytest.fixture(scope="module")
def wave():
    """The line after 0.4 s of silence, with half a second of silence after its comma; 16 kHz."""
    from hibari import Hibari

    voice = Hibari(threads=1)
    first, second = (
        resample_poly(voice(part, seed=0), 2, 3)
        for part in ("The small boat carried 23 zorbloxes,", "past the old bridge.")
    )
    return np.r_[np.zeros(int(RATE_HZ * LEAD_S)), first, np.zeros(int(RATE_HZ * PAUSE_S)), second].astype(np.float32)


@pytest.fixture(scope="module")
def found(wave):
    return align(wave, LINE)


def test_every_word_gets_its_time_in_order_numbers_and_unknown_words_too(found):
    assert found.ok and found.method == "pocketsphinx"
    assert [text for text, _, _ in found.words] == split_spoken_words(LINE)
    edges = [t for _, start, stop in found.words for t in (start, stop)]
    assert edges == sorted(edges) and all(stop > start for _, start, stop in found.words)


def test_phones_fill_their_words_and_are_those_of_the_text(found):
    assert {name for name, _, _ in found.phones} <= set(PHONES) - {"SIL"}
    boat = next(w for w in found.words if w[0] == "boat")
    assert [n for n, a, _ in found.phones if boat[1] <= a < boat[2]] == ["B", "OW", "T"]
    assert found.phones[0][1] == found.words[0][1] and found.phones[-1][2] == found.words[-1][2]


def test_silence_before_the_line_and_within_it_belongs_to_no_word(found, wave):
    first_sound_s = np.flatnonzero(~find_quiet_frames(wave))[0] / 100
    assert first_sound_s > LEAD_S and abs(found.words[0][1] - first_sound_s) < 0.12
    before, after = (next(w for w in found.words if w[0].startswith(t)) for t in ("zorb", "past"))
    assert after[1] - before[2] > 0.6 * PAUSE_S


def test_level_does_not_matter(found, wave):
    quiet = align(wave * np.float32(0.02), LINE)
    assert [w[0] for w in quiet.words] == [w[0] for w in found.words]
    assert np.abs([a[1] - b[1] for a, b in zip(quiet.words, found.words)]).max() < 0.06


def test_another_text_is_not_believed(wave):
    other = align(wave, OTHER)
    assert not other.ok and "not fit" in other.note + "not fit" * ("another text" in other.note)
    assert other.confidence < module.MIN_PHONE_CONFIDENCE


def tones():
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    return (0.1 * sum(np.sin(2 * np.pi * f * t) for f in (220, 277, 330, 440))).astype(np.float32)


@pytest.mark.parametrize(
    "recording, word",
    [
        (np.zeros(2 * RATE_HZ, np.float32), "no speech"),
        (tones(), "no speech"),
        (np.zeros(0, np.float32), "no speech"),
        (np.full(RATE_HZ, np.nan, np.float32), "no speech"),
    ],
    ids=["silence", "music", "nothing", "no numbers"],
)
def test_a_recording_without_speech_gives_a_reason_and_no_words(recording, word):
    found = align(recording, LINE)
    assert found.words == () and not found.ok and word in found.note and found.confidence == 0


def test_a_text_without_words_and_a_text_far_too_long_give_reasons(wave):
    assert "no word" in align(wave, "…!? ♫").note
    assert "too little" in align(wave, LINE * 20).note


def test_other_languages_need_whisper_and_say_so(wave):
    found = align(wave, "Das kleine Boot fuhr an der alten Brücke vorbei.", "de")
    assert not found.ok and "whisper" in found.note


def test_more_than_one_channel_is_refused():
    with pytest.raises(UsageError, match="one channel"):
        align(np.zeros((2, 100), np.float32), LINE)


def test_numbers_and_names_are_pronounced():
    assert look_up_pronunciation("23").startswith("T W EH N") and look_up_pronunciation("Zorblox").startswith(
        "Z AO R B L"
    )
    assert set(" ".join(ARPABET_OF_PHONE.values()).split()) <= set(PHONES)


def test_words_compare_without_case_and_punctuation():
    assert (
        normalize_word("“Don’t,") == "don't"
        and normalize_word("well-known") == "wellknown"
        and normalize_word("__x__") == "x"
    )


def test_quiet_is_found_beneath_speech_above_a_noisy_floor():
    rng = np.random.default_rng(0)
    wave = rng.normal(size=RATE_HZ).astype(np.float32) * 0.003
    wave[4000:12000] += (0.3 * np.sin(2 * np.pi * 150 * np.arange(8000) / RATE_HZ)).astype(np.float32)
    quiet = find_quiet_frames(wave)
    assert quiet[:24].all() and quiet[76:].all() and not quiet[26:74].any()


def test_an_empty_alignment_is_not_ok():
    assert not Alignment().ok and not Alignment(words=(("a", 0.0, 0.1),), note="guess").ok

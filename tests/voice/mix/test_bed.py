from functools import lru_cache

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.voice.mix.bed import make_bed
from mouthpiece.voice.mix.dialogue_removal import extend_span, loop_tone, remove_dialogue

RATE_HZ = 48_000
ROOM = 0.002


@lru_cache(maxsize=1)
def spoken():
    """A sentence by the voice that comes with the package: (S,) at 48 kHz."""
    from hibari import Hibari

    wave = resample_poly(Hibari(threads=1)("The quick brown fox jumps over the lazy dog."), 2, 1).astype(np.float32)
    loud = np.flatnonzero(np.abs(wave) > 0.02)
    return wave[loud[0] : loud[-1]]


def film(under=None):
    """Two sentences in a room, (2, S), and the span of the first in seconds."""
    length = len(spoken()) + 4 * RATE_HZ
    sound = (
        np.random.default_rng(0).normal(0, ROOM, (2, 2 * length)).astype(np.float32)
        if under is None
        else under(2 * length)
    )
    for start in (2 * RATE_HZ, length + 2 * RATE_HZ):
        sound[:, start : start + len(spoken())] += spoken()
    return sound, (2.0, 2.0 + len(spoken()) / RATE_HZ)


def blocks_of(sound):
    return (sound[:, a : a + RATE_HZ] for a in range(0, sound.shape[1], RATE_HZ))


def test_a_line_is_replaced_by_the_room_and_everything_else_is_the_same_to_the_bit():
    sound, span = film()
    done = []
    out = np.concatenate(list(remove_dialogue(blocks_of(sound), [span], done)), 1)
    assert out.shape == sound.shape and [entry["how"] for entry in done] == ["room tone"]
    a, b = (round(done[0][key] * RATE_HZ) for key in ("start_s", "stop_s"))
    assert a <= span[0] * RATE_HZ and b >= span[1] * RATE_HZ - 1 and b - a < len(spoken()) + RATE_HZ
    assert np.array_equal(out[:, : a - 48], sound[:, : a - 48]) and np.array_equal(out[:, b + 48 :], sound[:, b + 48 :])
    inside = out[:, a + 4800 : b - 4800]
    assert np.sqrt((inside**2).mean()) == pytest.approx(ROOM, rel=0.1)
    assert np.abs(inside).max() < 8 * ROOM


def test_the_level_of_the_room_does_not_dip_at_its_seams():
    tone = np.random.default_rng(1).normal(0, 1, (1, RATE_HZ)).astype(np.float32)
    out = loop_tone(tone, 10 * RATE_HZ, np.random.default_rng(0))
    level = np.sqrt((out.reshape(-1, 2400) ** 2).mean(1))
    assert out.shape == (1, 10 * RATE_HZ) and level.min() > 0.85 and level[1:-1].max() < 1.15


def test_a_line_over_music_is_ducked_for_want_of_a_quiet_room():
    sound, span = film(lambda n: np.repeat(0.1 * np.sin(np.arange(n) * 0.02)[None], 2, 0).astype(np.float32))
    done = []
    out = np.concatenate(list(remove_dialogue(blocks_of(sound), [span], done)), 1)
    assert [entry["how"] for entry in done] == ["ducked"]
    middle = slice(3 * RATE_HZ, 4 * RATE_HZ)
    assert np.allclose(out[:, middle], sound[:, middle] * 10 ** (-18 / 20), atol=1e-6)


def test_spans_are_widened_by_the_speech_that_hangs_over():
    assert extend_span((48_000, 96_000), [(40_000, 100_000)], 200_000) == (40_000, 100_000)
    assert extend_span((48_000, 96_000), [(0, 200_000)], 200_000) == (48_000, 96_000)  # another line around it
    assert extend_span((48_000, 96_000), [(97_000, 99_000)], 200_000) == (48_000, 96_000)


def test_a_sound_without_lines_passes_as_it_is():
    sound, _ = film()
    assert np.array_equal(np.concatenate(list(remove_dialogue(blocks_of(sound), [])), 1), sound)


def test_keep_writes_a_bed_as_long_as_the_original(tmp_path):
    sound, span = film()
    write_sound(tmp_path / "film.wav", Sound(sound, RATE_HZ))
    bed = make_bed("keep", tmp_path / "film.wav", [span], tmp_path)
    info = soundfile.info(bed.source)
    assert (info.frames, info.channels, info.samplerate) == (sound.shape[1], 2, RATE_HZ)
    assert bed.facts["spans"][0]["how"] == "room tone"


def test_mute_and_own_beds_are_what_they_say(tmp_path):
    write_sound(tmp_path / "mne.wav", Sound(np.zeros((2, RATE_HZ), np.float32), RATE_HZ))
    assert make_bed("mute", tmp_path / "mne.wav", [], tmp_path).source is None
    own = make_bed(str(tmp_path / "mne.wav"), tmp_path / "mne.wav", [], tmp_path)
    assert own.source == tmp_path / "mne.wav" and own.facts["channels"] == 2 and own.facts["duration_s"] == 1.0


def test_a_bed_that_is_no_sound_says_what_is_accepted(tmp_path):
    with pytest.raises(UsageError, match="separate, keep, mute"):
        make_bed("kepp", tmp_path / "film.mp4", [], tmp_path)
    (tmp_path / "notes.wav").write_text("no sound at all")
    with pytest.raises(InvalidInputError, match="notes.wav"):
        make_bed(str(tmp_path / "notes.wav"), tmp_path / "film.mp4", [], tmp_path)

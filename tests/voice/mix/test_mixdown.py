import numpy as np
import pytest
import soundfile

from mouthpiece.engine.audio.loudness import measure_loudness
from mouthpiece.engine.audio.loudness_targets import parse_loudness_target
from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.voice.mix.mixdown import STEM_NAMES, PlacedSound, Programme, mix_programme, pan_to_layout, write_stems

RATE_HZ = 48_000


def line(samples, level=0.3):
    at = np.arange(samples)
    return Sound((level * np.sin(at * 0.05) * np.sin(at * 0.0007))[None].astype(np.float32), RATE_HZ)


def noise(samples, channels=2, level=0.05, seed=0):
    return Sound(np.random.default_rng(seed).normal(0, level, (channels, samples)).astype(np.float32), RATE_HZ)


def test_a_line_begins_at_its_sample_and_the_mix_has_the_length_of_the_programme():
    click = Sound(np.ones((1, 1), np.float32) * 0.5, RATE_HZ)
    stems = mix_programme(
        Programme((PlacedSound(click, 123_457), PlacedSound(click, 7, gain_db=-6.0206)), None, 200_001)
    )
    assert stems.mix.samples.shape == (1, 200_001)
    assert np.flatnonzero(stems.mix.samples[0]).tolist() == [7, 123_457]
    assert stems.mix.samples[0, 7] == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize("name", ["web", "-8"])
def test_stems_sum_to_the_mix_with_the_limiter_at_work(tmp_path, name):
    loud = line(72_000, 0.95)
    loud.samples[0, ::9600] = 0.99
    programme = Programme(
        (PlacedSound(loud, 4_800), PlacedSound(line(48_000), 70_000)), noise(2 * RATE_HZ), 3 * RATE_HZ - 11
    )
    paths = {stem: tmp_path / f"{stem}.wav" for stem in STEM_NAMES}
    facts = write_stems(programme, paths, parse_loudness_target(name))
    assert (facts["limited_db"] > 0.5) == (name == "-8")
    dialogue, bed, both = (soundfile.read(paths[stem], dtype="float64")[0] for stem in STEM_NAMES)
    assert both.shape == (3 * RATE_HZ - 11, 2) and soundfile.info(paths["mix"]).subtype == "PCM_24"
    assert 20 * np.log10(np.abs(dialogue + bed - both).max()) < -90
    assert facts["after"]["mix"]["true_peak_db"] <= -1 and abs(facts["landing_lu"]) < 0.1
    again = measure_loudness(Sound(both.T.astype(np.float32), RATE_HZ))
    assert facts["after"]["mix"]["lufs"] == pytest.approx(again.lufs, abs=0.01)


def test_netflix_is_metered_on_the_dialogue():
    programme = Programme((PlacedSound(line(RATE_HZ), 0),), noise(2 * RATE_HZ, level=0.2), 2 * RATE_HZ)
    facts = mix_programme(programme, parse_loudness_target("netflix")).facts
    assert facts["after"]["dialogue"]["lufs"] == pytest.approx(-27, abs=0.1)
    assert facts["after"]["mix"]["lufs"] > -25


def test_files_and_memory_give_the_same_mix(tmp_path):
    write_sound(tmp_path / "bed.wav", noise(2 * RATE_HZ), bits=24)
    from mouthpiece.engine.media.reading import read_sound

    lines = (PlacedSound(line(48_000), 1000),)
    facts = write_stems(
        Programme(lines, tmp_path / "bed.wav", 2 * RATE_HZ),
        {"mix": tmp_path / "mix.wav"},
        parse_loudness_target("r128"),
    )
    held = mix_programme(Programme(lines, read_sound(tmp_path / "bed.wav"), 2 * RATE_HZ), parse_loudness_target("r128"))
    assert facts == held.facts
    assert np.abs(soundfile.read(tmp_path / "mix.wav")[0].T - held.mix.samples).max() < 2**-22


def test_a_bed_too_short_or_too_long_is_padded_or_cut_and_said():
    short = mix_programme(Programme((), noise(RATE_HZ), 2 * RATE_HZ))
    assert not short.bed.samples[:, RATE_HZ:].any() and "1.000 s shorter" in short.facts["notes"][0]
    assert "1.000 s longer" in mix_programme(Programme((), noise(2 * RATE_HZ), RATE_HZ)).facts["notes"][0]


def test_a_bed_of_another_rate_keeps_its_length():
    bed = Sound(np.random.default_rng(0).normal(0, 0.1, (1, 22_050)).astype(np.float32), 22_050)
    stems = mix_programme(Programme((), bed, RATE_HZ))
    assert stems.facts["notes"] == [] and stems.bed.samples.shape == (1, RATE_HZ)


def test_lines_that_reach_beyond_the_programme_are_said():
    stems = mix_programme(Programme((PlacedSound(line(1000), -500), PlacedSound(line(1000), 9_900)), None, 10_000))
    assert stems.mix.samples.shape == (1, 10_000)
    assert any("2 line(s)" in note for note in stems.facts["notes"])


@pytest.mark.parametrize(("channels", "where"), [(1, [0]), (2, [0, 1]), (6, [2]), (8, [2]), (4, [0, 1])])
def test_a_voice_goes_to_the_centre_or_to_both_fronts_at_the_same_power(channels, where):
    out = pan_to_layout(np.full((1, 4), 0.5, np.float32), channels)
    assert np.flatnonzero(out.any(1)).tolist() == where
    assert (out**2).sum() == pytest.approx(4 * 0.25, rel=1e-5)


def test_surround_is_kept():
    bed = noise(RATE_HZ, channels=6)
    stems = mix_programme(Programme((PlacedSound(line(4800), 100),), bed, RATE_HZ))
    assert stems.facts["layout"] == "5.1" and np.allclose(stems.bed.samples, bed.samples)
    assert np.flatnonzero(stems.dialogue.samples.any(1)).tolist() == [2]


def test_what_cannot_be_mixed_is_refused():
    with pytest.raises(InvalidInputError, match="6 channels"):
        Programme((), noise(100, channels=6), 100, channels=4)
    with pytest.raises(UsageError, match="24000"):
        Programme((PlacedSound(Sound(np.zeros((1, 10), np.float32), 24_000), 0),), None, 100)


def test_silence_is_mixed_without_infinity():
    facts = mix_programme(Programme((), None, RATE_HZ), parse_loudness_target("r128")).facts
    assert facts["after"]["mix"] == {"lufs": None, "true_peak_db": None}
    assert facts["landing_lu"] is None and "silent" in facts["notes"][0]

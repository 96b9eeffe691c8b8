import math

import pytest
import torch

from mouthpiece.training.augment import (
    SILENCE_LOG_MEL,
    add_reverb,
    augment,
    band_limit,
    draw_uniform,
    mix_at_snr,
    perturb_vocal_tract_length,
    synthesize_music,
    to_log_magnitude,
    to_log_mel,
)


def mel_like(ticks, seed=0):
    return torch.randn(80, ticks, generator=torch.Generator().manual_seed(seed)) * 0.5


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_a_disguise_keeps_the_shape_depends_on_its_generator_alone_and_changes_the_sound():
    mel, others = mel_like(300), [mel_like(120, 1).half(), mel_like(500, 2)]
    seen = []
    for seed in range(40):  # every kind of noise comes up
        out = augment(mel, others, seeded(seed))
        assert out.shape == mel.shape and torch.isfinite(out).all()
        assert torch.equal(out, augment(mel, others, seeded(seed)))
        seen.append(out)
    assert all(not torch.allclose(a, b) for a, b in zip(seen, seen[1:])) and torch.equal(mel, mel_like(300))


def test_a_disguise_works_without_other_voices():
    assert all(augment(mel_like(100), [], seeded(seed)).shape == (80, 100) for seed in range(10))


@pytest.mark.parametrize("down_db", [3.0, 20.0])
def test_a_second_sound_lies_as_far_below_as_asked(down_db):
    voice, noise = mel_like(200), mel_like(200, 1)
    added = to_log_magnitude(mix_at_snr(voice, noise, down_db)).exp() - to_log_magnitude(voice).exp()
    ratio = to_log_magnitude(voice).exp().mean() / added.mean()
    assert 20 * math.log10(float(ratio)) == pytest.approx(down_db, abs=0.05)


def test_another_throat_moves_the_bands_and_none_keeps_them():
    mel = torch.arange(80.0)[:, None].repeat(1, 3)
    assert torch.equal(perturb_vocal_tract_length(mel, 0.0), mel)
    assert torch.allclose(perturb_vocal_tract_length(mel, 0.25)[:60, 0], torch.arange(60) * 1.25, atol=1e-4)
    assert perturb_vocal_tract_length(mel, 0.25)[79, 0] == 79


def test_music_is_steady_chords_that_change_every_half_second():
    music = synthesize_music(120, seeded(3))
    assert music.shape == (80, 120)
    assert (music[:, :50] == music[:, :1]).all() and (music[:, 50:100] == music[:, 50:51]).all()
    assert not torch.equal(music[:, 0], music[:, 50])


def test_units_go_there_and_back():
    mel = mel_like(5)
    assert torch.allclose(to_log_mel(to_log_magnitude(mel)), mel, atol=1e-5)
    assert float(to_log_mel(torch.tensor(1e-4).log())) == pytest.approx(SILENCE_LOG_MEL, abs=0.02)
    drawn = [draw_uniform(2, 5, seeded(s)) for s in range(50)]
    assert 2 <= min(drawn) < 2.5 and 4.5 < max(drawn) <= 5


def test_a_room_rings_on_after_the_voice_and_no_louder_than_asked():
    mel = torch.full((80, 120), SILENCE_LOG_MEL)
    mel[:, 40:60] = 0.5
    out = add_reverb(mel, 10, 6.0)
    assert (
        torch.allclose(out[:, :40], mel[:, :40], atol=0.06)
        and (out[:, 60:70] > mel[:, 60:70] + 0.3).all()
        and (out.diff(dim=1)[:, 61:90] < 0).all()
    )
    energy = (2 * to_log_magnitude(out)).exp() - (2 * to_log_magnitude(mel)).exp()
    assert 10 * math.log10(float((2 * to_log_magnitude(mel)).exp().sum() / energy.sum())) == pytest.approx(6, abs=0.3)


def test_a_narrow_line_carries_the_lowest_bands_alone():
    mel = mel_like(50)
    out = band_limit(mel, 60)
    assert torch.equal(out[:60], mel[:60]) and (out[60:] == mel.min()).all()

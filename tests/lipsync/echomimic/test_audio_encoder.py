"""What EchoMimic hears: whisper's own log-mel piece by piece, tokens around each frame, counts of the original."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from debug_echomimic import AUDIO_ENCODER
from debug_weights import randomize
from whisper.audio import log_mel_spectrogram

from mouthpiece.lipsync.echomimic import audio_encoder as module
from mouthpiece.lipsync.echomimic.audio_encoder import (
    AudioFeatures,
    WhisperAudioEncoder,
    gather_tokens,
    get_centre_tick,
)


@pytest.fixture(scope="module")
def small():
    return randomize(WhisperAudioEncoder(**AUDIO_ENCODER), 1.0, 7).eval()


def noise(samples, seed=0):
    rng = np.random.default_rng(seed)
    return (0.2 * rng.standard_normal(samples) * np.linspace(0.01, 1, samples)).astype(np.float32)


@pytest.mark.parametrize("samples", [800, 21_920, 33 * 16_000 + 77])
def test_the_log_mel_of_pieces_is_whispers_of_the_whole(small, samples):
    wave = noise(samples)
    hearing = AudioFeatures(small, wave)
    wanted = log_mel_spectrogram(wave, padding=0)
    assert hearing.mel_frames == wanted.shape[1] and hearing.states == samples // 160 // 2
    torch.testing.assert_close(hearing.compute_log_mel(0, hearing.mel_frames), wanted)
    torch.testing.assert_close(hearing.compute_log_mel(2, 5), wanted[:, 2:5])


def test_a_short_piece_is_followed_by_zeros_in_the_log_mel_and_not_by_silence(small):
    wave = noise(16_000)
    mel = torch.nn.functional.pad(log_mel_spectrogram(wave, padding=0), (0, 2900))
    with torch.no_grad():
        wanted = small(mel)[:50]
    torch.testing.assert_close(AudioFeatures(small, wave).get_states(range(50)), wanted)


def test_tokens_piece_by_piece_are_those_of_the_whole(small):
    hearing = AudioFeatures(small, noise(16_000))
    states = hearing.get_states(range(hearing.states))
    for fps in (Fraction(25), Fraction(30000, 1001), Fraction(60)):
        whole = gather_tokens(states, 30, fps)
        assert whole.shape == (1, 30, 50, AUDIO_ENCODER["width"])
        assert torch.equal(torch.cat([hearing.get_tokens(i, i + 3, fps) for i in range(0, 30, 3)], 1), whole)
    assert torch.equal(gather_tokens(states, 2, 25)[0, 1].reshape(10, 5, -1), states[[0, 0, 0, 1, 2, 3, 4, 5, 6, 7]])


def test_a_long_sound_is_encoded_thirty_seconds_at_a_time_and_forgotten(small, monkeypatch):
    heard = []
    listen = AudioFeatures._encode_segment
    monkeypatch.setattr(
        AudioFeatures, "_encode_segment", lambda self, number: heard.append(number) or listen(self, number)
    )
    hearing = AudioFeatures(small, noise(95 * 16_000))
    assert heard == []
    for start in range(0, 95 * 25, 12):
        hearing.get_tokens(start, start + 12, 25)
    assert heard == [0, 1, 2, 3]
    assert hearing._segment.cache_info().currsize == module.CACHED_SEGMENTS


def test_frames_are_about_their_own_time():
    assert [get_centre_tick(i, Fraction(25)) for i in (0, 1, 25)] == [0, 2, 50]
    assert get_centre_tick(30_000, Fraction(30000, 1001)) == 50 * 1001


def test_a_sound_shorter_than_a_mel_frame_is_padded_with_silence(small):
    assert torch.isfinite(AudioFeatures(small, np.zeros(10, np.float32)).get_tokens(0, 2, 25)).all()

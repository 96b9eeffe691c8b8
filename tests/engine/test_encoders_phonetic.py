import inspect

import numpy as np
import pytest
import torch

from mouthpiece.engine.contracts import ARTICULATION_WIDTH, Articulation
from mouthpiece.engine.encoders.phonetic import (
    MEL_BINS,
    PHONES,
    SPEECH_RMS,
    PhoneticEncoder,
    compute_energy,
    compute_log_mel,
    encode_articulation,
    extract_articulation,
    load_phonetic_encoder,
    make_mel_filters,
    normalize_level,
)
from mouthpiece.engine.weights.records import get_model_hashes, record_models


def grown_encoder(width=16, dilations=(1, 1, 2, 2, 1, 2, 4, 1)):
    """A narrow encoder of full reach whose every weight matters, as after training."""
    torch.manual_seed(0)
    encoder = PhoneticEncoder(width, dilations)
    for p in encoder.parameters():
        p.data += torch.randn(p.shape) * 0.2
    return encoder.eval()


def voice_like(seconds, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(int(16000 * seconds)) / 16000
    tone = sum(np.sin(2 * np.pi * 140 * k * t + k) / k for k in range(1, 12))
    return ((tone * (1 + np.sin(2 * np.pi * 3 * t)) + rng.normal(size=len(t)) * 0.05) * 0.03).astype(np.float32)


def slow_bank(bins, n_fft, rate_hz, low_hz, high_hz):
    """Triangles one number at a time."""

    def mel(hz):
        return 2595 * np.log10(1 + hz / 700)

    edges = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(mel(low_hz), mel(high_hz), bins + 2)]
    bank = np.zeros((bins, n_fft // 2 + 1))
    for b in range(bins):
        for k in range(n_fft // 2 + 1):
            hz, (low, middle, high) = k * rate_hz / n_fft, edges[b : b + 3]
            if low < hz <= middle:
                bank[b, k] = (hz - low) / (middle - low)
            elif middle < hz < high:
                bank[b, k] = (high - hz) / (high - middle)
    return bank


@pytest.mark.parametrize("bins, n_fft, rate_hz", [(80, 512, 16000), (23, 256, 8000)])
def test_mel_filters_are_the_triangles_of_the_book(bins, n_fft, rate_hz):
    high = rate_hz * 0.475
    slow = slow_bank(bins, n_fft, rate_hz, 50, high)
    assert np.abs(make_mel_filters(bins, n_fft, rate_hz, 50, high).numpy() - slow).max() < 1e-5


@pytest.mark.parametrize("samples, frames", [(16000, 100), (160, 1), (100, 1), (319, 1), (320, 2), (16159, 100)])
def test_there_is_a_log_mel_frame_for_each_whole_hop_and_at_least_one(samples, frames):
    mel = compute_log_mel(np.ones(samples, np.float32) * 0.01)
    assert mel.shape == (MEL_BINS, frames) and torch.isfinite(mel).all()


@pytest.mark.parametrize("hz", [200, 1000, 5000])
def test_a_tone_lands_in_the_band_of_its_pitch(hz):
    mel = compute_log_mel(np.sin(2 * np.pi * hz * np.arange(16000) / 16000).astype(np.float32) * 0.1)
    bank = make_mel_filters().numpy()
    centre_hz = (bank * np.arange(257) * 31.25).sum(1) / bank.sum(1)
    assert centre_hz[mel[:, 50].argmax()] == pytest.approx(hz, rel=0.08)


def test_a_click_shows_in_the_frame_of_its_instant():
    wave = np.zeros(16000, np.float32)
    wave[6400] = 0.5
    loud = compute_log_mel(wave).mean(0)
    assert int(loud.argmax()) == 40 and torch.allclose(loud[39], loud[41], atol=1e-4)


def slow_frame(wave, k):
    """One log-mel frame by the definition of the Fourier transform."""
    padded = np.pad(wave.astype(float), 256)[160 * k : 160 * k + 512]
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    turn = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(512)) / 512)
    return np.log(np.maximum(slow_bank(80, 512, 16000, 50, 7600) @ np.abs(turn @ (padded * window)), 1e-4)) * 0.4 + 1.2


def test_log_mel_is_the_transform_written_out():
    wave = voice_like(0.3)
    mel = compute_log_mel(wave).numpy()
    for k in (0, 7, 29):
        assert np.abs(mel[:, k] - slow_frame(wave, k)).max() < 1e-3


@pytest.mark.parametrize("gain", [1e-3, 0.3, 8.0])
def test_the_level_of_a_recording_does_not_matter(gain):
    wave = voice_like(1.0)
    assert np.allclose(normalize_level(wave * gain), normalize_level(wave), rtol=1e-3, atol=1e-6)


def test_speech_comes_out_at_speaking_level_however_long_the_pauses():
    speech = voice_like(1.0)
    paused = np.concatenate([np.zeros(48000, np.float32), speech, np.zeros(48000, np.float32)])
    n = len(speech) // 160
    power = (normalize_level(speech)[: n * 160].reshape(n, 160) ** 2).mean(1)
    assert np.sqrt(power[power > np.quantile(power, 0.95) * 0.01].mean()) == pytest.approx(SPEECH_RMS, rel=0.02)
    assert np.abs(normalize_level(paused)[48000:64000]).max() == pytest.approx(
        np.abs(normalize_level(speech)).max(), rel=0.1
    )


@pytest.mark.parametrize("samples", [0, 100, 16000])
def test_digital_silence_stays_silence(samples):
    silence = np.zeros(samples, np.float32)
    assert np.array_equal(normalize_level(silence), silence)


def test_energy_counts_loudness_in_the_units_of_the_log_mel_down_to_a_floor():
    wave = np.random.default_rng(0).normal(size=16000).astype(np.float32) * 0.05
    once, twice, silence = (compute_energy(compute_log_mel(w)[None])[0] for w in (wave, 2 * wave, 0 * wave))
    assert once.shape == (50,) and torch.allclose(twice - once, torch.full((50,), 0.4 * float(np.log(2))), atol=1e-3)
    assert (silence == -1.5).all()


def test_articulation_has_posteriors_that_sum_to_one_and_pitch_only_as_far_as_voiced():
    encoder = grown_encoder()
    mel = compute_log_mel(normalize_level(voice_like(1.0)))[None]
    with torch.no_grad():
        out = encode_articulation(encoder, mel)
        logits, voicing, f0 = encoder(mel)
    assert out.shape == (1, 50, ARTICULATION_WIDTH) == (1, 50, 43) and len(PHONES) == 40 == len(set(PHONES))
    assert torch.allclose(out[..., :40].sum(-1), torch.ones(1, 50)) and torch.equal(out[..., -1], compute_energy(mel))
    assert torch.allclose(out[..., 41], f0 * torch.sigmoid(voicing)) and logits.shape == (1, 50, 40)
    heard = Articulation(out[0].numpy())
    assert np.array_equal(heard.phone_posteriors, out[0, :, :40].numpy()) and np.array_equal(
        heard.energy, out[0, :, -1].numpy()
    )


@pytest.mark.parametrize("seconds", [2.0, 3.99, 0.01, 5.013])
def test_a_long_recording_heard_in_windows_is_heard_as_in_one_pass(seconds):
    encoder, wave = grown_encoder(), voice_like(seconds)
    whole, pieces = (
        extract_articulation(encoder, wave, window_s=60.0).values,
        extract_articulation(encoder, wave, window_s=1.0).values,
    )
    assert whole.shape == (max(1, int(np.ceil(seconds * 50 - 1e-9))), ARTICULATION_WIDTH) and whole.dtype == np.float32
    assert np.abs(whole - pieces).max() < 1e-4


def test_the_encoder_hears_no_further_than_the_margin_of_a_window():
    encoder = grown_encoder()
    mel = torch.randn(1, 80, 400, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    encoder(mel)[0][0, 100].sum().backward()
    heard = mel.grad.abs().sum((0, 1)).nonzero().flatten()
    # two for the frames' own width
    margin = round(100 * inspect.signature(extract_articulation).parameters["margin_s"].default) - 2
    assert 200 - margin <= heard.min() < 200 - 100 and 200 + 100 < heard.max() <= 200 + margin


def test_no_call_of_the_encoder_sees_more_than_a_window(monkeypatch):
    encoder, longest = grown_encoder(16, (1,)), []
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda mel: longest.append(mel.shape[-1]) or forward(mel))
    extract_articulation(encoder, voice_like(30.0), window_s=4.0, margin_s=1.0)
    assert len(longest) == 8 and max(longest) == 600


def test_items_of_a_batch_are_heard_alone():
    encoder, mel = grown_encoder(), torch.randn(3, 80, 60)
    with torch.no_grad():
        together, alone = encoder(mel), encoder(mel[1:2])
    assert all(torch.allclose(t[1], a[0], atol=1e-5) for t, a in zip(together, alone))


def test_the_embedded_encoder_is_loaded_once_a_process_and_named_in_every_record():
    records = []
    for _ in range(2):
        with record_models():
            encoder = load_phonetic_encoder()
            records.append(get_model_hashes())
    assert load_phonetic_encoder() is encoder and not encoder.training
    assert list(records[0]) == ["phonetic"] and records[0] == records[1]

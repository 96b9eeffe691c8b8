"""The nearest voice: embeddings, mixes, formants, and what is refused."""

import numpy as np
import pytest

from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, UsageError
from mouthpiece.engine.provenance.consent import NOT_RECORDED
from mouthpiece.voice.backends import voice_matching as module
from mouthpiece.voice.backends.speaker_encoder import (
    SpeakerEncoder,
    compute_mel_power,
    compute_speaker_similarity,
    embed_speaker,
    extract_speech,
    load_speaker_encoder,
    make_slaney_filterbank,
)
from mouthpiece.voice.backends.voice_matching import apply_formant_shift, match_voice, rank_mixes
from mouthpiece.voice.timing.pitch import estimate_f0

RATE_HZ, VOICE_HZ = 16_000, 24_000


def buzz(pitch_hz, formants_hz=(600, 1200, 2500), seconds=2.0, rate_hz=VOICE_HZ):
    """A vowel: pulses through resonances."""
    from scipy.signal import lfilter

    phase = np.cumsum(np.full(int(seconds * rate_hz), pitch_hz)) / rate_hz
    x = np.diff(np.floor(phase), prepend=0)
    for centre in formants_hz:
        r = np.exp(-np.pi * 100 / rate_hz)
        x = lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * centre / rate_hz), r * r], x)
    return (0.3 * x / np.abs(x).max()).astype(np.float32)


def test_mel_filters_are_those_whisper_ships():
    from whisper.audio import mel_filters

    assert np.allclose(make_slaney_filterbank(80), mel_filters("cpu", 80).numpy(), atol=1e-6)


def test_mel_has_a_frame_a_hop():
    assert compute_mel_power(np.zeros(16000, np.float32)).shape == (101, 40)


def test_embeddings_are_positive_and_of_length_one():
    import torch

    out = SpeakerEncoder().eval()(torch.rand(2, 160, 40))
    assert out.shape == (2, 256) and torch.allclose(out.norm(dim=1), torch.ones(2)) and (out >= 0).all()


@pytest.fixture(scope="module")
def encoder():
    try:
        return load_speaker_encoder()
    except MissingDependencyError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def lines():
    """Two lines of one voice, 16 kHz."""
    from hibari import Hibari
    from scipy.signal import resample_poly

    voice = Hibari(threads=1)
    texts = ("The quick brown fox jumps over the lazy dog.", "Somebody left an umbrella under the table.")
    return [resample_poly(voice(t, seed=0), 2, 3).astype(np.float32) for t in texts]


def test_one_voice_is_nearer_to_itself_than_to_a_changed_one(encoder, lines):
    one, same = (embed_speaker(w, encoder) for w in lines)
    other = embed_speaker(apply_formant_shift(lines[1], RATE_HZ, 0.82, -8.0), encoder)
    assert compute_speaker_similarity(one, same) > compute_speaker_similarity(one, other) + 0.1


def test_level_and_silence_do_not_change_the_speaker(encoder, lines):
    one = embed_speaker(lines[0], encoder)
    padded = np.r_[np.zeros(20000), lines[0] * 0.01, np.zeros(9000)].astype(np.float32)
    assert compute_speaker_similarity(one, embed_speaker(padded, encoder)) > 0.97


@pytest.mark.parametrize(
    "wave", [np.zeros(32000), np.zeros(3), 0.2 * np.sin(np.arange(32000) * 0.08)], ids=["silence", "nothing", "tone"]
)
def test_a_recording_without_speech_is_refused_in_words(wave):
    with pytest.raises(InvalidInputError, match="too little to know a voice by"):
        extract_speech(wave.astype(np.float32))


def test_two_channels_are_refused():
    with pytest.raises(UsageError, match="one channel"):
        extract_speech(np.zeros((2, 16000), np.float32))


def test_another_file_in_place_of_the_weights_is_refused(monkeypatch, tmp_path):
    import types

    (tmp_path / "pretrained.pt").write_bytes(b"something else")
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("mouthpiece.voice.backends.speaker_encoder.importlib.util.find_spec", lambda name: spec)
    load_speaker_encoder.cache_clear()
    with pytest.raises(MissingDependencyError, match="not the file of Resemblyzer"):
        load_speaker_encoder()
    monkeypatch.setattr("mouthpiece.voice.backends.speaker_encoder.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="not installed") as problem:
        load_speaker_encoder()
    assert "pip install" in problem.value.hint
    load_speaker_encoder.cache_clear()


def test_a_mix_that_makes_the_target_is_found():
    rng = np.random.default_rng(0)
    voices = np.abs(rng.normal(size=(5, 256)))
    voices /= np.linalg.norm(voices, axis=1, keepdims=True)
    spec = rank_mixes(list("abcde"), voices, 0.6 * voices[1] + 0.4 * voices[3])[0]
    assert spec == "b:0.60+d:0.40"


def test_formants_move_pitch_and_length_stay():
    wave = buzz(120)
    out = apply_formant_shift(wave, VOICE_HZ, 1.1)

    def centre(x):
        power = np.abs(np.fft.rfft(x)) ** 2
        f = np.fft.rfftfreq(len(x), 1 / VOICE_HZ)
        band = (f > 400) & (f < 850)
        return (power[band] * f[band]).sum() / power[band].sum()

    assert out.shape == wave.shape and abs(estimate_f0(out, VOICE_HZ).median_hz - 120) < 2
    assert 1.04 < centre(out) / centre(wave) < 1.16


def test_pitch_moves_by_the_semitones_asked_for_and_nothing_asked_is_nothing_done():
    wave = buzz(120)
    assert abs(estimate_f0(apply_formant_shift(wave, VOICE_HZ, 1.0, 3.0), VOICE_HZ).median_hz / 120 - 2**0.25) < 0.02
    assert apply_formant_shift(wave, VOICE_HZ) is not None and np.array_equal(apply_formant_shift(wave, VOICE_HZ), wave)


@pytest.fixture
def little_world(monkeypatch, tmp_path):
    """Three voices whose embeddings are their pitch; no weights, no voice needed."""
    monkeypatch.setenv("MOUTHPIECE_CACHE_DIR", str(tmp_path))
    pitch = {"low": 90.0, "middle": 150.0, "high": 240.0}
    asked = []

    def speak(spec, shift_st):
        asked.append(spec)
        shares = [part.partition(":")[::2] for part in spec.split("+")]
        hz = sum(pitch[name] * float(share or 1) for name, share in shares)
        return buzz(hz * 2 ** (shift_st / 12), seconds=0.6)

    def embedding(wave, encoder=None):
        angle = np.log2(estimate_f0(wave, RATE_HZ).median_hz / 60) / 2
        return np.r_[np.cos(angle), np.sin(angle), np.zeros(254)].astype(np.float32)

    monkeypatch.setattr(module, "embed_speaker", embedding)
    monkeypatch.setattr(module, "extract_speech", lambda wave: wave)
    return speak, list(pitch), asked


def test_the_nearest_voice_is_found_and_moved_to_the_actors_register(little_world):
    speak, names, _ = little_world
    found = match_voice(buzz(170, rate_hz=RATE_HZ), names, speak)
    assert found.single == "middle" and found.similarity_after >= found.similarity_before
    assert found.as_dict()["consent"] == NOT_RECORDED == "consent not recorded"
    far = match_voice(buzz(310, rate_hz=RATE_HZ), names, speak)
    assert far.single == "high" and 1 < far.pitch_shift_st <= module.MAX_SHIFT_ST


def test_what_voices_sound_like_is_learned_once(little_world):
    speak, names, asked = little_world
    module.embed_voices(names, speak)
    assert asked == names
    module.embed_voices(names, speak)
    assert asked == names


def test_a_damaged_cache_is_made_anew(little_world, tmp_path):
    speak, names, asked = little_world
    module.embed_voices(names, speak)
    next((tmp_path / "voices").glob("*.npz")).write_bytes(b"broken")
    module.embed_voices(names, speak)
    assert len(asked) == 2 * len(names)


def test_no_voice_to_choose_from_is_refused(little_world):
    with pytest.raises(InvalidInputError, match="no voice to choose from"):
        match_voice(buzz(170, rate_hz=RATE_HZ), [], little_world[0])


def test_consent_is_recorded(little_world):
    class Given:
        def as_record(self):
            return {"who": "the actor"}

    speak, names, _ = little_world
    assert match_voice(buzz(170, rate_hz=RATE_HZ), names, speak, consent=Given()).as_dict()["consent"] == {
        "who": "the actor"
    }

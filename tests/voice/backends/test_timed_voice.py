import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, MouthpieceError, UsageError
from mouthpiece.engine.weights.download import is_model_available
from mouthpiece.voice.backends import chatterbox, hibari, kokoro, timed_voice
from mouthpiece.voice.plan.speech_plan import PAUSE, UNIT_SAMPLES, SpeechPlan
from mouthpiece.voice.text.phones import Utterance, make_utterance


@pytest.fixture(scope="module")
def small():
    return hibari.Hibari(threads=1)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    if not is_model_available(kokoro.NAME):
        pytest.skip("the model of Kokoro is not on this machine; the extra 'voices' brings it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUTHPIECE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield kokoro.Kokoro("af_heart", "en-us", kokoro.mix_styles({"af_heart": 1.0}), threads=1)


def loudness(wave, plan, first, last):
    """Root mean square of phones first..last of a spoken plan."""
    edges = plan.edges * UNIT_SAMPLES
    return float(np.sqrt(np.mean(wave[0, edges[first] : edges[last]] ** 2)))


def check_voice(voice, text):
    plan = voice.predict_plan(make_utterance(text, "en-us"))
    wave = voice.speak(plan)
    assert wave.shape == (1, plan.samples) and wave.dtype == np.float32
    assert np.abs(wave).max() > 0.1  # speech, no silence
    np.testing.assert_array_equal(wave, voice.speak(plan))
    slow = plan.retime([round(d * 1.4) for d in plan.durations])
    assert voice.speak(slow).shape == (1, slow.samples)


def test_hibari_speaks_its_plans_exact_to_the_sample_and_the_same_each_time(small):
    check_voice(small, "Hello, world.")


def test_kokoro_speaks_its_plans_exact_to_the_sample_and_the_same_each_time(large):
    check_voice(large, "Hi.")


def test_marks_without_time_take_no_samples(small):
    plan = small.predict_plan(make_utterance("Hello, world.", "en-us"))
    tight = plan.retime([0 if p in " ,." else d for p, d in zip(plan.phones, plan.durations)])
    assert small.speak(tight).shape == (1, tight.samples) and tight.units < plan.units


def test_kokoro_gives_no_time_to_marks_that_have_none(large):
    plan = large.predict_plan(make_utterance("Hi, you.", "en-us"))
    tight = plan.retime([0 if p in " ,." else d for p, d in zip(plan.phones, plan.durations)])
    assert large.speak(tight).shape == (1, tight.samples)


def test_the_pitch_that_a_plan_asks_for_is_the_pitch_that_is_spoken(small):
    parselmouth = pytest.importorskip("parselmouth")
    plan = small.predict_plan(make_utterance("We were away a year ago.", "en-us"))

    def pitch_hz(wave):
        values = parselmouth.Sound(wave[0].astype(float), 24000).to_pitch().selected_array["frequency"]
        return np.median(values[values > 0])

    natural, high = (pitch_hz(small.speak(plan.replace_curves(f0=plan.f0 * scale))) for scale in (1, 1.3))
    assert high / natural == pytest.approx(1.3, rel=0.05)


def test_a_faster_tempo_makes_a_shorter_plan(small):
    one = make_utterance("Please call the office before noon.", "en-us")
    assert small.predict_plan(one, 1.5).units < small.predict_plan(one).units < small.predict_plan(one, 0.7).units


@pytest.mark.parametrize("speed", [0, 0.4, 2.1, -1, float("nan")])
def test_a_tempo_that_nobody_speaks_is_refused(small, speed):
    with pytest.raises(UsageError, match="0.5 to 2.0"):
        small.predict_plan(make_utterance("Hello", "en-us"), speed)


@pytest.mark.parametrize("where", ["Hello [pause 1s] world.", "Hello, [pause 1s] world.", "See [pause 1000ms] him"])
def test_a_pause_asked_for_has_its_length_and_is_silent(small, where):
    one = make_utterance(where, "en-us")
    plan = small.predict_plan(one)
    ((k, length_s),) = one.pauses
    assert plan.durations[k] == 40 and length_s == Fraction(1)
    wave = small.speak(plan)
    inside = wave[0, (plan.edges[k] + 3) * UNIT_SAMPLES : (plan.edges[k + 1] - 2) * UNIT_SAMPLES]
    assert np.sqrt(np.mean(inside**2)) < 0.002 < 0.02 < loudness(wave, plan, 1, k)


def test_a_pause_of_kokoro_between_words_that_run_together_is_silent(large):
    one = make_utterance("See [pause 0.6s] him", "en-us")
    plan = large.predict_plan(one)
    ((k, _),) = one.pauses
    wave = large.speak(plan)
    inside = wave[0, (plan.edges[k] + 4) * UNIT_SAMPLES : (plan.edges[k + 1] - 2) * UNIT_SAMPLES]
    assert plan.durations[k] == 24 and np.sqrt(np.mean(inside**2)) < 0.002


def test_planner_sees_commas_where_pauses_were_asked_for():
    assert timed_voice._replace_pauses((PAUSE, "a", PAUSE, " ", "b", PAUSE)) == [PAUSE, "a", ",", " ", "b", PAUSE]
    assert timed_voice._replace_pauses((PAUSE, "a", ".", " ", PAUSE, "b", PAUSE)) == [
        PAUSE,
        "a",
        ".",
        " ",
        " ",
        "b",
        PAUSE,
    ]


def test_more_phones_than_the_voice_holds_are_refused_with_the_way_out(small):
    phones = (PAUSE, *"a" * (timed_voice.MAX_MODEL_PHONES + 1), PAUSE)
    with pytest.raises(InvalidInputError, match="511 phones at once.*utterances"):
        small.predict_plan(Utterance("a", "en-us", phones))


def test_symbols_outside_the_alphabet_are_refused(small):
    curve = np.zeros(6, np.float32)
    with pytest.raises(InvalidInputError, match="phones 9: not in the voice's alphabet"):
        small.speak(SpeechPlan("x", "en-us", (PAUSE, "9", PAUSE), (1, 1, 1), curve, curve))


def test_mixed_styles_lie_between_their_voices():
    a, b, mix = (
        kokoro.mix_styles(w) for w in ({"af_heart": 1.0}, {"am_adam": 1.0}, {"af_heart": 0.25, "am_adam": 0.75})
    )
    assert a.shape == (510, 256) and a.dtype == np.float32
    np.testing.assert_allclose(mix, 0.25 * a + 0.75 * b, rtol=1e-5, atol=1e-6)


def test_a_changed_file_of_styles_is_missing(tmp_path, monkeypatch):
    other = tmp_path / "kokoro.safetensors"
    other.write_bytes(kokoro.STYLES_FILE.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(kokoro, "STYLES_FILE", other)
    with pytest.raises(MissingDependencyError, match="not the file that was shipped"):
        kokoro.mix_styles({"af_heart": 1.0})


def test_a_changed_model_of_hibari_is_missing(monkeypatch):
    monkeypatch.setattr(hibari, "MODEL_SHA256", "0" * 64)
    with pytest.raises(MissingDependencyError, match="damaged or of another version.*pip install"):
        hibari._load_sessions.__wrapped__(1)


def test_halves_of_kokoro_that_were_tampered_with_are_cut_anew(large):
    planner, _ = kokoro.split_model()
    whole = planner.read_bytes()
    planner.write_bytes(whole[:-100])
    assert kokoro.split_model()[0].read_bytes() == whole


def test_a_voice_of_another_length_than_its_plan_is_our_own_error(small, monkeypatch):
    plan = small.predict_plan(make_utterance("Hi", "en-us"))
    monkeypatch.setattr(small, "_synthesize", lambda *given: np.zeros(5, np.float32))
    with pytest.raises(MouthpieceError, match="samples for a plan"):
        small.speak(plan)


def test_chatterbox_is_missing_with_both_remedies_when_its_package_is(monkeypatch):
    monkeypatch.setattr(chatterbox, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install chatterbox-tts.*models pull chatterbox.*hibari"):
        chatterbox._load_model.__wrapped__("cpu")
    assert not chatterbox.ChatterboxBackend().is_available()


def test_threads_come_from_the_environment(monkeypatch):
    monkeypatch.setenv(timed_voice.THREADS_VARIABLE, "3")
    assert timed_voice.get_thread_count() == 3
    monkeypatch.setenv(timed_voice.THREADS_VARIABLE, "many")
    assert timed_voice.get_thread_count() >= 1


def test_an_utterance_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_utterance("Hi", "en-us").text = "Ho"

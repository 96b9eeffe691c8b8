"""The contract of voice backends, held by a backend that no other code knows."""

import json

import numpy as np
import pytest
import soundfile

from mouthpiece import command_line
from mouthpiece.doctor import examine_installation
from mouthpiece.engine.errors import MissingDependencyError, UsageError
from mouthpiece.voice.backends import registry
from mouthpiece.voice.backends.backend import VoiceInfo, VoiceSpec, parse_mix, split_mix
from mouthpiece.voice.backends.casting import assign_voices, check_voice_language, parse_casting
from mouthpiece.voice.backends.timed_voice import TimedVoice
from mouthpiece.voice.options import SpeakOptions
from mouthpiece.voice.text.phones import make_utterance
from mouthpiece.voice.text_to_speech import speak_text

UNITS_PER_PHONE = 3
TONE_HZ = {"toy_low": 150.0, "toy_high": 300.0}


class ToyVoice(TimedVoice):
    """A tone at the F0 of its plan."""

    def __init__(self, name, tone_hz):
        super().__init__(name, "en-gb")
        self._tone_hz = tone_hz

    def _predict_prosody(self, ids, speed):
        durations = np.full(len(ids), max(1, round(UNITS_PER_PHONE / speed)))
        curve = np.ones(2 * durations.sum(), np.float32)
        return durations, self._tone_hz * curve, curve

    def _synthesize(self, ids, durations, f0, energy):
        f0_hz = np.repeat(f0, 300)
        return 0.5 * np.sin(2 * np.pi * np.cumsum(f0_hz) / self.rate_hz)


class ToyBackend:
    """Two voices that can be mixed; `installed` says whether they are available."""

    name, mixable, castable, converter = "toy", True, True, None
    remedy = "pip install toy"

    def __init__(self, installed=True):
        self.installed = installed

    def is_available(self):
        return self.installed

    def list_voices(self):
        return [VoiceInfo(name, "en-gb", "", "toy", self.installed, "a tone") for name in TONE_HZ]

    def owns(self, text):
        return {name for name, _ in split_mix(text)} <= set(TONE_HZ)

    def parse(self, text):
        return VoiceSpec("toy", parse_mix(text))

    def get_language(self, spec):
        return "en-gb"

    def load(self, spec, threads=None):
        if not self.installed:
            raise MissingDependencyError("voice toy: it is not installed.", hint=f"Run: {self.remedy}", code="no_toy")
        return ToyVoice(spec.main_voice, sum(share * TONE_HZ[name] for name, share in spec.shares))


@pytest.fixture
def toy(monkeypatch):
    """The one row that registers a backend."""
    monkeypatch.setitem(registry.BACKENDS, "toy", ToyBackend())
    registry._open_voice.cache_clear()
    yield
    registry._open_voice.cache_clear()


def measure_tone_hz(wave, rate_hz):
    spectrum = np.abs(np.fft.rfft(wave))
    return np.argmax(spectrum) * rate_hz / len(wave)


def test_a_backend_of_one_row_is_listed_with_the_others(toy, capsys):
    assert {"hibari", "af_heart", "chatterbox", *TONE_HZ} <= {voice.name for voice in registry.list_voices()}
    assert set(TONE_HZ) <= {voice.name for voice in registry.list_castable_voices()}
    assert command_line.main(["voices", "list", "--language", "en-gb", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["result"]["voices"]
    listed = {row["name"]: row for row in rows}
    assert listed["toy_low"] == {
        "name": "toy_low",
        "language": "en-gb",
        "gender": "",
        "backend": "toy",
        "at_hand": True,
        "note": "a tone",
    }


def test_without_its_row_the_backend_is_unknown():
    with pytest.raises(UsageError, match="there is no voice 'toy_low'"):
        registry.parse_voice("toy_low")


def test_its_voices_are_cast_in_turn_and_checked_for_their_language(toy):
    assert parse_casting("Anna=toy_high,toy_low:1+toy_high:3") == {"Anna": "toy_high", "": "toy_low:1+toy_high:3"}
    others = [voice.name for voice in registry.list_castable_voices() if voice.language == "en-gb"]
    speakers = tuple(f"speaker {k}" for k in range(len(others) + 1))
    assert set(TONE_HZ) <= set(assign_voices({}, speakers, "en-gb").values())
    with pytest.raises(UsageError, match="toy_low: it speaks en-gb, the text is fr"):
        check_voice_language("toy_low", "fr")
    check_voice_language("toy_low", "en-us")


def test_its_names_are_suggested_and_mix_only_among_themselves(toy):
    with pytest.raises(UsageError) as unknown:
        registry.parse_voice("toy_hih")
    assert "Did you mean toy_high" in str(unknown.value)
    with pytest.raises(UsageError, match="voices of two backends cannot be mixed"):
        registry.parse_voice("toy_low+af_heart")


def test_its_voices_load_and_speak_plans_exact_to_the_sample(toy):
    voice = registry.load_voice("toy_low:0.5+toy_high:0.5")
    assert voice is registry.load_voice(" TOY_high + toy_low ")
    wave, spoken = registry.speak_whole_text(voice, "One line. " * 3)
    assert wave.shape == (1, sum(voice.predict_plan(one).samples for one in spoken))
    assert measure_tone_hz(wave[0], voice.rate_hz) == pytest.approx(225, abs=1)
    np.testing.assert_array_equal(wave, np.concatenate([voice.speak_utterance(one) for one in spoken], 1))


def test_it_speaks_through_the_ordinary_use_cases(toy, tmp_path):
    options = SpeakOptions(voice="toy_high", language="en-gb", recognizer="off")
    spoken = speak_text("One line.", options)
    assert spoken.take.facts["voice"] == "toy_high" and spoken.language == "en-gb"
    assert measure_tone_hz(spoken.take.sound.samples[0], spoken.take.sound.rate_hz) == pytest.approx(300, abs=2)
    out = tmp_path / "out.wav"
    words = ["voices", "sample", "--voice", "toy_low", "--text", "One line.", "-o", str(out), "--no-provenance"]
    assert command_line.main(words) == 0
    wave, rate_hz = soundfile.read(out)
    assert measure_tone_hz(wave if wave.ndim == 1 else wave[:, 0], rate_hz) == pytest.approx(150, abs=2)


def test_a_backend_that_is_missing_says_how_to_get_it_and_gives_way_to_one_that_is_there(toy, monkeypatch):
    monkeypatch.setitem(registry.BACKENDS, "toy", ToyBackend(installed=False))
    facts = {"languages": {"en-gb": {"voice": "toy_low"}}, "note": ""}
    monkeypatch.setattr(registry, "load_voice_facts", lambda: facts)
    assert registry.get_default_voice("en-gb") == "hibari"
    assert not set(TONE_HZ) & {voice.name for voice in registry.list_castable_voices()}
    rows = {row["name"]: row for row in examine_installation()}
    assert rows["voice toy"]["ok"] is False and "pip install toy" in rows["voice toy"]["detail"]
    assert rows["voice hibari"]["ok"] is True
    with pytest.raises(MissingDependencyError, match="pip install toy"):
        registry.load_voice("toy_low")
    monkeypatch.setitem(registry.BACKENDS, "toy", ToyBackend())
    assert registry.get_default_voice("en-gb") == "toy_low"


@pytest.mark.parametrize("backend", registry.BACKENDS.values(), ids=list(registry.BACKENDS))
def test_every_backend_keeps_its_contract_without_being_loaded(backend):
    assert registry.BACKENDS[backend.name] is backend
    for voice in backend.list_voices():
        assert backend.owns(voice.name) and not any(
            other.owns(voice.name) for other in registry.BACKENDS.values() if other is not backend
        )
        assert voice.backend == backend.name and voice.available == backend.is_available()
        assert backend.get_language(backend.parse(voice.name)) in (voice.language, None)
    assert backend.is_available() or backend.remedy


def test_a_timed_voice_speaks_an_utterance_by_its_own_plan():
    voice = registry.load_voice("hibari", 1)
    utterance = make_utterance("Hi.", "en-us")
    np.testing.assert_array_equal(voice.speak_utterance(utterance, 7), voice.speak(voice.predict_plan(utterance)))

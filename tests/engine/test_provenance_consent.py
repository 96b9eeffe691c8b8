"""Consent files: what is accepted, and that what is expired or for something else is refused."""

import datetime
import hashlib
import json

import pytest

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.provenance.consent import load_consent_schema, read_consent
from mouthpiece.use_cases import list_marking_commands

GOOD = {
    "person": "A. Speaker",
    "purpose": "the German trailer",
    "until": "2030-12-31",
    "commands": ["dub", "speak"],
    "languages": ["de", "pt-BR"],
}
TODAY = datetime.date(2030, 1, 1)


@pytest.fixture
def consent(tmp_path):
    def consent(command="dub", inputs=(), languages=(), today=TODAY, **changes):
        facts = {key: value for key, value in (GOOD | changes).items() if value is not None}
        (tmp_path / "consent.json").write_text(json.dumps(facts))
        return read_consent(
            tmp_path / "consent.json", command, inputs, languages, today, known_commands=list_marking_commands()
        )

    return consent


def test_a_consent_that_allows_the_job_is_recorded_whole(consent, tmp_path):
    read = consent(languages=("de", "de-at", "pt-br"))
    digest = hashlib.sha256((tmp_path / "consent.json").read_bytes()).hexdigest()
    assert read.as_record() == GOOD | {"sha256": digest}


def test_what_is_left_out_allows_everything(tmp_path):
    (tmp_path / "consent.json").write_text(json.dumps({key: GOOD[key] for key in ("person", "purpose", "until")}))
    assert read_consent(tmp_path / "consent.json", "animate", (), ("ja", "sw"), TODAY)


def test_the_last_day_still_counts_and_the_next_does_not(consent):
    assert consent(today=datetime.date(2030, 12, 31))
    with pytest.raises(InvalidInputError, match="ended on 2030-12-31. Ask the person again") as caught:
        consent(today=datetime.date(2031, 1, 1))
    assert (caught.value.code, int(caught.value.exit_code)) == ("consent_expired", 5)


@pytest.mark.parametrize(
    "command, languages, wanted",
    [
        ("lipsync", (), "lipsync is not among"),
        ("dub", ("de", "en"), "en is not among"),
        ("dub", ("pt",), "pt is not among"),
    ],
)
def test_another_use_or_language_is_a_mismatch(consent, command, languages, wanted):
    with pytest.raises(InvalidInputError, match=wanted) as caught:
        consent(command, languages=languages)
    assert caught.value.code == "consent_mismatch"


def test_files_and_evidence_are_held_to_their_hashes(consent, tmp_path):
    (tmp_path / "face.png").write_bytes(b"face")
    (tmp_path / "signed.pdf").write_bytes(b"paper")
    face, paper = (hashlib.sha256(data).hexdigest() for data in (b"face", b"paper"))
    assert consent(evidence={"sha256": paper, "file": "signed.pdf"})
    facts = GOOD | {"inputs": [face]}
    (tmp_path / "c.json").write_text(json.dumps(facts))
    assert read_consent(tmp_path / "c.json", "dub", (tmp_path / "signed.pdf", tmp_path / "face.png"), today=TODAY)
    with pytest.raises(InvalidInputError, match="none of the files given"):
        read_consent(tmp_path / "c.json", "dub", (tmp_path / "signed.pdf",), today=TODAY)
    with pytest.raises(InvalidInputError, match="another SHA-256") as caught:
        consent(evidence={"sha256": face, "file": "signed.pdf"})
    assert caught.value.code == "consent_mismatch"
    with pytest.raises(InvalidInputError, match="no such file"):
        consent(evidence={"sha256": face, "file": "lost.pdf"})


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("", "0 bytes"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not of type 'object'"),
        (json.dumps(GOOD | {"until": "soon"}), "until: "),
        (json.dumps(GOOD | {"until": "2030-02-30"}), "there is no day 2030-02-30"),
        (json.dumps(GOOD | {"expires": "2030-01-01"}), "'expires' was unexpected"),
        (json.dumps(GOOD | {"commands": ["fly"]}), "commands.0: 'fly' is not one of"),
        (json.dumps(GOOD | {"evidence": {"sha256": "12"}}), "evidence.sha256: "),
        (json.dumps({key: GOOD[key] for key in ("purpose", "until")}), "'person' is a required property"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_consent_file_is_refused_in_a_sentence(tmp_path, text, wanted):
    (tmp_path / "consent.json").write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        read_consent(tmp_path / "consent.json", "dub", today=TODAY, known_commands=list_marking_commands())
    assert wanted in str(caught.value) and caught.value.hint


def test_the_published_schema_is_itself_valid():
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(load_consent_schema())
    assert set(load_consent_schema()["required"]) == {"person", "purpose", "until"}


def test_a_consent_may_name_every_command_that_marks_its_output_and_no_other(consent):
    commands = ["animate", "lipsync", "speak", "dub", "sound"]
    assert list(list_marking_commands()) == commands
    assert consent(commands=commands).facts["commands"] == commands
    with pytest.raises(InvalidInputError, match="'transcribe' is not one of"):
        consent(commands=["transcribe"])

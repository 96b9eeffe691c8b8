"""The mark on outputs: what the manifest says, who signs it, and that a failure leaves nothing."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from types import SimpleNamespace

import c2pa
import numpy as np
import pytest

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.errors import InvalidInputError, MouthpieceError, OutputError, UsageError
from mouthpiece.engine.media.images import write_image
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.provenance import signing
from mouthpiece.engine.provenance.manifest import (
    ASSERTION_LABEL,
    COMPOSITE_TYPE,
    CREATED_TYPE,
    SOURCE_TYPE_PREFIX,
)
from mouthpiece.engine.provenance.verification import verify_file
from mouthpiece.job import OutputSettings, finalize_output, make_marking

OPTIONS = SimpleNamespace(seed=3, settings=lambda: {"model": "mini", "seed": 3})


def write_film(path, frames=6, value=90):
    with VideoWriter(path, Fraction(25), 64, 48) as writer:
        for number in range(frames):
            writer.write(np.full((48, 64, 3), value + number, np.uint8))
    return path


def write_tone(path):
    write_sound(path, Sound(0.1 * np.sin(np.arange(4_000) / 9, dtype=np.float32)[None], 16_000))
    return path


def manifest_of(path, kind):
    with open(path, "rb") as file:
        return c2pa.Reader(kind, file).get_active_manifest()


def assertion(manifest, label):
    return next(row["data"] for row in manifest["assertions"] if row["label"] == label)


def test_a_generated_film_says_so_in_standard_words_and_in_ours(tmp_path):
    out, face = write_film(tmp_path / "out.mp4"), tmp_path / "face.png"
    write_image(face, np.zeros((40, 40, 3), np.uint8))
    bare = hashlib.sha256(out.read_bytes()).hexdigest()
    payload = finalize_output(
        out, "animate", OPTIONS, (face,), {"x": 1}, make_marking(OutputSettings(), "animate", inputs=(face,))
    )
    manifest = manifest_of(out, "video/mp4")
    action = assertion(manifest, "c2pa.actions.v2")["actions"][0]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", SOURCE_TYPE_PREFIX + CREATED_TYPE)
    assert action["softwareAgent"] == {"name": "mouthpiece mini", "version": payload["mouthpiece"]}
    assert [(row["title"], row["relationship"]) for row in manifest["ingredients"]] == [("face.png", "inputTo")]
    ours = assertion(manifest, ASSERTION_LABEL)
    face_hash = hashlib.sha256(face.read_bytes()).hexdigest()
    assert ours["inputs"] == [{"name": "face.png", "sha256": face_hash}] and ours["models"] == payload["models"]
    assert (ours["command"], ours["seed"], ours["seconds"], ours["consent"]) == (
        "animate",
        3,
        "all",
        "consent not recorded",
    )
    said = json.loads((tmp_path / "out.json").read_text())["provenance"]
    assert said == payload["provenance"] and said["marked"] is True and said["sha256_unmarked"] == bare
    assert said["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest() != bare
    assert str(tmp_path) not in json.dumps(manifest)


def test_a_changed_film_names_its_parent_and_the_seconds_that_were_changed(tmp_path):
    source, sound, out = (
        write_film(tmp_path / "in.mp4"),
        write_tone(tmp_path / "line.wav"),
        write_film(tmp_path / "out.mp4", value=10),
    )
    marking = make_marking(OutputSettings(), "lipsync").with_changes(
        source=source, spans_s=((Fraction(1, 25), Fraction(2, 25)), (0.12, 0.24))
    )
    finalize_output(out, "lipsync", OPTIONS, (sound, source), {}, marking)
    manifest = manifest_of(out, "video/mp4")
    assert [(row["title"], row["relationship"]) for row in manifest["ingredients"]] == [
        ("in.mp4", "parentOf"),
        ("line.wav", "inputTo"),
    ]
    opened, edited = assertion(manifest, "c2pa.actions.v2")["actions"]
    assert opened["action"] == "c2pa.opened" and opened["parameters"]["ingredients"][0]["url"].endswith(
        "c2pa.ingredient.v3"
    )
    assert (edited["action"], edited["digitalSourceType"]) == ("c2pa.edited", SOURCE_TYPE_PREFIX + COMPOSITE_TYPE)
    times = [change["region"][0]["time"] for change in edited["changes"]]
    assert [(time["type"], time["start"], time["end"]) for time in times] == [
        ("npt", "0.04", "0.08"),
        ("npt", "0.12", "0.24"),
    ]
    found = verify_file(out)
    assert found["state"] == "intact" and found["generated"]["seconds"] == [["0.04", "0.08"], ["0.12", "0.24"]]
    assert found["generated"]["source"] == "in.mp4" and found["generated"]["type"] == COMPOSITE_TYPE


def test_the_sound_inside_a_signed_wav_is_the_same_to_the_sample(tmp_path):
    import soundfile

    out = write_tone(tmp_path / "out.wav")
    before, _ = soundfile.read(out)
    finalize_output(out, "speak", OPTIONS, (), {}, make_marking(OutputSettings(), "speak"))
    after, _ = soundfile.read(out)
    assert np.array_equal(before, after) and verify_file(out)["state"] == "intact"


def test_a_container_that_carries_no_manifest_gets_one_beside_it_with_a_note(tmp_path):
    out = write_film(tmp_path / "out.mkv")
    before = out.read_bytes()
    said = finalize_output(out, "animate", OPTIONS, (), {}, make_marking(OutputSettings(), "animate", out))[
        "provenance"
    ]
    assert out.read_bytes() == before and said["manifest"] == "out.c2pa" and "carries no C2PA" in said["note"]
    found = verify_file(out)
    assert (found["state"], found["embedded"]) == ("intact", False)
    (tmp_path / "out.c2pa").write_bytes(b"mine")
    with pytest.raises(UsageError, match="out.c2pa: already there"):
        make_marking(OutputSettings(), "animate", out)


def test_a_wav_too_large_to_be_rewritten_in_memory_gets_its_manifest_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr("mouthpiece.engine.provenance.manifest.LARGEST_WAV_BYTES", 1_000)
    out = write_tone(tmp_path / "out.wav")
    said = finalize_output(out, "speak", OPTIONS, (), {}, make_marking(OutputSettings(), "speak"))["provenance"]
    assert said["manifest"] == "out.wav.c2pa" and "too large" in said["note"]
    assert (verify_file(out)["state"], verify_file(out)["embedded"]) == ("intact", False)
    (tmp_path / "out.json").unlink()
    data = bytearray(out.read_bytes())
    data[-9] ^= 1
    out.write_bytes(data)
    assert verify_file(out)["state"] == "tampered"


def test_without_provenance_the_file_stays_as_it_was_and_the_sidecar_says_why(tmp_path):
    out = write_tone(tmp_path / "out.wav")
    before = out.read_bytes()
    said = finalize_output(out, "speak", OPTIONS, (), {}, make_marking(OutputSettings(provenance=False), "speak"))[
        "provenance"
    ]
    assert out.read_bytes() == before and (said["marked"], said["reason"]) == (False, "--no-provenance")


def test_who_passes_no_marking_gets_one_all_the_same(tmp_path):
    out = write_tone(tmp_path / "out.wav")
    assert finalize_output(out, "speak", OPTIONS, (), {})["provenance"]["marked"] is True
    assert verify_file(out)["state"] == "intact"


def test_a_consent_is_in_manifest_and_sidecar(tmp_path):
    facts = {"person": "A. Speaker", "purpose": "a test", "until": "2999-01-01"}
    (tmp_path / "consent.json").write_text(json.dumps(facts))
    out = write_tone(tmp_path / "out.wav")
    marking = make_marking(OutputSettings(consent=tmp_path / "consent.json"), "speak")
    said = finalize_output(out, "speak", OPTIONS, (), {}, marking)["provenance"]["consent"]
    digest = hashlib.sha256((tmp_path / "consent.json").read_bytes()).hexdigest()
    assert said == assertion(manifest_of(out, "audio/wav"), ASSERTION_LABEL)["consent"] == facts | {"sha256": digest}


def test_what_cannot_be_marked_is_not_kept(tmp_path):
    out = tmp_path / "out.mp4"
    out.write_bytes(b"this is no film")
    with pytest.raises(MouthpieceError, match="out.mp4: cannot be marked"):
        finalize_output(out, "animate", OPTIONS, (), {}, make_marking(OutputSettings(), "animate"))
    assert list(tmp_path.iterdir()) == []


def test_an_input_with_a_broken_mark_is_no_reason_to_fail(tmp_path):
    source = write_film(tmp_path / "in.mp4")
    finalize_output(source, "animate", OPTIONS, (), {}, make_marking(OutputSettings(), "animate"))
    data = bytearray(source.read_bytes())
    data[-5] ^= 1
    source.write_bytes(data)
    (tmp_path / "script.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    (tmp_path / "wrong.png").write_text("no picture")
    inputs = (source, tmp_path / "script.srt", tmp_path / "wrong.png")
    out = write_film(tmp_path / "out.mp4")
    finalize_output(
        out, "dub", OPTIONS, inputs, {}, make_marking(OutputSettings(), "dub").with_changes(source, ((0, 0.1),))
    )
    assert verify_file(out)["state"] == "intact" and verify_file(source)["state"] == "tampered"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("MOUTHPIECE_CONFIG_DIR", str(tmp_path / "settings"))
    return tmp_path / "settings" / "signing"


def test_the_installation_makes_its_key_once_for_its_owner_alone(settings):
    first = signing.load_credentials()
    assert (
        signing.load_credentials() == first
        and first.is_users is False
        and first.signer.startswith("Mouthpiece self-signed")
    )
    assert (settings / "key.pem").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in settings.parent.rglob("*")) == ["certificates.pem", "key.pem", "signing"]
    assert "PRIVATE" not in repr(first) + str(first) and b"PRIVATE" not in (settings / "certificates.pem").read_bytes()


def test_processes_that_start_together_agree_on_one_key(settings):
    with ThreadPoolExecutor(8) as pool:
        keys = {made.key for made in pool.map(lambda _: signing.load_credentials(), range(16))}
    assert len(keys) == 1 and [path.name for path in settings.parent.iterdir()] == ["signing"]


def test_a_dry_run_makes_no_key(settings):
    make_marking(OutputSettings(dry_run=True), "animate")
    assert not settings.exists()


def test_a_place_where_no_key_can_be_kept_is_a_sentence_with_a_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOUTHPIECE_CONFIG_DIR", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="or use --no-provenance"):
        signing.load_credentials()


@pytest.fixture
def own(settings, tmp_path):
    """Key and certificates of a user, as files."""
    made = signing.load_credentials()
    for name, data in (("key.pem", made.key), ("cert.pem", made.certificates)):
        (tmp_path / name).write_bytes(data)
    return tmp_path / "key.pem", tmp_path / "cert.pem"


def test_a_user_signs_with_a_key_of_their_own_by_option_or_environment(own, tmp_path, monkeypatch):
    marking = make_marking(OutputSettings(signing_key=own[0], signing_cert=own[1]), "speak")
    assert marking.credentials.is_users is True
    out = write_tone(tmp_path / "out.wav")
    assert finalize_output(out, "speak", OPTIONS, (), {}, marking)["provenance"]["credential"] == "the user's own"
    monkeypatch.setenv("MOUTHPIECE_SIGNING_KEY", str(own[0]))
    monkeypatch.setenv("MOUTHPIECE_SIGNING_CERT", str(own[1]))
    assert make_marking(OutputSettings(), "speak").credentials.is_users is True
    monkeypatch.delenv("MOUTHPIECE_SIGNING_CERT")
    with pytest.raises(UsageError, match="--signing-key without --signing-cert"):
        make_marking(OutputSettings(), "speak")


def test_a_chain_of_the_user_is_trusted_only_where_it_is_given_as_trusted(own, tmp_path, monkeypatch):
    out = write_tone(tmp_path / "out.wav")
    finalize_output(out, "speak", OPTIONS, (), {}, make_marking(OutputSettings(), "speak"))
    assert verify_file(out)["signature"]["trusted"] is True
    monkeypatch.setenv("MOUTHPIECE_CONFIG_DIR", str(tmp_path / "another machine"))
    assert verify_file(out)["signature"] | {"trusted": None} == verify_file(out, own[1])["signature"] | {
        "trusted": None
    }
    assert (verify_file(out)["state"], verify_file(out)["signature"]["trusted"]) == ("intact", False)
    assert verify_file(out, own[1])["signature"]["trusted"] is True
    with pytest.raises(InvalidInputError, match="no certificate in it"):
        verify_file(out, own[0])


def lone_certificate(key, email_protection=False):
    """A certificate that signs itself; C2PA's library takes it with the extended use of e-mail protection alone."""
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
    from cryptography.x509 import BasicConstraints, ExtendedKeyUsage
    from cryptography.x509.oid import ExtendedKeyUsageOID

    private = load_pem_private_key(key, None)
    built = signing._build_certificate(
        "alone", "alone", private.public_key(), BasicConstraints(False, None), ("digital_signature",)
    )
    if email_protection:
        built = built.add_extension(ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
    return signing._sign_certificate(built, private, private).public_bytes(Encoding.PEM)


def test_a_bare_self_signed_certificate_signs_and_the_refusal_says_what_is_taken(own):
    key, certificates = own
    certificates.write_bytes(lone_certificate(key.read_bytes(), email_protection=True))
    assert (
        make_marking(OutputSettings(signing_key=key, signing_cert=certificates), "speak").credentials.signer == "alone"
    )
    certificates.write_bytes(lone_certificate(key.read_bytes()))
    with pytest.raises(InvalidInputError) as caught:
        make_marking(OutputSettings(signing_key=key, signing_cert=certificates), "speak")
    assert "self-signed or with its chain" in caught.value.hint and "e-mail protection" in caught.value.hint


@pytest.mark.parametrize(
    "spoil, wanted",
    [
        ("none", "key.pem: no such file"),
        ("text", "not a private key that can be read"),
        ("locked", "not a private key that can be read"),
        ("other", "belongs to another key"),
        ("nocert", "no certificate in it"),
        ("lone", "--signing-cert: cannot sign with it"),
    ],
)
def test_keys_and_certificates_that_do_not_do_are_refused_before_the_work(own, spoil, wanted):
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key, certificates = own
    if spoil == "none":
        key.unlink()
    elif spoil == "text":
        key.write_text("secret")
    elif spoil == "locked":
        private = load_pem_private_key(key.read_bytes(), None)
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")))
    elif spoil == "other":
        certificates.write_bytes(signing._generate_key_pair()[1][0].public_bytes(Encoding.PEM))
    elif spoil == "nocert":
        certificates.write_text("-----BEGIN")
    else:
        certificates.write_bytes(lone_certificate(key.read_bytes()))
    with pytest.raises(InvalidInputError) as caught:
        make_marking(OutputSettings(signing_key=key, signing_cert=certificates), "speak")
    assert wanted in str(caught.value) and caught.value.hint


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom permissions hold back")
def test_a_key_that_may_not_be_read_is_a_sentence(own):
    own[0].chmod(0)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        make_marking(OutputSettings(signing_key=own[0], signing_cert=own[1]), "speak")

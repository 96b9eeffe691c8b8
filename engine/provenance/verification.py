"""Verify what a file says of its own making: read its C2PA manifest, check it, and put it in words."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.files import check_input_file, compute_sha256
from mouthpiece.engine.media.containers import find_container, get_c2pa_type, list_video_names
from mouthpiece.engine.provenance.manifest import (
    ASSERTION_LABEL,
    OFFLINE_SETTINGS,
    SOURCE_TYPE_PREFIX,
    get_external_manifest_path,
)
from mouthpiece.engine.provenance.sidecar import find_sidecar
from mouthpiece.engine.provenance.signing import read_own_anchor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

INTACT = "intact"  # states of a file
TAMPERED = "tampered"
UNMARKED = "unmarked"
_UNTRUSTED_CODE = "signingCredential.untrusted"  # of the validator, for a signer that nobody vouches for
# description box of a manifest store: ISO 19566-5, C2PA 2.2, 11.1.4
_STORE_MAGIC = b"jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x008\x9bq"
_UNKNOWN_TYPE = "application/octet-stream"  # media type of any file


def verify_file(path: str | Path, trust: Path | None = None) -> dict[str, Any]:
    """Verify what a file says of its making: a JSON-ready dict whose "state" is intact, tampered or unmarked.

    path: any file.
    trust: PEM certificates that are trusted as issuers, beside this installation's own; None: none.
    The dict: state, problems (list of sentences), embedded, signature (valid, signer, issuer, trusted),
    generated (type, command, model, version, models, seconds, inputs, seed), consent, watermark (as the maker says),
    heard (what watermark.detect_in_file detects in a file that is not tampered with).
    A file that differs from the SHA-256 in the side-car beside it counts as tampered, whatever its manifest says.
    Raises InvalidInputError for an unreadable file, one that is not video, sound or picture, or no certificates.
    Source: C2PA 2.2, section 15: validation.
    """
    path = check_input_file(path, "file")
    anchors = _load_anchors(trust)
    sidecar, record = _find_mark_record(path)
    manifest, problem = _read_manifest(path, anchors)
    kind, as_named = _detect_kind(path)
    has_bytes = manifest is None and _has_manifest_bytes(path)
    if manifest is None and not record and not get_external_manifest_path(path).is_file() and not has_bytes:
        _check_media(path, kind)
        problem = problem if as_named else None  # what C2PA could not read is of another kind than the name says
    if not problem and has_bytes:
        problem = "a manifest is in it, but the file around it is broken, so that it cannot be reached"
    result = _judge_manifest(path, manifest, problem)
    expected = record.get("sha256")
    if expected and compute_sha256(path) != expected:
        result["problems"].append(f"the file is not the one that {sidecar} describes: it has another SHA-256")
    if record.get("marked") and manifest is None and not problem:
        result["problems"].append(f"{sidecar} says that it was marked, and no mark is there")
    if result["problems"]:
        result["state"] = TAMPERED
    result["heard"] = None if result["state"] == TAMPERED or kind != "sound" else _detect_watermark(path)
    if record.get("marked") is False and manifest is None:
        result["note"] = f"made by mouthpiece without mark ({record.get('reason', 'no reason given')}), says {sidecar}"
    return result


def _check_media(path: Path, kind: str | None) -> None:
    """Check that a file without any mark is media at all."""
    if kind is None:
        names = ", ".join(list_video_names())
        raise InvalidInputError(
            f"{path}: neither video, sound nor picture, and nothing beside it speaks of it.",
            hint=f"Give a complete file, such as {names}, WAV, FLAC, PNG or JPEG, or put its .c2pa beside it.",
            code="not_media",
        )


def _judge_manifest(path: Path, manifest: dict[str, Any] | None, problem: str | None) -> dict[str, Any]:
    """Judge a file by its manifest alone: the dict of `verify_file` without what the side-car and the sound tell.

    problem: why there is no manifest although there should be one.
    """
    result: dict[str, Any] = {
        "file": str(path),
        "state": UNMARKED,
        "problems": [],
        "embedded": None,
        "signature": None,
        "generated": None,
        "consent": None,
        "watermark": None,
    }
    if manifest is not None:
        try:
            result |= _extract_facts(manifest)
            result["problems"] = _list_failures(manifest) or _check_binding(manifest)
        except (KeyError, TypeError, ValueError, AttributeError):
            result["problems"] = ["the manifest's contents are not what C2PA and mouthpiece write"]
        result["state"] = INTACT
    if problem:
        result |= {"state": TAMPERED, "problems": [problem]}
    return result


def _detect_watermark(path: Path) -> dict[str, Any] | None:
    """Detect a watermark in a file; None for one without sound."""
    from mouthpiece.engine.provenance.watermark import detect_in_file  # torch: only where a file may have sound

    return detect_in_file(path)


def _load_anchors(trust: Path | None) -> str:
    """Load the certificates of trusted issuers as PEM."""
    pem = read_own_anchor() or ""
    if trust is not None:
        from cryptography.x509 import load_pem_x509_certificates

        given = check_input_file(trust, "file of certificates").read_bytes()
        try:
            load_pem_x509_certificates(given)
        except ValueError as error:
            hint = "Give the issuers' certificates as PEM."
            raise InvalidInputError(f"{trust}: no certificate in it.", hint=hint, code="bad_certificate") from error
        pem += given.decode("ascii", "replace")
    return pem


def _find_mark_record(path: Path) -> tuple[str, dict[str, Any]]:
    """Find what the side-car beside a file says of its mark: (name of the side-car, record); empty for no side-car."""
    place, payload = find_sidecar(path)
    record = payload.get("provenance")
    return place.name, record if isinstance(record, dict) else {}


def _read_manifest(path: Path, anchors: str) -> tuple[dict[str, Any] | None, str | None]:
    """Read the manifest store: (contents, None), (None, what is wrong with it), or (None, None) where there is none."""
    import c2pa

    settings: dict[str, Any] = {"verify": {"verify_trust": True} | OFFLINE_SETTINGS}
    if anchors:
        settings["trust"] = {"trust_anchors": anchors}
    context = c2pa.Context.from_dict(settings)
    kind, beside = get_c2pa_type(path), get_external_manifest_path(path)
    try:
        with open(path, "rb") as media, suppress(c2pa.C2paError.ManifestNotFound):
            if kind or not beside.is_file():
                with c2pa.Reader(kind, media, context=context) as reader:
                    return json.loads(reader.json()), None
        if path != beside and beside.is_file():
            with (
                open(path, "rb") as media,
                c2pa.Reader(kind or _UNKNOWN_TYPE, media, beside.read_bytes(), context=context) as reader,
            ):
                return json.loads(reader.json()) | {"beside": beside.name}, None
    except (c2pa.C2paError, ValueError) as error:
        if kind or beside.is_file():  # else of a kind that C2PA does not know, and nothing lies beside it
            return None, f"the manifest cannot be read ({error})"
    return None, None


def _detect_kind(path: Path) -> tuple[str | None, bool]:
    """Detect the kind of a file: ("sound" where it has any, "picture" for other media, or None; whether named so)."""
    from mouthpiece.engine.media.images import is_picture
    from mouthpiece.engine.media.probing import open_input
    from mouthpiece.engine.media.streams import is_still_format

    if is_picture(path):
        return "picture", (get_c2pa_type(path) or "").startswith("image")
    named = find_container(path)
    try:
        with open_input(path, "file") as container:
            streams = container.streams
            if is_still_format(container.format.name) or not (streams.audio or streams.video):
                return None, False  # a text taken for a screen, what has a picture's name alone
            as_named = named is not None and named.demuxer == container.format.name
            return "sound" if streams.audio else "picture", as_named
    except InvalidInputError:
        return None, False


def _has_manifest_bytes(path: Path) -> bool:
    """Return whether the bytes that begin a manifest store are anywhere in a file, in constant memory."""
    rest = b""
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            if _STORE_MAGIC in rest + block:
                return True
            rest = block[-len(_STORE_MAGIC) :]
    return False


def _get_active_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """Get the manifest that speaks of the file as it is, from the contents of its store."""
    return manifest["manifests"][manifest["active_manifest"]]


def _list_failures(manifest: dict[str, Any]) -> list[str]:
    """List what the validator objects to, in its words, but that nobody vouches for the signer."""
    rows = [row for row in _list_validation_rows(manifest, "failure") if row["code"] != _UNTRUSTED_CODE]
    problems = [f"{row['code']}: {row.get('explanation', '')}" for row in rows]
    if manifest.get("validation_state") not in ("Valid", "Trusted") and not problems:
        problems = [f"the validator calls it {manifest.get('validation_state')}"]
    return problems


def _list_validation_rows(manifest: dict[str, Any], outcome: str) -> list[dict[str, Any]]:
    """List the validator's rows about the active manifest. outcome: "success" or "failure"."""
    return list(manifest.get("validation_results", {}).get("activeManifest", {}).get(outcome, ()))


def _check_binding(manifest: dict[str, Any]) -> list[str]:
    """Check that a manifest holds a hash of the file, else it could lie beside any: list of problems."""
    matched = [row["code"] for row in _list_validation_rows(manifest, "success")]
    # dataHash, bmffHash, boxesHash; hashedURI is about the manifest itself
    bound = any(code.endswith("Hash.match") for code in matched)
    return [] if bound else ["the manifest holds no hash of the file, so it may be any file's"]


def _get_assertion(manifest: dict[str, Any], label: str) -> dict[str, Any]:
    """Get the data of the first assertion whose label begins so; empty where there is none."""
    rows = [
        row["data"] for row in _get_active_manifest(manifest).get("assertions", ()) if row["label"].startswith(label)
    ]
    return rows[0] if rows and isinstance(rows[0], dict) else {}


def _extract_facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """Extract what the manifest says, whether or not it still holds: fields of `verify_file`."""
    assertion = _get_assertion(manifest, ASSERTION_LABEL)
    return {
        "embedded": "beside" not in manifest,
        "signature": _extract_signature(manifest),
        "generated": _extract_generation(manifest, assertion),
        "consent": assertion.get("consent") if isinstance(assertion.get("consent"), str | dict) else None,
        "watermark": assertion.get("watermark"),
    }


def _extract_signature(manifest: dict[str, Any]) -> dict[str, Any]:
    """Extract who signed, and whether the signature holds and its issuer is trusted."""
    info = _get_active_manifest(manifest).get("signature_info", {})
    failed = [row["code"] for row in _list_validation_rows(manifest, "failure")]
    valid = not any(
        code.startswith(("claimSignature", "signingCredential", "algorithm")) and code != _UNTRUSTED_CODE
        for code in failed
    )
    return {
        "valid": valid and bool(info),
        "signer": info.get("common_name"),
        "issuer": info.get("issuer"),
        "trusted": manifest.get("validation_state") == "Trusted",
    }


def _extract_generation(manifest: dict[str, Any], assertion: dict[str, Any]) -> dict[str, Any]:
    """Extract what was generated and by what. assertion: data of that of Mouthpiece; empty where there is none."""
    active = _get_active_manifest(manifest)
    generated: dict[str, Any] = {key: assertion.get(key) for key in ("command", "model", "seed")}
    generated["models"] = {str(name): str(digest) for name, digest in assertion.get("models", {}).items()}
    generated["inputs"] = [{key: str(row[key]) for key in ("name", "sha256")} for row in assertion.get("inputs", ())]
    generated |= {
        "type": assertion.get("generated") or _get_source_type(manifest),
        "version": assertion.get("mouthpiece"),
    }
    if assertion.get("seconds") in (None, "all"):
        generated["seconds"] = _get_generated_spans(manifest)
    else:
        generated["seconds"] = [[start, stop] for start, stop in assertion["seconds"]]
    generated["by"] = [row.get("name") for row in active.get("claim_generator_info", ())]
    sources = [row.get("title") for row in active.get("ingredients", ()) if row.get("relationship") == "parentOf"]
    generated["source"] = sources[0] if sources else None
    return generated


def _get_actions(manifest: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """Get the actions that the manifest lists."""
    return _get_assertion(manifest, "c2pa.actions").get("actions", ())


def _get_source_type(manifest: dict[str, Any]) -> str | None:
    """Get the digital source type of the last action that has one, without its prefix."""
    types = [action["digitalSourceType"] for action in _get_actions(manifest) if action.get("digitalSourceType")]
    return types[-1].removeprefix(SOURCE_TYPE_PREFIX) if types else None


def _get_generated_spans(manifest: dict[str, Any]) -> list[list[str | None]] | str:
    """Get [[start, stop], ...] in seconds as text, or "all", from the actions, as other programs write them too."""
    regions = [
        region
        for action in _get_actions(manifest)
        for change in action.get("changes", ())
        for region in change.get("region", ())
    ]
    times = [
        region["time"]
        for region in regions
        if region.get("type") == "temporal" and isinstance(region.get("time"), dict)
    ]
    return [[time.get("start"), time.get("end")] for time in times] or "all"


def format_verification(result: dict[str, Any]) -> str:
    """Format a verification for people, one fact a line, without characters that would steer a terminal.

    result: from verify_file.
    """
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in _format_lines(result))


def _format_lines(result: dict[str, Any]) -> list[str]:
    """Format the facts of a verification, one a line."""
    watermark = _format_watermark(result.get("heard"))
    if result["state"] == UNMARKED:
        note = "That says nothing of how it was made: a mark is lost in many ways."
        if result.get("note"):
            note = f"It was {result['note']}."
        return [f"{result['file']}: no mark. No C2PA manifest is in it or beside it. {note}"] + watermark
    lines = [f"{result['file']}: {'marked and intact' if result['state'] == INTACT else 'TAMPERED'}"]
    lines += [f"  problem: {problem}" for problem in result["problems"]]
    if result["generated"] is None:
        return lines + watermark
    lines += _format_generation(result["generated"])
    lines.append(_format_signature(result["signature"]))
    consent = result["consent"]
    if consent:
        lines.append(f"  consent: {consent if isinstance(consent, str) else consent.get('person')}")
    if not result["embedded"]:
        name = get_external_manifest_path(Path(result["file"])).name
        lines.append(f"  manifest: beside the file, {name}")
    return lines + watermark


def _format_generation(generated: dict[str, Any]) -> list[str]:
    """Format what was generated and by what."""
    spans = "all of it"
    if generated["seconds"] != "all":
        spans = ", ".join(f"{start} to {stop} s" for start, stop in generated["seconds"])
    maker = ", ".join(map(str, generated["by"]))
    if generated["version"]:
        words = ("mouthpiece", generated["version"], generated["command"], generated["model"])
        maker = " ".join(str(word) for word in words if word)
    lines = [
        f"  generated: {generated['type'] or 'not said'}",
        f"  seconds: {spans or 'none'}",
        f"  made by: {maker}",
    ]
    if generated["models"]:
        lines.append(f"  weights: {', '.join(f'{name} {digest[:12]}' for name, digest in generated['models'].items())}")
    if generated["source"]:
        lines.append(f"  changed from: {generated['source']}")
    if generated["inputs"]:
        lines.append(f"  inputs: {', '.join(row['name'] for row in generated['inputs'])}")
    return lines


def _format_signature(signature: dict[str, Any]) -> str:
    """Format who signed, and who vouches for the signer."""
    vouched = "its issuer is trusted here" if signature["trusted"] else "nobody known here vouches for the signer"
    signer = signature["signer"] or signature["issuer"]
    return f"  signature: {'valid' if signature['valid'] else 'NOT valid'}, by {signer} ({vouched})"


def _format_watermark(detection: dict[str, Any] | None) -> list[str]:
    """Format what was detected of a watermark; nothing where it was not looked for because there is no sound."""
    if not detection:
        return []
    if detection["found"] is None:
        return [f"  watermark in the sound: not looked for ({detection['reason']})"]
    spans = ", ".join(f"{start:g} to {stop:g} s" for start, stop in detection["spans_s"])
    within = f"score {detection['score']:.2f} in the first {detection['listened_s']:.1f} s"
    return [f"  watermark in the sound: {f'heard, {spans}' if spans else 'not heard'} ({within})"]

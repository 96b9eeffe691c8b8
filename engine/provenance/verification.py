"""What a file says of its own making, and whether that still holds: the reader's side of
mouthpiece.engine.provenance.manifest.
"""

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
    from typing import Any

INTACT, TAMPERED, UNMARKED = "intact", "tampered", "unmarked"
_UNTRUSTED_CODE = "signingCredential.untrusted"
# description box of a manifest store: ISO 19566-5, C2PA 2.2, 11.1.4
_STORE_MAGIC = b"jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x008\x9bq"
_UNKNOWN_TYPE = "application/octet-stream"


def verify_file(path: Path, trust: Path | None = None) -> dict[str, Any] | None:
    """What is known of a file's making: a JSON-ready dict whose "state" is intact, tampered or unmarked.

    path: str or Path, any file.
    trust: path of PEM certificates that are trusted as issuers, beside this installation's own; None: none.
    The dict: state, problems (list of sentences), embedded, signature (valid, signer, issuer, trusted),
    generated (type, command, model, version, models, seconds, inputs, seed), consent, watermark (as the maker says),
    heard (what watermark.listen hears in a file that is not tampered with).
    A file that differs from the SHA-256 in the side-car beside it counts as tampered, whatever its manifest says.
    Raises Refused for what is no readable file, neither video, sound nor picture, or no certificates.
    Source: C2PA 2.2, section 15: validation.
    """
    path = check_input_file(path, "file")
    anchors = _load_anchors(trust)
    found = {
        "file": str(path),
        "state": UNMARKED,
        "problems": [],
        "embedded": None,
        "signature": None,
        "generated": None,
    }
    found |= {"consent": None, "watermark": None}
    sidecar, beside = _find_mark_record(path)
    manifest, problem = _read_manifest(path, anchors)
    kind, as_named = _detect_kind(path)
    if (
        manifest is None
        and not beside
        and not get_external_manifest_path(path).is_file()
        and not _has_manifest_bytes(path)
    ):
        if kind is None:
            names = ", ".join(list_video_names())
            hint = f"Give a complete file, such as {names}, WAV, FLAC, PNG or JPEG, or put its .c2pa beside it."
            raise InvalidInputError(
                f"{path}: neither video, sound nor picture, and nothing beside it speaks of it.",
                hint=hint,
                code="not_media",
            )
        problem = problem if as_named else None  # what C2PA could not read is of another kind than the name says
    if manifest is not None:
        try:
            found |= _extract_facts(manifest)
            found["problems"] = _list_failures(manifest) or _check_binding(manifest)
        except (KeyError, TypeError, ValueError, AttributeError):
            found["problems"] = ["the manifest's contents are not what C2PA and mouthpiece write"]
        found["state"] = INTACT
    if manifest is None and not problem and _has_manifest_bytes(path):
        problem = "a manifest is in it, but the file around it is broken, so that it cannot be reached"
    if problem:
        found |= {"state": TAMPERED, "problems": [problem]}
    expected = beside.get("sha256")
    if expected and compute_sha256(path) != expected:
        found["problems"].append(f"the file is not the one that {sidecar} describes: it has another SHA-256")
    if beside.get("marked") and manifest is None and not problem:
        found["problems"].append(f"{sidecar} says that it was marked, and no mark is there")
    if found["problems"]:
        found["state"] = TAMPERED
    found["heard"] = None if found["state"] == TAMPERED or kind != "sound" else _detect_watermark(path)
    if beside.get("marked") is False and manifest is None:
        found["note"] = f"made by mouthpiece without mark ({beside.get('reason', 'no reason given')}), says {sidecar}"
    return found


def _detect_watermark(path: Path) -> dict[str, Any]:
    """What is heard of a watermark in a file that has sound."""
    from mouthpiece.engine.provenance.watermark import detect_in_file  # torch: only where a file may have sound

    return detect_in_file(path)


def _load_anchors(trust: Path | None) -> str | None:
    """PEM of the issuers to trust; what only opens itself is none."""
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


def _find_mark_record(path: Path) -> tuple:
    """(name, what the side-car beside a file says of its mark); that is empty when there is none, or it is another
    file's.
    """
    place, said = find_sidecar(path)
    marked = said.get("provenance")
    return place.name, marked if isinstance(marked, dict) else {}


def _read_manifest(path: Path, anchors: str) -> tuple[dict[str, Any], None]:
    """(contents of the manifest store, None), (None, what is wrong with it), or (None, None) where there is none."""
    import c2pa

    settings = {"verify": {"verify_trust": True} | OFFLINE_SETTINGS}
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


def _detect_kind(path: Path) -> tuple[str, bool]:
    """Detect the kind of a file: ("sound" for what has any, "picture" for other videos and pictures, or None; whether it
    is the container that its name says).
    """
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
    """Whether the bytes that begin a manifest store are anywhere in a file; read in constant memory."""
    rest = b""
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            if _STORE_MAGIC in rest + block:
                return True
            rest = block[-len(_STORE_MAGIC) :]
    return False


def _get_active_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["manifests"][manifest["active_manifest"]]


def _list_failures(manifest: dict[str, Any]) -> list[str]:
    """What the validator objects to, in its words; that nobody vouches for the signer is told apart from that."""
    results = manifest.get("validation_results", {})
    failed = list(results.get("activeManifest", {}).get("failure", ()))
    said = [f"{row['code']}: {row.get('explanation', '')}" for row in failed if row["code"] != _UNTRUSTED_CODE]
    if manifest.get("validation_state") not in ("Valid", "Trusted") and not said:
        said = [f"the validator calls it {manifest.get('validation_state')}"]
    return said


def _check_binding(manifest: dict[str, Any]) -> list:
    """A manifest that binds no file could lie beside any."""
    matched = [
        row["code"] for row in manifest.get("validation_results", {}).get("activeManifest", {}).get("success", ())
    ]
    # dataHash, bmffHash, boxesHash; hashedURI is about the manifest itself
    bound = any(code.endswith("Hash.match") for code in matched)
    return [] if bound else ["the manifest holds no hash of the file, so it may be any file's"]


def _get_assertion(manifest: dict[str, Any], label: str) -> dict[str, Any]:
    rows = [
        row["data"] for row in _get_active_manifest(manifest).get("assertions", ()) if row["label"].startswith(label)
    ]
    return rows[0] if rows and isinstance(rows[0], dict) else {}


def _extract_facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the manifest tells, whether or not it still holds."""
    active, ours = _get_active_manifest(manifest), _get_assertion(manifest, ASSERTION_LABEL)
    signed = active.get("signature_info", {})
    failed = [
        row["code"] for row in manifest.get("validation_results", {}).get("activeManifest", {}).get("failure", ())
    ]
    valid = not any(
        code.startswith(("claimSignature", "signingCredential", "algorithm")) and code != _UNTRUSTED_CODE
        for code in failed
    )
    signature = {"valid": valid and bool(signed), "signer": signed.get("common_name"), "issuer": signed.get("issuer")}
    signature["trusted"] = manifest.get("validation_state") == "Trusted"
    generated = {key: ours.get(key) for key in ("command", "model", "seed")}
    generated["models"] = {str(name): str(digest) for name, digest in ours.get("models", {}).items()}
    generated["inputs"] = [{key: str(row[key]) for key in ("name", "sha256")} for row in ours.get("inputs", ())]
    generated |= {"type": ours.get("generated") or _get_source_type(manifest), "version": ours.get("mouthpiece")}
    generated["seconds"] = (
        _get_generated_spans(manifest)
        if ours.get("seconds") in (None, "all")
        else [[start, stop] for start, stop in ours["seconds"]]
    )
    generated["by"] = [row.get("name") for row in active.get("claim_generator_info", ())]
    sources = [row.get("title") for row in active.get("ingredients", ()) if row.get("relationship") == "parentOf"]
    generated["source"] = sources[0] if sources else None
    facts = {"embedded": "beside" not in manifest, "signature": signature, "generated": generated}
    facts["consent"] = ours.get("consent") if isinstance(ours.get("consent"), str | dict) else None
    return facts | {"watermark": ours.get("watermark")}


def _get_actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return _get_assertion(manifest, "c2pa.actions").get("actions", ())


def _get_source_type(manifest):
    types = [action["digitalSourceType"] for action in _get_actions(manifest) if action.get("digitalSourceType")]
    return types[-1].removeprefix(SOURCE_TYPE_PREFIX) if types else None


def _get_generated_spans(manifest: dict[str, Any]) -> str:
    """[[start, stop], ...] in seconds as text, or "all"; from the actions, as other programs write them too."""
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


def format_verification(found: dict[str, Any]) -> str:
    """The same for people, one fact a line, without characters that would steer a terminal.

    found: dict from verify.
    """
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in _format_lines(found))


def _format_lines(found: dict[str, Any]) -> list[str]:
    heard = _format_watermark(found.get("heard"))
    if found["state"] == UNMARKED:
        note = (
            f"It was {found['note']}."
            if found.get("note")
            else "That says nothing of how it was made: a mark is lost in many ways."
        )
        return [f"{found['file']}: no mark. No C2PA manifest is in it or beside it. {note}"] + heard
    lines = [f"{found['file']}: {'marked and intact' if found['state'] == INTACT else 'TAMPERED'}"]
    lines += [f"  problem: {problem}" for problem in found["problems"]]
    made, signature, consent = found["generated"], found["signature"], found["consent"]
    if made is None:
        return lines + heard
    spans = (
        ", ".join(f"{start} to {stop} s" for start, stop in made["seconds"])
        if made["seconds"] != "all"
        else "all of it"
    )
    ours = " ".join(str(word) for word in ("mouthpiece", made["version"], made["command"], made["model"]) if word)
    lines += [f"  generated: {made['type'] or 'not said'}", f"  seconds: {spans or 'none'}"]
    lines += [f"  made by: {ours if made['version'] else ', '.join(map(str, made['by']))}"]
    if made["models"]:
        lines += [f"  weights: {', '.join(f'{name} {digest[:12]}' for name, digest in made['models'].items())}"]
    lines += [f"  changed from: {made['source']}"] if made["source"] else []
    lines += [f"  inputs: {', '.join(row['name'] for row in made['inputs'])}"] if made["inputs"] else []
    vouched = "its issuer is trusted here" if signature["trusted"] else "nobody known here vouches for the signer"
    lines += [
        f"  signature: {'valid' if signature['valid'] else 'NOT valid'}, by {signature['signer'] or signature['issuer']} ({vouched})"
    ]
    lines += [f"  consent: {consent if isinstance(consent, str) else consent.get('person')}"] if consent else []
    lines += (
        []
        if found["embedded"]
        else [f"  manifest: beside the file, {get_external_manifest_path(Path(found['file'])).name}"]
    )
    return lines + heard


def _format_watermark(heard: dict[str, Any] | None) -> list[str]:
    if not heard:
        return []
    if heard["found"] is None:
        return [f"  watermark in the sound: not looked for ({heard['reason']})"]
    spans = ", ".join(f"{start:g} to {stop:g} s" for start, stop in heard["spans_s"])
    within = f"score {heard['score']:.2f} in the first {heard['listened_s']:.1f} s"
    return [f"  watermark in the sound: {f'heard, {spans}' if spans else 'not heard'} ({within})"]

"""C2PA manifests: the signed mark on every output that says what was generated, by what, and in which seconds."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine import __version__
from mouthpiece.engine.errors import InvalidInputError, MouthpieceError
from mouthpiece.engine.files import atomic_write, compute_sha256
from mouthpiece.engine.media.containers import get_c2pa_type
from mouthpiece.engine.provenance.consent import NOT_RECORDED, Consent
from mouthpiece.engine.provenance.signing import Credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from fractions import Fraction
    from typing import Any, BinaryIO

ASSERTION_LABEL = "org.mouthpiece.generation"  # of the assertion that only Mouthpiece writes
SOURCE_TYPE_PREFIX = "http://cv.iptc.org/newscodes/digitalsourcetype/"
CREATED_TYPE = "trainedAlgorithmicMedia"  # all of the output was generated
COMPOSITE_TYPE = "compositeWithTrainedAlgorithmicMedia"  # an input was changed
EXTERNAL_SUFFIX = ".c2pa"  # of a manifest that lies beside its file
# The C2PA library holds a WAV in memory twice while it embeds; the manifest of a larger one lies beside it.
LARGEST_WAV_BYTES = 256_000_000
OFFLINE_SETTINGS = {"remote_manifest_fetch": False, "ocsp_fetch": False}
_UNKNOWN_TYPE = "application/octet-stream"
_SILENT_WAV = b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\x08\0\0\0" + 8 * b"\0"


@dataclass(frozen=True)
class Marking:
    """How the output of a job is to be marked; decided before the work.

    credentials: key and certificates to sign with; None leaves outputs without a mark.
    consent: None when none was given.
    source: path of the video that the output is a changed version of; None: all of the output was generated.
    spans_s: pairs (start, stop) in seconds, what was generated within a source; None: all of it; empty: nothing.
    watermark: what was measured of a watermark in the sound; None: there was none to embed.
    """

    credentials: Credentials | None
    consent: Consent | None = None
    source: Path | None = None
    spans_s: tuple[tuple[float, float], ...] | None = None
    watermark: dict[str, Any] | None = None

    def with_changes(
        self,
        source: Path | None = None,
        spans_s: Iterable[tuple[float | Fraction, float | Fraction]] | None = None,
        watermark: dict[str, Any] | None = None,
    ) -> Marking:
        """Return the marking of an output that changes `source` within `spans_s`, with what its watermark measured."""
        spans_s = None if spans_s is None else tuple((float(start), float(stop)) for start, stop in spans_s)
        return replace(self, source=source, spans_s=spans_s, watermark=watermark)


def get_manifest_path(output: Path) -> Path:
    """Return where the manifest of an output is written: the output itself, or OUT.c2pa beside it.

    Source: C2PA 2.2, section 11.4: external manifests.
    """
    return output if get_c2pa_type(output) else output.with_suffix(EXTERNAL_SUFFIX)


def get_external_manifest_path(path: Path) -> Path:
    """Return where the manifest of a file lies that is not inside it: OUT.wav.c2pa if it exists, else OUT.c2pa."""
    own = path.with_name(path.name + EXTERNAL_SUFFIX)
    return own if own.is_file() else path.with_suffix(EXTERNAL_SUFFIX)


def check_credentials(credentials: Credentials) -> None:
    """Check credentials by signing a moment of silence in memory, so that a bad certificate is found before the work.

    Raises InvalidInputError for a certificate that C2PA refuses.
    """
    try:
        _sign_media(
            io.BytesIO(_SILENT_WAV),
            io.BytesIO(),
            "audio/wav",
            {"assertions": [_build_action("c2pa.created", CREATED_TYPE)]},
            credentials,
        )
    except MouthpieceError as error:
        hint = (
            "C2PA's library takes a certificate, self-signed or with its chain, that is valid today, is not an "
            "authority's (CA), and has the key use digitalSignature, the extended use e-mail protection and an "
            "authority key identifier."
        )
        raise InvalidInputError(
            f"--signing-cert: cannot sign with it ({error.message.rstrip('.')}).", hint=hint, code="bad_certificate"
        ) from error


def mark_output(output: Path, payload: dict[str, Any], marking: Marking, inputs: Sequence[Path] = ()) -> dict[str, Any]:
    """Mark a finished output with a C2PA manifest, atomically; return the record for its side-car.

    output: path of the file.  payload: contents of the side-car, from sidecar.build_sidecar.
    inputs: paths read by the job; they become ingredients.
    The record says whether it is marked and where, by whom it is signed, the SHA-256 before the mark (the same for the
    same job) and of the file as it is.
    Raises MouthpieceError when the file cannot be marked, OutputError for the disk.
    Source: C2PA 2.2; IPTC digital source types.
    """
    output = Path(output)
    record = {
        "file": output.name,
        "marked": False,
        "consent": NOT_RECORDED if marking.consent is None else marking.consent.as_record(),
    }
    record["watermark"] = marking.watermark or {"embedded": False, "reason": "no dialogue was watermarked"}
    record["sha256_unmarked"] = compute_sha256(output)
    if marking.credentials is None:
        return record | {"reason": "--no-provenance", "sha256": record["sha256_unmarked"]}
    ingredients = _list_ingredients(marking, inputs)
    manifest = _build_manifest(output, payload, marking, record)
    manifest["assertions"].append(_build_actions(marking, manifest, len(ingredients)))
    mime, place = get_c2pa_type(output), get_manifest_path(output)
    if output.suffix.lower() == ".wav" and output.stat().st_size > LARGEST_WAV_BYTES:
        mime, place = None, output.with_name(output.name + EXTERNAL_SUFFIX)  # OUT.c2pa may be that of OUT.mkv
    with atomic_write(place, overwrite=True, inputs=inputs) as part:
        with open(output, "rb") as media:
            if mime:
                with open(part, "w+b") as signed:
                    _sign_media(media, signed, mime, manifest, marking.credentials, ingredients)
            else:
                part.write_bytes(_sign_media(media, None, _UNKNOWN_TYPE, manifest, marking.credentials, ingredients))
    record |= {
        "marked": True,
        "manifest": place.name,
        "signed_by": marking.credentials.signer,
        "sha256": compute_sha256(output),
    }
    record["credential"] = "the user's own" if marking.credentials.is_users else "self-signed by this installation"
    if not mime:
        why = (
            "carries no C2PA manifest"
            if place == get_manifest_path(output)
            else "is too large to carry a C2PA manifest"
        )
        record["note"] = f"{output.suffix or 'this file'} {why}; it lies beside the file, keep the two together."
    return record


def _build_manifest(output: Path, payload: dict[str, Any], marking: Marking, record: dict[str, Any]) -> dict[str, Any]:
    """Build the manifest's definition with Mouthpiece's own assertion; the actions say the same in standard terms."""
    keys = ("mouthpiece", "command", "seed", "models")
    inputs = [{"name": Path(row["path"]).name, "sha256": row["sha256"]} for row in payload["inputs"]]
    facts = {key: payload[key] for key in keys} | {"model": payload["settings"].get("model", ""), "inputs": inputs}
    facts |= {"consent": record["consent"], "watermark": record["watermark"]}
    facts["seconds"] = "all"
    if marking.source is not None and marking.spans_s is not None:
        facts["seconds"] = [list(map(_to_npt, span)) for span in marking.spans_s]
    facts["generated"] = COMPOSITE_TYPE if marking.source else CREATED_TYPE
    return {"title": output.name, "assertions": [{"label": ASSERTION_LABEL, "data": facts}]}


def _build_actions(marking: Marking, manifest: dict[str, Any], ingredients: int) -> dict[str, Any]:
    """Build the standard assertion of what was done."""
    facts = manifest["assertions"][0]["data"]
    agent = {"name": f"mouthpiece {facts['model']}".strip(), "version": __version__}
    names = [f"input-{k}" for k in range(ingredients)]
    if marking.source is None:
        return _build_action("c2pa.created", CREATED_TYPE, agent, names)
    edited = _build_action("c2pa.edited", COMPOSITE_TYPE, agent, names[1:])
    if marking.spans_s:
        times = [{"type": "npt", "start": start, "end": stop} for start, stop in facts["seconds"]]
        edited["data"]["actions"][0]["changes"] = [{"region": [{"type": "temporal", "time": time}]} for time in times]
    edited["data"]["actions"].insert(0, {"action": "c2pa.opened", "parameters": {"ingredientIds": names[:1]}})
    return edited


def _to_npt(seconds: float) -> str:
    """Format seconds as C2PA writes them in a region of time. Source: RFC 2326, normal play time."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _build_action(
    name: str, source_type: str, agent: dict[str, str] | None = None, ingredients: Sequence[str] = ()
) -> dict[str, Any]:
    action: dict[str, Any] = {
        "action": name,
        "digitalSourceType": SOURCE_TYPE_PREFIX + source_type,
        "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    if agent:
        action["softwareAgent"] = agent
    if ingredients:
        action["parameters"] = {"ingredientIds": list(ingredients)}
    return {"label": "c2pa.actions.v2", "data": {"actions": [action]}}


def _list_ingredients(marking: Marking, inputs: Sequence[Path]) -> list[tuple[Path, str]]:
    """Return (path, relationship) of every input; a source comes first and is the parent."""
    rest = [path for path in inputs if marking.source is None or Path(path) != Path(marking.source)]
    parent = [] if marking.source is None else [(Path(marking.source), "parentOf")]
    return parent + [(Path(path), "inputTo") for path in rest]


def _sign_media(
    media: BinaryIO,
    signed: BinaryIO | None,
    mime: str,
    manifest: dict[str, Any],
    credentials: Credentials,
    ingredients: Sequence[tuple[Path, str]] = (),
) -> bytes:
    """Sign a media stream; return the bytes of its manifest.

    signed: stream that the media with its manifest is written to; None where the manifest lies beside the file.
    """
    import c2pa

    settings = {
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {"verify_after_sign": True, "verify_trust": False} | OFFLINE_SETTINGS,
    }
    settings["core"] = {"backing_store_memory_threshold_in_mb": 16}  # above it, work goes through a temporary file
    claim = {"claim_generator_info": [{"name": "mouthpiece", "version": __version__}]}
    try:
        info = c2pa.C2paSignerInfo(credentials.algorithm, credentials.certificates, credentials.key, None)
        builder = c2pa.Builder(claim | manifest, context=c2pa.Context.from_dict(settings))
        for number, (path, relationship) in enumerate(ingredients):
            name = f"input-{number}"
            _add_ingredient(
                builder, path, {"title": path.name, "relationship": relationship, "instance_id": name, "label": name}
            )
        if signed is None:
            builder.set_no_embed()
            return builder.sign(c2pa.Signer.from_info(info), mime, media)
        return builder.sign(c2pa.Signer.from_info(info), mime, media, signed)
    except (c2pa.C2paError, ValueError) as error:
        title = manifest.get("title", "the output")
        hint = "The file was not kept; --no-provenance leaves the mark out, and the side-car says so."
        raise MouthpieceError(f"{title}: cannot be marked ({error}).", hint=hint, code="not_marked") from error


def _add_ingredient(builder: Any, path: Path, facts: dict[str, str]) -> None:
    """Add an ingredient to a c2pa.Builder; one that is not what its ending says is added as of unknown type."""
    import c2pa

    for kind in (get_c2pa_type(path) or _UNKNOWN_TYPE, _UNKNOWN_TYPE):
        try:
            with open(path, "rb") as stream:
                return builder.add_ingredient(facts, kind, stream)
        except c2pa.C2paError:
            if kind == _UNKNOWN_TYPE:
                raise

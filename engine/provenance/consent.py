"""Read consent files: who allowed what, checked against the schema and against the job that refers to it."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.files import check_input_file, compute_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

NOT_RECORDED = "consent not recorded"
_MAX_BYTES = 1 << 20  # of a consent file


@dataclass(frozen=True)
class Consent:
    """A consent that holds for a job.

    path: of the file.  sha256: of its bytes.  facts: its contents.
    """

    path: Path
    sha256: str
    facts: dict[str, Any]

    def as_record(self) -> dict[str, Any]:
        """Make the record of it for manifest and side-car, JSON-ready."""
        return self.facts | {"sha256": self.sha256}


@cache
def load_consent_schema(known_commands: tuple[str, ...] = ()) -> dict[str, Any]:
    """Load the published JSON Schema of consent files. known_commands: names accepted under "commands"; empty: any."""
    text = (resources.files("mouthpiece.engine") / "schemas" / "consent.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    if known_commands:
        schema["properties"]["commands"]["items"] = {"enum": list(known_commands)}
    return schema


def read_consent(
    path: str | Path,
    command: str,
    inputs: Iterable[str | Path] = (),
    languages: Iterable[str] = (),
    today: datetime.date | None = None,
    *,
    known_commands: tuple[str, ...] = (),
) -> Consent:
    """Read a consent file and check that it allows a job.

    path: JSON as load_consent_schema describes it.
    command: name of the command that asks.
    inputs: paths of what the job reads; one of them must be covered where the file names hashes.
    languages: codes of the languages that will be spoken, such as "en" or "pt-br"; empty when unknown.
    today: None is the date in UTC.
    known_commands: names of all commands that a consent may name; empty: any.
    Raises InvalidInputError for a file that cannot be read as consent, is expired, or allows something else.
    """
    path = check_input_file(path, "consent file")
    facts = _parse_consent(path, known_commands)
    today = today or datetime.datetime.now(datetime.UTC).date()
    if _parse_date(path, facts["until"]) < today:
        hint = "Ask the person again, and give the new file."
        raise InvalidInputError(
            f"{path}: the consent of {facts['person']} ended on {facts['until']}.", hint=hint, code="consent_expired"
        )
    if command not in facts.get("commands", (command,)):
        raise _make_mismatch_error(
            path, facts, f"{command} is not among what it allows ({', '.join(facts['commands'])})"
        )
    allowed = facts.get("languages", ("*",))
    for language in filter(None, languages):
        if not any(_covers_language(one, language) for one in allowed):
            raise _make_mismatch_error(path, facts, f"{language} is not among its languages ({', '.join(allowed)})")
    if "inputs" in facts and not {compute_sha256(name) for name in inputs if Path(name).is_file()} & set(
        facts["inputs"]
    ):
        raise _make_mismatch_error(path, facts, "none of the files given has a hash that it covers")
    _check_evidence(path, facts)
    return Consent(path, compute_sha256(path), facts)


def _parse_consent(path: Path, known_commands: tuple[str, ...]) -> dict[str, Any]:
    """Parse a consent file and check it against the schema."""
    hint = "docs/provenance.md shows one; the schema is engine/schemas/consent.json."
    if path.stat().st_size > _MAX_BYTES:
        raise InvalidInputError(
            f"{path}: larger than {_MAX_BYTES} bytes; this is not a consent file.", hint=hint, code="bad_consent"
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path}: is not JSON ({error}).", hint=hint, code="bad_consent") from error
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(load_consent_schema(known_commands))
    wrong = next(iter(sorted(validator.iter_errors(facts), key=lambda error: list(map(str, error.path)))), None)
    if wrong is not None:
        place = ".".join(map(str, wrong.path)) or "the document"
        message = wrong.message if len(wrong.message) < 200 else wrong.message[:200] + "..."
        raise InvalidInputError(f"{path}: {place}: {message}.", hint=hint, code="bad_consent")
    return facts


def _parse_date(path: Path, text: str) -> datetime.date:
    """Parse a day such as 2030-12-31."""
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        hint = "Write a day such as 2030-12-31."
        raise InvalidInputError(f"{path}: until: there is no day {text}.", hint=hint, code="bad_consent") from error


def _covers_language(allowed: str, language: str) -> bool:
    """Return whether an allowed language covers another: "en" covers "en-us". Source: RFC 4647, basic filtering."""
    allowed, language = allowed.lower(), language.lower().replace("_", "-")
    return allowed == "*" or language == allowed or language.startswith(allowed + "-")


def _make_mismatch_error(path: Path, facts: dict[str, Any], what: str) -> InvalidInputError:
    """Make the error for a consent that allows something else."""
    hint = "Ask for what is wanted, or do what is allowed."
    return InvalidInputError(
        f"{path}: the consent of {facts['person']} is for something else: {what}.", hint=hint, code="consent_mismatch"
    )


def _check_evidence(path: Path, facts: dict[str, Any]) -> None:
    """Check that the evidence which the consent names has the SHA-256 that it says."""
    evidence = facts.get("evidence", {})
    if "file" not in evidence:
        return
    file = check_input_file(path.parent / evidence["file"], "document or recording")
    if compute_sha256(file) != evidence["sha256"]:
        hint = "Give the file that the hash was taken of, or have the consent written anew."
        raise InvalidInputError(
            f"{path}: the evidence {file} has another SHA-256 than it says.", hint=hint, code="consent_mismatch"
        )

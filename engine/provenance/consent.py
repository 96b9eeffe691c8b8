"""Who allowed what: a consent file read, checked against its schema and against the job that refers to it."""

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
    from collections.abc import Collection
    from typing import Any

FORMAT_HINT = "docs/provenance.md shows one; the schema is engine/schemas/consent.json."
NOT_RECORDED = "consent not recorded"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Consent:
    """A consent that holds for the job at hand.

    path: of the file.  sha256: of its bytes.  facts: dict, its contents.
    """

    path: Path
    sha256: str
    facts: dict

    def as_record(self) -> dict[str, Any]:
        """What manifest and side-car say of it, JSON-ready."""
        return self.facts | {"sha256": self.sha256}


@cache
def load_consent_schema() -> dict[str, str]:
    """The published JSON Schema of consent files. Source: engine/schemas/consent.json."""
    return json.loads((resources.files("mouthpiece.engine") / "schemas" / "consent.json").read_text(encoding="utf-8"))


def read_consent(
    path: Path,
    command: str,
    inputs: tuple[Path, ...] = (),
    languages: tuple[str, ...] = (),
    today: datetime.date | None = None,
    known_commands: Collection[str] = (),
) -> Consent:
    """The Consent of a file, after making sure that it allows this job.

    path: str or Path, JSON as `schema` describes it.
    command: name of the command that wants to use it.
    inputs: paths of what the job reads; one of them must be covered where the file names hashes.
    languages: codes of the languages that will be spoken, such as "en" or "pt-br"; empty when unknown.
    today: None is the date in UTC.
    known_commands: names that a consent may list; empty accepts all.
    Raises Refused for a file that cannot be read as consent, is expired, or allows something else.
    """
    path = check_input_file(path, "consent file")
    facts = _parse_consent(path)
    for number, name in enumerate(facts.get("commands", ()) if known_commands else ()):
        if name not in known_commands:
            message = f"{path}: commands.{number}: '{name}' is not one of {', '.join(known_commands)}."
            raise InvalidInputError(message, hint=FORMAT_HINT, code="bad_consent")
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


def _parse_consent(path: Path) -> dict[str, Any] | None:
    if path.stat().st_size > _MAX_BYTES:
        raise InvalidInputError(
            f"{path}: larger than {_MAX_BYTES} bytes; this is no consent file.", hint=FORMAT_HINT, code="bad_consent"
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path}: is not JSON ({error}).", hint=FORMAT_HINT, code="bad_consent") from error
    from jsonschema import Draft202012Validator

    wrong = next(
        iter(
            sorted(Draft202012Validator(load_consent_schema()).iter_errors(facts), key=lambda e: list(map(str, e.path)))
        ),
        None,
    )
    if wrong is not None:
        place = ".".join(map(str, wrong.path)) or "the document"
        message = wrong.message if len(wrong.message) < 200 else wrong.message[:200] + "..."
        raise InvalidInputError(f"{path}: {place}: {message}.", hint=FORMAT_HINT, code="bad_consent")
    return facts


def _parse_date(path: Path, text: str):
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        hint = "Write a day such as 2030-12-31."
        raise InvalidInputError(f"{path}: until: there is no day {text}.", hint=hint, code="bad_consent") from error


def _covers_language(allowed: str, language: str) -> bool:
    """Whether "en" covers "en-us"; "en-us" covers itself alone. Source: RFC 4647, basic filtering."""
    allowed, language = allowed.lower(), language.lower().replace("_", "-")
    return allowed == "*" or language == allowed or language.startswith(allowed + "-")


def _make_mismatch_error(path: Path, facts: dict[str, Any], what: str) -> InvalidInputError:
    hint = "Ask for what is wanted, or do what is allowed."
    return InvalidInputError(
        f"{path}: the consent of {facts['person']} is for something else: {what}.", hint=hint, code="consent_mismatch"
    )


def _check_evidence(path: Path, facts: dict[str, Any]) -> None:
    evidence = facts.get("evidence", {})
    if "file" not in evidence:
        return
    file = check_input_file(path.parent / evidence["file"], "document or recording")
    if compute_sha256(file) != evidence["sha256"]:
        hint = "Give the file that the hash was taken of, or have the consent written anew."
        raise InvalidInputError(
            f"{path}: the evidence {file} has another SHA-256 than it says.", hint=hint, code="consent_mismatch"
        )

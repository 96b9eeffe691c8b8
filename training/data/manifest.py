"""The training manifest: what is there, who is kept out, and sound ready for the encoders."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, UsageError

if TYPE_CHECKING:
    from typing import Any

FIELDS = ("path", "kind", "licence", "source")  # of every row
KIND_FIELDS: dict[str, tuple[str, ...]] = {"talk": ("audio",), "talk-eval": ("audio",)}
# one man speaks most of the talking clips: he is drawn less often than the others
COMMON_SPEAKER = "grid_s1"
_FORMAT = "docs/training.md shows the format."
_FORMAT_HINT = f"Write one JSON object a line; {_FORMAT}"


def read_rows(data: Path, kinds: tuple[str, ...]) -> list[dict[str, str]]:
    """Return rows of DATA/manifest.jsonl of the given kinds, in file order.

    data: folder that holds manifest.jsonl; paths in it are relative to that folder.
    kinds: e.g. ("talk",) or ("speech", "portrait").
    Raises UsageError when the manifest is missing, InvalidInputError when a line is no JSON object or lacks a required
    field.
    Format documented in docs/training.md.
    """
    path = Path(data) / "manifest.jsonl"
    if not path.is_file():
        raise UsageError(
            f"{path}: no manifest found.", hint=f"Give the folder that holds manifest.jsonl with --data; {_FORMAT}"
        )
    rows = [
        _parse_row(line, f"{path} line {n}")
        for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.strip()
    ]
    return [row for row in rows if row["kind"] in kinds]


def _parse_row(line: str, place: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"{place}: no JSON ({error.msg} at column {error.colno}).", hint=_FORMAT_HINT
        ) from error
    if not isinstance(row, dict):
        raise InvalidInputError(f"{place}: {type(row).__name__} instead of an object.", hint=_FORMAT_HINT)
    needed = FIELDS + KIND_FIELDS.get(row.get("kind", ""), ())
    missing = [field for field in needed if field not in row]
    if missing:
        raise InvalidInputError(
            f"{place}: field {missing[0]!r} is missing.", hint=f"It needs {', '.join(needed)}; {_FORMAT}"
        )
    return row


def require_stage(stage: str, path: Path) -> Path:
    """Return the path, which an earlier stage of the training wrote.

    Raises UsageError when it is not there.
    """
    if not Path(path).exists():
        hint = f"Run 'mouthpiece train {stage}' with the same --out first."
        raise UsageError(f"{path}: not there.", hint=hint, code="stage_missing")
    return Path(path)


def load_held_out(path: Path | None = None) -> dict[str, Any]:
    """Return names kept out of every training, by person: {"talk": [...], "readers": [...], "portraits_every": n,
    "portraits_at": k}.

    path: TOML file; None reads the split that the embedded weights were trained with.
    Source: configs/held_out.toml.
    """
    with open(path or Path(__file__).resolve().parents[2] / "configs" / "held_out.toml", "rb") as f:
        return tomllib.load(f)


def is_held_out(path: str, speaker: str, split: dict[str, Any]) -> bool:
    """Whether a recording belongs to a person kept out.

    path: as in the manifest.  speaker: name or "".  split: of `load_held_out`.
    """
    return speaker in split["readers"] or Path(path).stem in split["talk"]


def is_common_speaker(name: str) -> bool:
    """Whether a file or clip is of the speaker there is most of."""
    return COMMON_SPEAKER in str(name)

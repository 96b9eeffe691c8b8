"""The training manifest: what is there, who is kept out, and sound ready for the encoders."""
import json
import tomllib
from pathlib import Path

from engine.errors import Refused, UsageProblem

FIELDS = ("path", "kind", "speaker", "licence", "source")


def read_rows(data, kinds):
    """Rows of DATA/manifest.jsonl of the given kinds, in file order.

    data: folder that holds manifest.jsonl; paths in it are relative to that folder.
    kinds: e.g. ("talk",) or ("speech", "portrait").
    Raises UsageProblem when the manifest is missing, Refused when a line lacks a required field.
    Source: ours; format documented in docs/training.md.
    """
    path = Path(data) / "manifest.jsonl"
    if not path.is_file():
        raise UsageProblem(f"{path}: no manifest found.", hint="Give the folder that holds manifest.jsonl with --data; docs/training.md shows the format.")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        row = json.loads(line)
        missing = [f for f in FIELDS if f not in row and f != "speaker"]
        if missing:
            raise Refused(f"{path} line {number}: field {missing[0]!r} is missing.", hint="Every line needs " + ", ".join(FIELDS) + ".")
        if row["kind"] in kinds:
            rows.append(row)
    return rows


def held_out(path=None):
    """Names kept out of every training, by person: {"talk": [...], "readers": [...], "portraits_every": n, "portraits_at": k}.

    path: TOML file; None reads the split that the embedded weights were trained with.
    """
    with open(path or Path(__file__).resolve().parents[2] / "configs" / "held_out.toml", "rb") as f:
        return tomllib.load(f)


def is_held(row, split):
    """Whether a manifest row belongs to a person kept out."""
    name = Path(row["path"]).stem
    if row["kind"] == "talk":
        return name in split["talk"]
    return row.get("speaker") in split["readers"]

"""The training manifest: what is there, who is kept out, and sound ready for the encoders."""
import json
import tomllib
from pathlib import Path

from engine.errors import Refused, UsageProblem

FIELDS = ("path", "kind", "licence", "source")             # of every row
FIELDS_OF_KIND = {"talk": ("audio",), "talk-eval": ("audio",)}
COMMON_SPEAKER = "grid_s1"             # one man speaks most of the talking clips: he is drawn less often than the others
_FORMAT = "docs/training.md shows the format."
_ONE_A_LINE = f"Write one JSON object a line; {_FORMAT}"


def read_rows(data, kinds):
    """Rows of DATA/manifest.jsonl of the given kinds, in file order.

    data: folder that holds manifest.jsonl; paths in it are relative to that folder.
    kinds: e.g. ("talk",) or ("speech", "portrait").
    Raises UsageProblem when the manifest is missing, Refused when a line is no JSON object or lacks a required field.
    Source: ours; format documented in docs/training.md.
    """
    path = Path(data) / "manifest.jsonl"
    if not path.is_file():
        raise UsageProblem(f"{path}: no manifest found.", hint=f"Give the folder that holds manifest.jsonl with --data; {_FORMAT}")
    rows = [_row(line, f"{path} line {n}") for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if line.strip()]
    return [row for row in rows if row["kind"] in kinds]


def _row(line, place):
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise Refused(f"{place}: no JSON ({error.msg} at column {error.colno}).", hint=_ONE_A_LINE) from error
    if not isinstance(row, dict):
        raise Refused(f"{place}: {type(row).__name__} instead of an object.", hint=_ONE_A_LINE)
    needed = FIELDS + FIELDS_OF_KIND.get(row.get("kind"), ())
    missing = [field for field in needed if field not in row]
    if missing:
        raise Refused(f"{place}: field {missing[0]!r} is missing.", hint=f"It needs {', '.join(needed)}; {_FORMAT}")
    return row


def made_by(stage, path):
    """The path, which an earlier stage of the training wrote.

    Raises UsageProblem when it is not there.
    Source: ours.
    """
    if not Path(path).exists():
        hint = f"Run 'mouthpiece train {stage}' with the same --out first."
        raise UsageProblem(f"{path}: not there.", hint=hint, code="stage_missing")
    return Path(path)


def held_out(path=None):
    """Names kept out of every training, by person: {"talk": [...], "readers": [...], "portraits_every": n, "portraits_at": k}.

    path: TOML file; None reads the split that the embedded weights were trained with.
    Source: configs/held_out.toml.
    """
    with open(path or Path(__file__).resolve().parents[2] / "configs" / "held_out.toml", "rb") as f:
        return tomllib.load(f)


def is_held(path, speaker, split):
    """Whether a recording belongs to a person kept out.

    path: as in the manifest.  speaker: name or "".  split: of `held_out`.
    Source: ours.
    """
    return speaker in split["readers"] or Path(path).stem in split["talk"]


def is_common(name):
    """Whether a file or clip is of the speaker there is most of. Source: ours."""
    return COMMON_SPEAKER in str(name)

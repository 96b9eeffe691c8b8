"""JSON: values of any kind as strict JSON knows them."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any


def to_json(value: object) -> str:
    """Format a value as one line of strict JSON: NaN becomes null, paths and fractions text. Source: RFC 8259."""
    return json.dumps(to_json_value(value), ensure_ascii=False, allow_nan=False)


def to_json_value(value: Any) -> Any:
    """Convert a value to what JSON knows: dicts, lists, text, numbers, null."""
    if isinstance(value, dict):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(item) for item in value]
    if hasattr(value, "tolist"):  # arrays and numbers of numpy and torch
        return to_json_value(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path | Fraction) else value

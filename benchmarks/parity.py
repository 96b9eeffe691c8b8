"""Check a family of networks against a folder of recorded inputs and outputs.

  python benchmarks/parity.py FAMILY FOLDER

Prints each error beside its tolerance and exits 1 when one is out, or when something that must be compared was not.
"""

import argparse
import importlib
import sys
from pathlib import Path

from safetensors import SafetensorError

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

FAMILIES = ("echomimic", "mmaudio")


def format_value(value):
    """A number, or several, for people."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return " ".join(format_value(part) for part in value)
    return f"{value:.1e}" if isinstance(value, float) else str(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    if not args.folder.is_dir():
        parser.error(f"{args.folder} is no folder")
    try:
        rows = importlib.import_module(f"parity_{args.family}").check(args.folder)
    except (OSError, ValueError, LookupError, SafetensorError) as error:
        parser.exit(1, f"MISS {args.folder} is no complete fixture of {args.family}: {type(error).__name__}: {error}\n")
    for row in rows:
        verdict = "ok  " if row.ok else "MISS"
        print(f"{verdict} {row.name}: {format_value(row.error)} (tolerance {format_value(row.tolerance)})")
    missed = [row.name for row in rows if not row.ok]
    listed = f"; missed: {', '.join(missed[:10])}" if missed else ""
    print(f"{len(rows) - len(missed)} of {len(rows)} within tolerance{listed}")
    return 1 if missed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())

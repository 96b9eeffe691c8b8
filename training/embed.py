"""Trained weights into the package: copied to engine/embedded, hashed into configs/weights.toml."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from mouthpiece.engine.errors import MissingDependencyError

PURPOSES = {
    "motion": "motion encoder and motion space: aligned face crop to displacement lattice to code",
    "phonetic": "phonetic encoder: log-mel to phones, voicing and F0 at 50 Hz",
    "core": "AV core: flow matching over motion and articulation",
    "renderer": "renderer: portrait and lattices to flow, painted mouth and mask",
    "finder": "finder: pictures of eyes and mouth to what lies between lids and lips",
}
LICENCE = "GPL-3.0-or-later"
HEADER = (
    "# Weights that ship inside the package; written by `mouthpiece train embed`, "
    "read by engine/weights/loading.py, which verifies SHA-256.\n"
)


def embed_weights(out: Path, root: Path | None = None) -> dict[str, int]:
    """Copy OUT/*.safetensors of the five parts into the package and write their manifest; returns name -> bytes.

    out: working folder of the trainings.  root: of the checkout; None is the one this file belongs to.
    Raises MissingDependencyError when a part has not been trained.
    """
    root = Path(root or Path(__file__).resolve().parents[1])
    rows, sizes = [HEADER], {}
    for name, purpose in PURPOSES.items():
        source = Path(out) / f"{name}.safetensors"
        if not source.is_file():
            raise MissingDependencyError(
                f"{source}: not trained yet.", hint=f"Run 'mouthpiece train {name}' first.", code="no_weights"
            )
        target = root / "engine" / "embedded" / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        content = target.read_bytes()
        sizes[name] = len(content)
        rows.append(
            f'[{name}]\nfile = "engine/embedded/{source.name}"\n'
            f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nbytes = {len(content)}\n'
            f'licence = "{LICENCE}"\nsource = "trained by this project; docs/models/{name}.md"\n'
            f'description = "{purpose}"\n'
        )
    (root / "configs" / "weights.toml").write_text("\n".join(rows))
    return sizes

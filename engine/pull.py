"""Models that do not ship with the package: the registry, where a model lies, and the only code that downloads."""

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

from engine import __version__
from engine.cache import cache_folder, cache_path, is_verified, joined
from engine.errors import Missing, Refused, UsageProblem, WriteFailed
from engine.files import replacing, sha256_of, write_problem

FOLDER = "models"                      # in the cache folder
ACCEPTED, RECORDED = "accepted.json", "sha256.json"  # in the folder of a model: licence accepted; hashes seen at the first pull
TIMEOUT_S = 60
TRIES = 4                              # of one file, each going on where the last was cut off
SPARE_BYTES = 64 << 20                 # left free on the disk
_CHUNK_BYTES = 1 << 20
_BROKEN = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


@cache
def registry():
    """What can be pulled: name -> dict with title, licence, files and so on; see the head of configs/models.toml.

    Source: configs/models.toml.
    """
    return tomllib.loads((resources.files("configs") / "models.toml").read_text(encoding="utf-8"))


def entry_of(name):
    """The registry's entry called `name`.

    Raises UsageProblem naming what is there.
    Source: ours.
    """
    if name not in registry():
        raise UsageProblem(f"models: '{name}' is not known.", hint=f"Known: {', '.join(sorted(registry()))}.", code="no_model")
    return registry()[name]


def model_path(name):
    """Where the files of a model lie once pulled: a folder of the cache, whether or not it is there. Source: ours."""
    return cache_path(FOLDER, name)


def at_hand(name):
    """Whether the files of a model seem to be on this machine, in the cache or as installed packages; nothing is read. Source: ours."""
    entry = entry_of(name)
    return has_parts(entry) or all((model_path(name) / file["path"]).is_file() for file in entry["files"])


def has_parts(entry):
    """Whether a model can be joined out of packages that are installed. Source: ours."""
    parts = [_part_of(part) for part in entry.get("parts", ())]
    return bool(parts) and all(path is not None and path.is_file() for path in parts)


def model_file(name):
    """The verified file of a model that has one, from the cache, or joined there out of installed packages.

    name: name in the registry.
    Raises Missing with the command that helps, Refused for a damaged file or part.
    Source: ours.
    """
    entry = entry_of(name)
    facts = entry["files"][0]
    target = model_path(name) / facts["path"]
    if is_verified(target, facts["sha256"]):
        return target
    remedy = f"Run: mouthpiece models pull {name}" + (f", or: pip install --force-reinstall 'mouthpiece[{entry['extra']}]'." if "extra" in entry else ".")
    parts = [(_part_of(part), part["sha256"]) for part in entry.get("parts", ())]
    if parts and all(path is not None for path, _ in parts):           # one that lies in its package no more is named by joined
        cache_folder(FOLDER, name)
        return joined(target, parts, facts["sha256"], name, remedy)
    if target.is_file():
        raise Refused(f"{name}: {target} is damaged or another file.", hint=remedy, code="bad_model")
    raise Missing(f"{name}: the model is not on this machine.", hint=remedy.replace("--force-reinstall ", ""), code="no_model")


def _part_of(part):
    spec = importlib.util.find_spec(part["package"])
    return None if spec is None or not spec.submodule_search_locations else Path(spec.submodule_search_locations[0]) / part["file"]


def is_whole(entry, folder):
    """Whether every file of a model is in its folder and is the one that is pinned, or that the first pull recorded.

    entry: dict of the registry.  folder: Path.
    Source: ours.
    """
    known = _recorded(folder)
    hashes = {folder / file["path"]: file.get("sha256") or known.get(file["path"]) for file in entry["files"]}
    return all(sha256 is not None and is_verified(path, sha256) for path, sha256 in hashes.items())


def size_of(entry):
    """How many bytes a pull of this entry fetches, all files together; asks the server where the entry does not say.

    entry: dict of the registry.
    Raises Missing when the server does not answer.
    Source: ours.
    """
    return sum(_bytes_of(file) for file in entry["files"])


def pull(name, entry, folder, progress, accepted=False):
    """Fetches the files of a model into a folder, each verified before it gets its name; what is there and right is not fetched again.

    A pull that was cut off goes on where it stopped. Give the size and the licence to people before calling this.
    name: what to call it.  entry: dict of the registry.  folder: Path, made when it is not there.
    progress: engine.progress.Progress.
    accepted: True when the user accepts the licence; kept in the folder, so that it is asked once.
    Returns rows with path, bytes, sha256 and known ("pinned", or "recorded" where this pull is the first to see the file).
    Raises Missing for a licence not accepted or a server that does not answer, WriteFailed for the disk, Refused for a wrong file.
    Source: ours; RFC 9110 section 14 for ranges.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_problem(folder, error) from error
    _check_licence(name, entry, folder, accepted)
    known = _recorded(folder)
    wanted = [(file, folder / file["path"], file.get("sha256") or known.get(file["path"])) for file in entry["files"]]
    todo = [(file, path, sha256) for file, path, sha256 in wanted if sha256 is None or not is_verified(path, sha256)]
    _check_space(name, folder, sum(max(0, _bytes_of(file) - _size(_part(path))) for file, path, _ in todo))
    for file, path, sha256 in todo:
        known[file["path"]] = _fetched(file, path, sha256, progress)
        with replacing(folder / RECORDED, overwrite=True) as part:
            part.write_text(json.dumps(known, indent=2), encoding="utf-8")
    fresh = {path for _, path, sha256 in todo if sha256 is None}
    return [
        {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256 or known[file["path"]], "known": "recorded" if path in fresh else "pinned"}
        for file, path, sha256 in wanted
    ]


def is_accepted(folder, entry):
    """Whether the licence of a model needs no consent, or has it. Source: ours."""
    if not entry.get("consent"):
        return True
    try:
        return json.loads((folder / ACCEPTED).read_text(encoding="utf-8"))["licence"] == entry["licence"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_licence(name, entry, folder, accepted):
    if is_accepted(folder, entry):
        return
    if not accepted:
        hint = f"Read {entry['licence_url']} and, if you agree, add --accept-licence."
        raise Missing(f"{name}: its licence must be accepted first: {entry['licence']}.", hint=hint, code="licence")
    with replacing(folder / ACCEPTED, overwrite=True) as part:
        part.write_text(json.dumps({key: entry[key] for key in ("licence", "licence_url")} | {"mouthpiece": __version__}), encoding="utf-8")


def _recorded(folder):
    try:
        known = json.loads((folder / RECORDED).read_text(encoding="utf-8"))
        return known if isinstance(known, dict) else {}
    except (OSError, ValueError):
        return {}


def _check_space(name, folder, needed_bytes):
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes and free_bytes < needed_bytes + SPARE_BYTES:
        raise WriteFailed(
            f"{name}: needs {needed_bytes / 1e6:.0f} MB in {folder}, {free_bytes / 1e6:.0f} MB are free.",
            hint="Free some space, or set MOUTHPIECE_CACHE_DIR to a folder on another disk.",
            code="disk_full",
        )


def _part(path):
    return path.with_name(path.name + ".part")


def _size(path):
    return path.stat().st_size if path.is_file() else 0


def _bytes_of(file):
    if "bytes" in file:
        return file["bytes"]
    with _answer(urllib.request.Request(file["url"], method="HEAD")) as answer:
        return int(answer.headers.get("Content-Length") or 0)


def _fetched(file, path, sha256, progress):
    """Fetches one file to its place; gives its SHA-256."""
    part = _part(path)
    part.parent.mkdir(parents=True, exist_ok=True)
    total = _bytes_of(file)
    with progress.stage(f"fetching {path.name}", total or None, "bytes") as advance:
        advance(_size(part))
        for again in range(TRIES - 1, -1, -1):
            try:
                _receive(file["url"], part, advance)
                if not total or _size(part) >= total:
                    break
                raise http.client.HTTPException("the connection ended early")
            except _BROKEN as error:
                if not again:
                    raise _unreachable(file["url"], error, _size(part)) from error
            except OSError as error:
                raise write_problem(part, error) from error
    found = sha256_of(part)
    if sha256 is not None and found != sha256:
        part.unlink()
        raise Refused(
            f"{file['url']}: what came is another file (SHA-256 {found[:12]}, need {sha256[:12]}); it was deleted.",
            hint="Run it again; if it stays so, the file was changed at its home: report it.",
            code="bad_download",
        )
    part.replace(path)
    return found


def _receive(url, part, advance):
    """Appends what is missing of a file to its part."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with _answer(request) as answer:
        if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:   # all of it is there, or it was another file
            return
        resumed = answer.status == http.client.PARTIAL_CONTENT
        if have and not resumed:
            advance(-have)
        with open(part, "ab" if resumed else "wb") as out:
            while chunk := answer.read(_CHUNK_BYTES):
                out.write(chunk)
                advance(len(chunk))


def _answer(request):
    if not request.full_url.startswith(("http://", "https://")):
        raise Refused(f"{request.full_url}: only http and https are fetched.", hint="Correct configs/models.toml.", code="bad_url")
    request.add_header("User-Agent", f"mouthpiece/{__version__}")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return error
        raise _unreachable(request.full_url, error, 0) from error
    except _BROKEN as error:
        if request.get_method() == "HEAD":
            raise _unreachable(request.full_url, error, 0) from error
        raise


def _unreachable(url, error, have_bytes):
    why = getattr(error, "reason", None) or error
    kept = f" {have_bytes / 1e6:.1f} MB are kept, the next run goes on from there." if have_bytes else ""
    return Missing(f"{url}: cannot be fetched ({why}).{kept}", hint="Check the connection and run it again.", code="no_connection", retryable=True)

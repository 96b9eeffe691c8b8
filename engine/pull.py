"""Models that do not ship with the package: the registry, where a model lies, and the only code that downloads."""

import importlib.util
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path

from engine.cache import cache_folder, cache_path, is_verified, joined
from engine.errors import Missing, Refused, UsageProblem

FOLDER = "models"                      # in the cache folder


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
    parts = [_part_of(part) for part in entry.get("parts", ())]
    if parts and all(path is not None and path.is_file() for path in parts):
        return True
    return all((model_path(name) / file["path"]).is_file() for file in entry["files"])


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
    if parts and all(path is not None for path, _ in parts):
        cache_folder(FOLDER, name)
        return joined(target, parts, facts["sha256"], name, remedy)
    if target.is_file():
        raise Refused(f"{name}: {target} is damaged or another file.", hint=f"Delete it. {remedy}", code="bad_model")
    raise Missing(f"{name}: the model is not on this machine.", hint=remedy.replace("--force-reinstall ", ""), code="no_model")


def _part_of(part):
    spec = importlib.util.find_spec(part["package"])
    return None if spec is None or not spec.submodule_search_locations else Path(spec.submodule_search_locations[0]) / part["file"]

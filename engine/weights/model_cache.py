"""Loaded models kept in memory: from one job of a process to the next, with their records for every job's side-car."""

from __future__ import annotations

from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from mouthpiece.engine.weights.manifest import get_weights_folder
from mouthpiece.engine.weights.records import ModelRecord, add_records, record_models

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Parameters = ParamSpec("Parameters")
Model = TypeVar("Model")
_models: dict[tuple, _CachedModel] | None = None  # None: nothing is kept


class _CachedModel(NamedTuple):
    """A model and the records of the files that it was loaded from."""

    model: Any
    records: tuple[ModelRecord, ...]


def enable_model_cache() -> None:
    """Let get_cached_model keep what it loads from now on, for as long as the process lives."""
    global _models
    _models = {} if _models is None else _models


def get_cached_model(load: Callable[..., Model], *arguments: Hashable) -> Model:
    """Return load(*arguments), loaded once a process where enable_model_cache was called, each time elsewhere.

    load: a function at the top of a module, whose result nobody changes.
    """
    if _models is None:
        return load(*arguments)
    key = (load.__module__, load.__qualname__, arguments, get_weights_folder())
    if key not in _models:
        _models[key] = _load_with_records(load, arguments)
    return _add_to_records(_models[key])


def cached_model(maxsize: int) -> Callable[[Callable[Parameters, Model]], Callable[Parameters, Model]]:
    """Decorate a loader so that every process keeps its results and records them for each job that asks for them.

    maxsize: how many results are kept, of those used last.
    """

    def decorate(load: Callable[Parameters, Model]) -> Callable[Parameters, Model]:
        load_once = lru_cache(maxsize)(lambda folder, arguments: _load_with_records(load, arguments))

        @wraps(load)
        def get(*arguments: Hashable) -> Model:
            return _add_to_records(load_once(get_weights_folder(), arguments))

        get.cache_clear = load_once.cache_clear  # type: ignore[attr-defined]
        return get  # type: ignore[return-value]

    return decorate


def _load_with_records(load: Callable[..., Any], arguments: tuple) -> _CachedModel:
    with record_models() as records:
        model = load(*arguments)
    return _CachedModel(model, tuple(records))


def _add_to_records(cached: _CachedModel) -> Any:
    add_records(cached.records)
    return cached.model

"""Models that a process keeps from job to job; each job's side-car names its own all the same."""

from __future__ import annotations

import os
import sys
from functools import lru_cache, wraps
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_models = None  # None: nothing is kept


def enable_model_cache():
    """From now on `warm` keeps what it loads, for as long as the process lives."""
    global _models
    _models = {} if _models is None else _models


def get_cached_model(load: Callable, *words):
    """What load(*words) gives; loaded once a process where `keep` was called, each time elsewhere.

    load: a function at the top of a module, whose result nobody changes.  words: hashable.
    """
    if _models is None:
        return load(*words)
    key = (load.__module__, load.__qualname__, words, _get_weights_folder())
    if key not in _models:
        _models[key] = _load_with_records(load, words)
    return _add_to_records(_models[key])


def cached_model(most: int) -> Callable:
    """Decorates a loader: what it gave is kept in every process, and named in the side-car of each job that asks for
    it.

    most: how many results are kept, of those asked for last.
    """

    def decorate(load: Callable) -> Callable:
        kept = lru_cache(most)(lambda folder, words: _load_with_records(load, words))

        @wraps(load)
        def call(*words):
            return _add_to_records(kept(_get_weights_folder(), words))

        call.cache_clear = kept.cache_clear
        return call

    return decorate


def _get_weights_folder() -> str:
    from mouthpiece.engine.weights import loading  # torch: not before a model is wanted

    return os.environ.get(loading.FOLDER_VARIABLE)


def _load_with_records(load: Callable, words: tuple) -> tuple | None:
    from mouthpiece.engine.weights import loading

    with loading.record_models() as hashes:
        model = load(*words)
    return model, hashes


def _add_to_records(kept: tuple):
    from mouthpiece.engine.weights import loading

    model, hashes = kept
    loading.restore_records(loading.get_records() | hashes)
    return model


def reset_model_records() -> None:
    """Forgets that models were used, not the models: the next job's side-car names those that it asks for."""
    if "mouthpiece.engine.weights.loading" in sys.modules:
        sys.modules["mouthpiece.engine.weights.loading"].restore_records({})

"""Models that a process keeps from job to job; each job's side-car names its own all the same."""

import os
import sys
from functools import lru_cache, wraps

_kept = None  # None: nothing is kept


def keep():
    """From now on `warm` keeps what it loads, for as long as the process lives. Source: ours."""
    global _kept
    _kept = {} if _kept is None else _kept


def warm(load, *words):
    """What load(*words) gives; loaded once a process where `keep` was called, each time elsewhere.

    load: a function at the top of a module, whose result nobody changes.  words: hashable.
    Source: ours.
    """
    if _kept is None:
        return load(*words)
    key = (load.__module__, load.__qualname__, words, _folder())
    if key not in _kept:
        _kept[key] = _with_hashes(load, words)
    return _named(_kept[key])


def kept_warm(most):
    """Decorates a loader: what it gave is kept in every process, and named in the side-car of each job that asks for it.

    most: how many results are kept, of those asked for last.
    Source: ours.
    """

    def decorate(load):
        kept = lru_cache(most)(lambda folder, words: _with_hashes(load, words))

        @wraps(load)
        def call(*words):
            return _named(kept(_folder(), words))

        call.cache_clear = kept.cache_clear
        return call

    return decorate


def _folder():
    from engine import weights  # torch: not before a model is wanted

    return os.environ.get(weights.FOLDER_VARIABLE)


def _with_hashes(load, words):
    from engine import weights

    with weights.noted() as hashes:
        model = load(*words)
    return model, hashes


def _named(kept):
    from engine import weights

    model, hashes = kept
    weights.resume(weights.loaded() | hashes)
    return model


def new_job():
    """Forgets that models were used, not the models: the next job's side-car names those that it asks for. Source: ours."""
    if "engine.weights" in sys.modules:
        sys.modules["engine.weights"].resume({})

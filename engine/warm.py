"""Models that a process keeps from job to job, where it was told to; each job's side-car names its own all the same."""

import os

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
    from engine import weights  # torch: not before a model is wanted

    key = (load.__module__, load.__qualname__, words, os.environ.get(weights.FOLDER_VARIABLE))
    if key not in _kept:
        before = weights.loaded()
        weights.resume({})
        try:
            model = load(*words)
            _kept[key] = model, weights.loaded()
        finally:
            weights.resume(before | weights.loaded())
    model, hashes = _kept[key]
    weights.resume(weights.loaded() | hashes)
    return model


def new_job():
    """Forgets that models were used, not the models: the next job's side-car names those that it asks for. Source: ours."""
    if not _kept:
        return
    from engine import weights

    of_kept = {key for _, hashes in _kept.values() for key in hashes}
    weights.resume({key: digest for key, digest in weights.loaded().items() if key not in of_kept})

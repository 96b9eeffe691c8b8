"""Silence what native libraries write to standard error."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def silence_native_output() -> Iterator[None]:
    """Silence native libraries, which write to file descriptor 2 past Python, and warnings; sys.stderr still works."""
    before = sys.stderr
    try:
        python_stderr = os.fdopen(
            os.dup(before.fileno()), "w", buffering=1, encoding=before.encoding, errors=before.errors
        )
    except (OSError, AttributeError):  # standard error is not a file of the system, as in a notebook
        python_stderr = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if python_stderr is None:
            yield
            return
        native, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 2)
        sys.stderr = python_stderr
        try:
            yield
        finally:
            sys.stderr = before
            os.dup2(native, 2)
            for descriptor in (native, devnull):
                os.close(descriptor)
            python_stderr.close()

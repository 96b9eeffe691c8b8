"""A limit on file size: within it the system refuses writes just as on a full disk."""

import resource
from contextlib import contextmanager


@contextmanager
def limit_file_size(size_bytes):
    """Let no file of this process grow beyond size_bytes, within the block alone: the test runner writes a log."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

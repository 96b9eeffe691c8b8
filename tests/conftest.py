"""One thread for the whole suite: results do not depend on the number of cores, and machines stay usable."""

import os

import pytest

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


@pytest.fixture(scope="session")
def debug_weights(tmp_path_factory):
    """A folder of small random weights; every animation of the session uses them."""
    from debug_weights import write_debug_weights

    folder = write_debug_weights(tmp_path_factory.mktemp("weights"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUTHPIECE_WEIGHTS_DIR", str(folder))
        yield folder

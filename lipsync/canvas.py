"""A portrait at its own resolution, moved: face flow, painted mouth and head motion composed in one reading of the pixels."""
from dataclasses import dataclass

import cv2
import numpy as np

from face.crop import Crop
from lipsync.renderer import PATCH, WORK_PX, edge_fade

FIELD_PX = 64                          # grid of the head's field
EDGE = 0.06                            # of the crop: where the face flow fades out


@dataclass(frozen=True)
class FrameParts:
    """One frame of a rendering as numpy. flow: (96, 96, 2) units of the crop.  paint: (64, 112, 4) colours 0–255 times mask, and mask."""
    flow: np.ndarray
    paint: np.ndarray


def parts_of(rendering):
    """FrameParts of every frame of a `Rendering`."""
    mask = rendering.mask.float() * edge_fade(*rendering.mask.shape[-2:])
    colours = (rendering.paint.float() + 1) * 127.5 * mask
    flow = rendering.flow.float().permute(0, 2, 3, 1).numpy()
    paint = np.concatenate([colours.permute(0, 2, 3, 1).numpy(), mask.permute(0, 2, 3, 1).numpy()], -1)
    return [FrameParts(f, p) for f, p in zip(flow, paint)]


def _smoothstep(x):
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


class Canvas:
    """Draws frames of one portrait.

    pixels: uint8 (H, W, 3).  crop: Crop of its face, size WORK_PX.
    Source: ours; head motion is a field that is rigid on the head and fades over neck and background.
    """

    def __init__(self, pixels, crop: Crop):
        self.pixels, self.crop = pixels, crop
        h, w = pixels.shape[:2]
        self.side_px = WORK_PX * float(np.hypot(*crop.frame_from_crop[:, 0]))     # crop's side in frame pixels
        self._grid = np.stack(np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)), -1)
        self._field = self._head_field(h, w)
        self._fade = self._flow_fade()
        corners = np.array([[0, 0], [WORK_PX, 0], [0, WORK_PX], [WORK_PX, WORK_PX]]) - 0.5
        self._box = self._frame_box(corners, h, w)
        top, bottom, left, right = PATCH
        self._mouth_box = self._frame_box(np.array([[left, top], [right, top], [left, bottom], [right, bottom]]) - 0.5, h, w)

    def _frame_box(self, corners, h, w, margin=0.06):
        """Rows and columns of the frame that a part of the crop can reach, with room for head motion."""
        m = self.crop.frame_from_crop
        p = corners @ m[:, :2].T + m[:, 2]
        room = margin * self.side_px
        x0, y0 = np.clip(np.floor(p.min(0) - room), 0, [w, h]).astype(int)
        x1, y1 = np.clip(np.ceil(p.max(0) + room), 0, [w, h]).astype(int)
        return slice(y0, y1), slice(x0, x1)

    def _unit(self, p):
        """Frame positions (..., 2) in units of the crop, the middle of its first pixel at 0.5 / size."""
        m = self.crop.crop_from_frame
        return (p @ m[:, :2].T.astype(np.float32) + m[:, 2].astype(np.float32) + 0.5) / WORK_PX

    def _head_field(self, h, w):
        """Basis (6, n, m, 2): displacement in frame pixels of where a pixel reads, for one unit of each pose number.

        Rigid within the head, falling to nothing one head further out; below the chin the fall is slower, so that the neck bends.
        """
        n, m = (max(2, round(FIELD_PX * s / max(h, w))) for s in (h, w))
        y, x = np.mgrid[0:n, 0:m]
        at = np.stack([(x + 0.5) * w / m - 0.5, (y + 0.5) * h / n - 0.5], -1).astype(np.float32)
        u = self._unit(at)
        dx, dy = (u[..., 0] - 0.5) / 0.44, (u[..., 1] - 0.42) / np.where(u[..., 1] > 0.42, 0.52, 0.60)
        r = np.hypot(dx, dy)
        rigid = 1 - _smoothstep((r - 0.95) / np.where(dy > 0.6, 1.3, 0.9))
        depth = np.sqrt(np.clip(1 - (r / 1.15) ** 2, 0, 1))
        px, py = u[..., 0] - 0.5, u[..., 1] - 0.75                                # turn about the base of the skull
        zero = np.zeros_like(px)
        basis = [(1 + zero, zero), (zero, 1 + zero), (px, py), (-py, px), (0.5 * depth, zero), (zero, 0.5 * depth)]
        out = []
        for k, (bx, by) in enumerate(basis):
            weight = rigid if k < 4 else 1.0
            b = np.stack([bx * weight, by * weight], -1) * self.side_px
            turn = self.crop.frame_from_crop[:, :2] / np.hypot(*self.crop.frame_from_crop[:, 0])
            out.append(-(b @ turn.T))
        return np.array(out, np.float32)

    def _flow_fade(self, size=96):
        ramp = _smoothstep((0.5 - np.abs((np.arange(size) + 0.5) / size - 0.5)) / EDGE)
        return (ramp[:, None] * ramp[None]).astype(np.float32)[..., None]

    def draw(self, parts, pose):
        """One frame, uint8 (H, W, 3): parts of the renderer, pose (6,) of the head in units of the crop and radians."""
        h, w = self.pixels.shape[:2]
        read = self._grid
        if np.any(pose):
            read = read + cv2.resize(np.tensordot(pose.astype(np.float32), self._field, 1), (w, h), interpolation=cv2.INTER_CUBIC)
        else:
            read = read.copy()
        box = self._box
        u = self._unit(read[box])
        flow = (parts.flow * self._fade).astype(np.float32)
        n = flow.shape[0]
        f = cv2.remap(flow, u[..., 0] * n - 0.5, u[..., 1] * n - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        if f.any():
            m = self.crop.frame_from_crop[:, :2].astype(np.float32) * WORK_PX
            read[box] += f @ m.T
        frame = cv2.remap(self.pixels, read[..., 0], read[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        self._paint(frame, parts.paint, u)
        return frame

    def _paint(self, frame, paint, u):
        top, _, left, _ = PATCH
        rows, cols = self._mouth_box
        y0, x0 = rows.start - self._box[0].start, cols.start - self._box[1].start
        u = u[y0 : y0 + rows.stop - rows.start, x0 : x0 + cols.stop - cols.start]
        part = cv2.remap(paint.astype(np.float32), u[..., 0] * WORK_PX - 0.5 - left, u[..., 1] * WORK_PX - 0.5 - top, cv2.INTER_CUBIC,
                         borderMode=cv2.BORDER_CONSTANT)
        share = np.clip(part[..., 3:], 0, 1)
        frame[rows, cols] = np.clip(frame[rows, cols] * (1 - share) + part[..., :3], 0, 255).astype(np.uint8)

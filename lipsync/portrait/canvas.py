"""The canvas of a portrait: face flow, painted mouth and head motion are composed in one sampling of its pixels."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.engine.curves import smoothstep
from mouthpiece.face.crop import Crop
from mouthpiece.face.matte import get_head_window
from mouthpiece.lipsync.portrait.eyelid_warp import UpperEyelid, draw_eyelid
from mouthpiece.lipsync.portrait.layers import LARGEST_UPSAMPLED_PX, separate_layers, upsample_twice
from mouthpiece.lipsync.portrait.mouth_patch import MOUTH_PATCH, WORK_PX
from mouthpiece.lipsync.portrait.mouth_shading import visibility

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mouthpiece.lipsync.portrait.frame_parts import FrameParts
    from mouthpiece.lipsync.portrait.opening_segmenter import EyeContour

# factor by which the mask's edge is sharpened again for every px of the picture in one of the crop
MASK_SHARPNESS = 0.75
HEAD_FIELD_PX = 64  # long side of the grid on which the head's motion is computed
BROW_CROP_PX = 400  # side of the crop in which brows are looked for
BLINK_MARGIN_PX = 6  # px of the working crop: brows and cheeks move a lid by less
FLOW_FADE_WIDTH = 0.06  # of the crop, units of it: where the face flow fades out at its edges
HEAD_PIVOT = (0.5, 0.26)  # x, y in units of the crop about which the head turns; its shift is measured there, too
FACE_CENTRE = (0.5, 0.42)  # x, y of the face's ellipse, units of the crop
FACE_HALF_WIDTH = 0.44  # of that ellipse, units of the crop
FACE_HALF_HEIGHTS = (0.60, 0.52)  # above and below its centre, units of the crop


def compute_head_depth(u: np.ndarray) -> np.ndarray:
    """Compute how far a face stands out before its pivot (...,), in units of the crop; negative behind it.

    u: (..., 2) places in units of the crop.
    Source: paraboloid fitted to the meshes of talking clips, mean error 0.036.
    """
    return np.maximum(0.076 - 2.9 * (u[..., 0] - 0.5) ** 2 - 0.41 * (u[..., 1] - 0.39) ** 2, -0.26)


def _to_face_ellipse(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert places (..., 2) in units of the crop to x and y (...,) in half axes of the face's ellipse."""
    above, below = FACE_HALF_HEIGHTS
    y = u[..., 1] - FACE_CENTRE[1]
    return (u[..., 0] - FACE_CENTRE[0]) / FACE_HALF_WIDTH, y / np.where(y > 0, below, above)


def compute_ellipse_rigidity(u: np.ndarray) -> np.ndarray:
    """Compute how far a place moves with the head (...,), where nothing separates it from the background.

    1 on the face's ellipse, falling to 0 one head further out, more slowly below the chin.
    u: (..., 2) places in units of the crop.
    """
    dx, dy = _to_face_ellipse(u)
    r = np.hypot(dx, dy)
    return 1 - smoothstep((r - 0.95) / (0.9 + 0.4 * smoothstep(dy - 0.1)))  # a jump here would tear the shoulders


def compute_person_rigidity(u: np.ndarray) -> np.ndarray:
    """Compute how far a place of a person moves with the head (...,), where a matte keeps the background still.

    1 on hair and hats, too; from the chin it falls to 0 at the collar.
    u: (..., 2) places in units of the crop.
    """
    dx, dy = _to_face_ellipse(u)
    wide = 0.95 + 0.55 * (1 - smoothstep((u[..., 1] - 0.5) / 0.5))  # hair is wider than the neck
    beside = np.maximum(np.abs(dx) - wide, 0) / 1.2
    beyond = np.where(dy > 0, np.maximum(dy - 0.95, 0) / 0.9, np.maximum(-dy - 2, 0))
    return 1 - smoothstep(np.hypot(beside, beyond))


@lru_cache(maxsize=4)
def make_flow_fade(side_px: int) -> np.ndarray:
    """Make a weight (n, n, 1) float32 that fades a flow field of n pixels a side to zero at the edges of the crop."""
    ramp = smoothstep((0.5 - np.abs((np.arange(side_px) + 0.5) / side_px - 0.5)) / FLOW_FADE_WIDTH)
    fade = (ramp[:, None] * ramp[None]).astype(np.float32)[..., None]
    fade.flags.writeable = False
    return fade


class Canvas:
    """Draw frames of one portrait at its own resolution: face flow, painted mouth and head motion in one sampling.

    pixels: (H, W, 3) uint8.
    crop: of its face, of WORK_PX; it may reach outside the picture.
    matte: (H, W) float32, share of the person whose head it is; the rest stays still. None: the background beside the
    head
    moves along a little.
    teeth: (h, w, 5) float32, as `build_teeth` makes them, at about the picture's own resolution; None: none are laid
    over.
    eyes: contours of the eyes that can blink.
    The head's motion is a field that is rigid on the head and fades over the neck.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        crop: Crop,
        matte: np.ndarray | None = None,
        teeth: np.ndarray | None = None,
        eyes: tuple[EyeContour, ...] = (),
    ) -> None:
        self.pixels, self.crop = pixels, crop
        self.teeth = None if teeth is None else np.ascontiguousarray(teeth[..., :4])
        size = pixels.shape[1::-1]
        self._window, self._layers = (slice(0, size[1]), slice(0, size[0])), None
        if matte is not None:
            self._layers = separate_layers(pixels, matte, WORK_PX / crop.scale, get_head_window(crop, size))
            self._window = self._window if self._layers is None else self._layers.window
        fine = self._layers is None and size[0] * size[1] <= LARGEST_UPSAMPLED_PX
        self._upsampled, self._upsampling = (upsample_twice(pixels), 2) if fine else (pixels, 1)
        self._corner = np.array([part.start for part in self._window[::-1]], np.float32)
        h, w = (part.stop - part.start for part in self._window)
        self._grid = (
            np.stack(np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)), -1) + self._corner
        )
        self._field = self._build_head_field(h, w)
        light = crop.with_size(BROW_CROP_PX).extract(pixels).mean(-1) if eyes else None
        self._lids = tuple(UpperEyelid(eye, light) for eye in eyes)

    def _get_frame_box(self, part: Sequence[float], reach_px: float) -> tuple[slice, slice]:
        """Return the rows and columns of the frame that a part of the crop reaches when the head moves by reach_px.

        part: (top, bottom, left, right), px of the working crop.
        """
        top, bottom, left, right = part
        p = self.crop.to_frame(np.array([[left, top], [right, top], [left, bottom], [right, bottom]]) - 0.5)
        rows, cols = self._window
        low, high = (cols.start, rows.start), (cols.stop, rows.stop)
        x0, y0 = np.clip(np.floor(p.min(0) - reach_px), low, high).astype(int)
        x1, y1 = np.clip(np.ceil(p.max(0) + reach_px) + 1, low, high).astype(int)
        return slice(y0, y1), slice(x0, x1)

    def _to_crop_units(self, p: np.ndarray) -> np.ndarray:
        """Convert frame positions (..., 2) to units of the crop, whose first pixel has its centre at 0.5 / WORK_PX."""
        m = self.crop.crop_from_frame
        return (p @ m[:, :2].T.astype(np.float32) + m[:, 2].astype(np.float32) + 0.5) / WORK_PX

    def _build_head_field(self, h: int, w: int) -> np.ndarray:
        """Build the basis (6, n, m, 2) of the head's motion: where a pixel reads, relative, in frame px for a unit of
        each pose
        number.
        """
        n, m = (max(2, round(HEAD_FIELD_PX * s / max(h, w))) for s in (h, w))
        y, x = np.mgrid[0:n, 0:m]
        at = np.stack([(x + 0.5) * w / m - 0.5, (y + 0.5) * h / n - 0.5], -1).astype(np.float32) + self._corner
        u = self._to_crop_units(at)
        rigid = compute_ellipse_rigidity(u) if self._layers is None else compute_person_rigidity(u)
        depth = compute_head_depth(u)
        px, py = u[..., 0] - HEAD_PIVOT[0], u[..., 1] - HEAD_PIVOT[1]
        zero = np.zeros_like(px)
        basis = [(1 + zero, zero), (zero, 1 + zero), (px, py), (-py, px), (-depth, zero), (zero, depth)]
        turn = self.crop.frame_from_crop[:, :2] * WORK_PX
        return np.array([-(np.stack(b, -1) * rigid[..., None]) @ turn.T for b in basis], np.float32)

    def draw(self, parts: FrameParts, pose: np.ndarray, lid_closure: float = 0.0) -> np.ndarray:
        """Draw one frame, (H, W, 3) uint8.

        parts: of the renderer.  pose: (6,) of the head, as `MotionSpace.pose` computes it.
        lid_closure: how far the lids are lowered, 0 as in the portrait to 1.
        Flow and paint are sampled where the head's motion reads, so that they move along with it.
        """
        h, w = self._grid.shape[:2]
        moved = np.tensordot(pose.astype(np.float32), self._field, 1)
        reach_px = float(np.abs(moved).max())
        read = self._grid + cv2.resize(moved, (w, h), interpolation=cv2.INTER_CUBIC) if reach_px else self._grid.copy()
        box = self._get_frame_box((0, WORK_PX, 0, WORK_PX), reach_px)
        u = self._to_crop_units(self._crop_to_box(read, box))
        flow, shift = (parts.flow * make_flow_fade(len(parts.flow))).astype(np.float32), None
        if u.size and flow.any():
            shift = cv2.remap(
                flow,
                u[..., 0] * len(flow) - 0.5,
                u[..., 1] * len(flow) - 0.5,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT,
            )
            self._crop_to_box(read, box)[:] += shift @ (self.crop.frame_from_crop[:, :2].astype(np.float32) * WORK_PX).T
        frame = self._compose_frame(read)
        y0, x0 = box[0].start, box[1].start
        for lid in self._lids if lid_closure > 0 else ():
            rows, cols = self._get_frame_box(
                [edge * WORK_PX for edge in lid.box], reach_px + BLINK_MARGIN_PX / self.crop.scale
            )
            part = slice(rows.start - y0, rows.stop - y0), slice(cols.start - x0, cols.stop - x0)
            if u[part].size:
                draw_eyelid(
                    frame[rows, cols],
                    lid,
                    lid_closure,
                    u[part] if shift is None else u[part] + shift[part],
                    self.pixels,
                    self.crop,
                )
        rows, cols = self._get_frame_box(MOUTH_PATCH, reach_px)
        self._blend_mouth(
            frame[rows, cols], parts, u[rows.start - y0 : rows.stop - y0, cols.start - x0 : cols.stop - x0]
        )
        return frame

    def _crop_to_box(self, field: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
        """Cut out the part of a field over the window that lies in a box of the frame."""
        rows, cols = (
            slice(part.start - whole.start, part.stop - whole.start) for part, whole in zip(box, self._window)
        )
        return field[rows, cols]

    def _compose_frame(self, read: np.ndarray) -> np.ndarray:
        """Compose the frame whose window reads the picture at (h, w, 2); with layers the background stays."""
        if self._layers is None:
            return cv2.remap(  # type: ignore[call-overload]  # the stub lacks map2=None, which OpenCV documents as empty
                self._upsampled,
                read * np.float32(self._upsampling),
                None,
                cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            )
        frame = self.pixels.copy()
        frame[self._window] = self._layers.compose(read - self._corner)
        return frame

    def _blend_mouth(self, frame: np.ndarray, parts: FrameParts, u: np.ndarray) -> None:
        """Blend the mouth patch, in place, into the part of the frame that reads the crop at u (h, w, 2)."""
        if not u.size:
            return
        top, _, left, _ = MOUTH_PATCH
        at = (u[..., 0] * WORK_PX - 0.5 - left, u[..., 1] * WORK_PX - 0.5 - top)
        part = cv2.remap(parts.paint.astype(np.float32), *at, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
        cover = np.clip(part[..., 3:4], 0, 1)
        share = np.clip((cover - 0.5) * max(1.0, MASK_SHARPNESS / self.crop.scale) + 0.5, 0, 1)
        out = frame * (1 - share) + part[..., :3] * (share / np.maximum(cover, 1e-3))
        if self.teeth is not None and parts.teeth_light is not None:
            light = cv2.remap(
                parts.teeth_light.astype(np.float32), *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )[..., None]
            grow = len(self.teeth) / (MOUTH_PATCH[1] - MOUTH_PATCH[0])
            at = ((u[..., 0] * WORK_PX - left) * grow - 0.5, (u[..., 1] * WORK_PX - top) * grow - 0.5)
            teeth = cv2.remap(self.teeth, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            share = visibility(share) * teeth[..., 3:]
            out += (teeth[..., :3] * light - out) * share
        frame[:] = np.clip(out + 0.5, 0, 255).astype(np.uint8)

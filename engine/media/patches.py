"""Change pixels of decoded frames in their own YUV planes; where nothing changes, every bit stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import av

# shares of red and blue in the luma, by FFmpeg's number of the colour matrix
_LUMA_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.3, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
FULL_RANGE = 2  # FFmpeg's number of the colour range that uses all values
_LIMITED_LUMA = 219 / 255  # span of the luma in limited range, over that in full range
_LIMITED_CHROMA = 224 / 255  # likewise of the chroma


class FramePatch(NamedTuple):
    """Changed pixels of a frame.

    x_px, y_px: left and top in the frame as shown.  before, after: (h, w, 3) uint8 RGB.
    """

    x_px: int
    y_px: int
    before: np.ndarray
    after: np.ndarray


def apply_patch(frame: av.VideoFrame, patch: FramePatch, matrix: int, turns: int) -> None:
    """Apply a patch to the planes of a frame; where it changes nothing they keep their bits.

    frame: decoded, planar YUV of 8 or 10 bits; its planes are replaced, the decoder's own copy stays.
    patch: in the frame as it is shown.
    matrix: FFmpeg's number of the colour matrix.
    turns: quarter turns, counter-clockwise, from the frame to the picture as shown.
    Source: ITU-R BT.601, BT.709, BT.2020: YUV is linear in RGB, so a difference of one is a difference of the other.
    """
    shown = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
    row, column, delta = _to_coded_orientation(patch, shown, turns)
    red, blue = _LUMA_WEIGHTS[matrix]
    bits = frame.format.components[0].bits
    full = frame.format.name.startswith("yuvj") or int(frame.color_range) == FULL_RANGE
    luma, chroma = (1, 1) if full else (_LIMITED_LUMA, _LIMITED_CHROMA)
    y: np.ndarray = delta @ np.array([red, 1 - red - blue, blue], np.float32)
    changes = (luma * y, chroma * (delta[..., 2] - y) / (2 - 2 * blue), chroma * (delta[..., 0] - y) / (2 - 2 * red))
    frame.make_writable()
    for number, change in enumerate(changes):
        step = (1, 1) if number == 0 else (16 // frame.format.chroma_height(16), 16 // frame.format.chroma_width(16))
        change, top, left = _average_blocks(change, row, column, step)
        values = get_plane(frame, number, bits)[top : top + change.shape[0], left : left + change.shape[1]]
        change = change[: values.shape[0], : values.shape[1]] * (1 << (bits - 8))
        values[:] = np.clip(np.rint(values + change), 0, (1 << bits) - 1).astype(values.dtype)


def get_plane(frame: av.VideoFrame, number: int, bits: int) -> np.ndarray:
    """Get a plane of a frame, (h, w) uint8 or uint16, to read and to write in place.

    number: 0 for luma, 1 and 2 for chroma.  bits: of a component.
    """
    plane, dtype = frame.planes[number], np.uint8 if bits == 8 else np.uint16
    # numpy's stub knows no object with the buffer protocol, such as a plane, before Python 3.12
    values: np.ndarray = np.frombuffer(plane, dtype)  # type: ignore[call-overload]
    rows = values[: plane.height * (plane.line_size // dtype().itemsize)].reshape(plane.height, -1)
    return rows[:, : plane.width]


def _to_coded_orientation(patch: FramePatch, shown: tuple[int, int], turns: int) -> tuple[int, int, np.ndarray]:
    """Turn a patch back to the frame as it is coded: (row, column, difference (h, w, 3) float32).

    shown: (height, width) of the picture as shown.  turns: as for apply_patch.
    """
    height, width = shown
    delta = patch.after.astype(np.float32) - patch.before
    h, w = delta.shape[:2]
    below, right = height - patch.y_px - h, width - patch.x_px - w
    corners = {0: (patch.y_px, patch.x_px), 1: (patch.x_px, below), 2: (below, right), 3: (right, patch.y_px)}
    row, column = corners[turns % 4]
    return row, column, np.ascontiguousarray(np.rot90(delta, -turns))


def _average_blocks(change: np.ndarray, row: int, column: int, step: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """Average a change over the blocks that share a chroma sample: (change, row, column) in such samples.

    step: (rows, columns) of a block; pixels of it that the change does not reach count as no change.
    """
    high, wide = step
    before, left = row % high, column % wide
    after, right = -(before + change.shape[0]) % high, -(left + change.shape[1]) % wide
    change = np.pad(change, ((before, after), (left, right)))
    change = change.reshape(change.shape[0] // high, high, change.shape[1] // wide, wide).mean((1, 3))
    return change, row // high, column // wide


def copy_colour_tags(frame: av.VideoFrame, other: av.VideoFrame) -> av.VideoFrame:
    """Copy the colour tags of another frame to a frame, in place, and return it."""
    frame.colorspace, frame.color_range = other.colorspace, other.color_range
    return frame


def pad_to_even(frame: av.VideoFrame) -> av.VideoFrame:
    """Pad a copy of a frame to even sides with a copy of its last row or column: 4:2:0 has no odd sides."""
    bits = frame.format.components[0].bits
    out = type(frame)(frame.width + frame.width % 2, frame.height + frame.height % 2, frame.format.name)
    for number in range(3):
        old, new = get_plane(frame, number, bits), get_plane(out, number, bits)
        new[:] = np.pad(old, ((0, new.shape[0] - old.shape[0]), (0, new.shape[1] - old.shape[1])), mode="edge")
    return copy_colour_tags(out, frame)

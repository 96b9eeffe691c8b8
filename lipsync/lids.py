"""Shut lids: what a warp cannot hide of an eye becomes lid, with the line of the lashes at its lower edge."""
import cv2
import numpy as np

from engine.curves import smoothstep
from lipsync.patch import FLOW_PX, WORK_PX

EYES, SQUEEZED = (22, 46), (1.35, 2.4)   # rows of the flow that show eyes; how much an eye is squeezed where it begins to be, and is, shut
ACROSS = ((0.22, 0.47), (0.53, 0.78))  # columns of either eye, in units of the crop
FINE = 8                               # rows to a row of the flow while what is squeezed is sought in the picture
LASH_SHARE, LASH_DARK = 0.06, 0.85     # of the eyes' pixels are as dark as lashes; how far the line goes to their colour
LASH_LINE, LEAST_HEIGHT_PX = 0.4, 3    # of an eye's height, from its lower edge, become lashes; eyes less high in the working crop are left alone


def squeezed(flow):
    """How far the rows EYES of a flow (96, 96, 2), units of the crop, squeeze what they read to a line, (rows, 96) in [0, 1]. Source: ours."""
    top, bottom = EYES
    low, high = SQUEEZED
    return smoothstep((FLOW_PX * np.gradient(flow[top:bottom, :, 1], axis=0) + 1 - low) / (high - low)).astype(np.float32)


def eyes_of(flow):
    """Where the portrait's eyes are open (192, 192) bool: what a flow (96, 96, 2) that shuts them squeezes to a line, filled column by column. Source: ours."""
    top, bottom = EYES
    size = (2 * FLOW_PX, FINE * (bottom - top))
    share, part = (cv2.resize(x, size, interpolation=cv2.INTER_LINEAR) for x in (squeezed(flow), np.ascontiguousarray(flow[top:bottom])))
    row, column = np.nonzero(share > 0.5)
    x = (column + 0.5) / size[0] + part[row, column, 0]
    y = (top + (row + 0.5) / FINE) / FLOW_PX + part[row, column, 1]
    out = np.zeros((WORK_PX, WORK_PX), bool)
    for low, high in ACROSS:
        near = (x > low) & (x < high) & (y > top / FLOW_PX) & (y < bottom / FLOW_PX)
        columns = (x[near] * WORK_PX).astype(int)
        for k in np.unique(columns):
            high_y, low_y = np.quantile(y[near][columns == k] * WORK_PX, (0.02, 0.98))
            if low_y - high_y >= LEAST_HEIGHT_PX:
                out[int(high_y) : int(low_y) + 1, k] = True
    return cv2.morphologyEx(out.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def lidded(taken, eyes):
    """A working crop (192, 192, 3) uint8 whose eyes (192, 192) bool are filled with lid, a dark line at their lower edge, as float32.

    Source: inpainting by fast marching (Telea 2004); the lashes' colour is that of the darkest pixels around the eyes.
    """
    mask = cv2.dilate(eyes.astype(np.uint8), np.ones((5, 3), np.uint8))
    out = cv2.inpaint(np.ascontiguousarray(taken), mask, 3, cv2.INPAINT_TELEA).astype(np.float32)
    height = eyes.sum(0)
    lower = WORK_PX - 1 - eyes[::-1].argmax(0)
    above = (lower - np.arange(WORK_PX)[:, None]) / np.maximum(LASH_LINE * height, 1)
    line = (np.clip(1.5 - 2 * np.abs(above - 0.5), 0, 1) * (height > 0)).astype(np.float32)
    line = cv2.GaussianBlur(line, (0, 0), 0.8)[..., None] * LASH_DARK
    return out + (lash_colour(taken) - out) * line


def lash_colour(taken):
    """(3,) colour of the darkest pixels beside and between the eyes of a working crop (192, 192, 3). Source: ours."""
    top, bottom = (v * WORK_PX // FLOW_PX for v in EYES)
    eyes = taken[top:bottom, 30:-30].reshape(-1, 3).astype(np.float32)
    light = eyes.mean(1)
    return eyes[light <= np.quantile(light, LASH_SHARE)].mean(0)

"""Photographs made to look drawn: oil, watercolour, pencil, comic, old canvas. For faces unlike any photograph of the
training.
"""

import cv2
import numpy as np

STYLES = ("oil", "watercolour", "pencil", "comic", "canvas")


def stylize(pixels, style, seed=0):
    """The picture in one of STYLES, uint8 (H, W, 3) RGB.

    pixels: uint8 (H, W, 3) RGB.  style: its name.  seed: of grain and weave.
    Source: OpenCV's non-photorealistic filters (Gastal and Oliveira 2011), Kuwahara 1976.
    """
    return {"oil": _oil, "watercolour": _watercolour, "pencil": _pencil, "comic": _comic, "canvas": _canvas}[style](
        pixels, np.random.default_rng(seed)
    )


def _kuwahara(pixels, reach_px):
    """Kuwahara's filter: each pixel takes the mean of that quarter around it that varies least. float32 (H, W, 3)."""
    image = pixels.astype(np.float32)
    grey, side = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), reach_px + 1
    best, out = np.full(grey.shape, np.inf, np.float32), image.copy()
    for anchor in ((0, 0), (reach_px, 0), (0, reach_px), (reach_px, reach_px)):
        mean, of_grey, square = (cv2.boxFilter(x, -1, (side, side), anchor=anchor) for x in (image, grey, grey * grey))
        spread = square - of_grey**2
        closer = spread < best
        best[closer], out[closer] = spread[closer], mean[closer]
    return out


def _oil(pixels, _):
    return np.clip(_kuwahara(pixels, 5), 0, 255).astype(np.uint8)


def _watercolour(pixels, _):
    return cv2.stylization(pixels, sigma_s=60, sigma_r=0.45)


def _pencil(pixels, _):
    """Hatching over soft shades of grey."""
    hatched, _ = cv2.pencilSketch(pixels, sigma_s=40, sigma_r=0.05, shade_factor=0.05)
    shades = cv2.bilateralFilter(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), 9, 40, 7)
    grey = 0.35 * hatched + 0.65 * np.clip(60 + 0.8 * shades.astype(np.float32), 0, 255)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, 2)


def _comic(pixels, _):
    """Flat colours in six steps within ink lines."""
    flat = pixels
    for _ in range(4):
        flat = cv2.bilateralFilter(flat, 9, 40, 7)
    flat = np.round(flat.astype(np.float32) / 43) * 43
    grey = cv2.medianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), 5)
    ink = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 11, 4)
    return (np.clip(flat * 1.08, 0, 255) * (cv2.GaussianBlur(ink, (0, 0), 0.7)[..., None] / 255)).astype(np.uint8)


def _canvas(pixels, rng):
    """Browned varnish, broad strokes, a coarse weave and fine cracks."""
    h, w = pixels.shape[:2]
    base = _kuwahara(pixels, 4) / 255
    brown = base**1.15 * np.array([1.0, 0.86, 0.62], np.float32) * 0.9 + np.array([0.06, 0.035, 0.0], np.float32)
    y, x = np.mgrid[0:h, 0:w]
    weave = 1 + 0.07 * np.sin(2 * np.pi * x / 3.7) * np.sin(2 * np.pi * y / 3.7) + 0.04 * rng.normal(size=(h, w))
    rough = cv2.GaussianBlur(rng.normal(size=(h, w)).astype(np.float32), (0, 0), 5)
    cracks = 1 - 0.28 * (np.abs(rough) < 0.04 * rough.std())
    return np.clip(brown * (weave * cracks)[..., None] * 255, 0, 255).astype(np.uint8)

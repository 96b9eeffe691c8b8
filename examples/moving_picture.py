"""Write a moving picture (animated WebP) of a finished video, for a page: the portrait beside what it became.

python examples/moving_picture.py demo-out/astronaut.png demo-out/astronaut.mp4 docs/demo.webp
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from mouthpiece.engine.media.images import read_image
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.face.detect import pick_face

SIDE_PX = 224
AROUND = 2.4  # sides of the square that is shown, in heights of the face
EVERY = 2  # frames of the video for one of the moving picture
QUALITY = 55


def frame_face(pixels: np.ndarray) -> tuple[float, float, float, float]:
    """Choose the square around the largest face, as shares (left, top, right, bottom) of a picture (H, W, 3) uint8."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = pick_face(pixels).box_xyxy
    side = min(AROUND * max(x1 - x0, y1 - y0), height, width)
    left = min(max((x0 + x1 - side) / 2, 0), width - side)
    top = min(max((y0 + y1 - side) / 2, 0), height - side)
    return left / width, top / height, (left + side) / width, (top + side) / height


def shrink(pixels: np.ndarray, part: tuple[float, float, float, float]) -> Image.Image:
    """Fit a part of a picture (H, W, 3) uint8 into a square of SIDE_PX. part: shares, as frame_face gives them."""
    height, width = pixels.shape[:2]
    box = (part[0] * width, part[1] * height, part[2] * width, part[3] * height)
    return Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.LANCZOS, box)


def write_moving_picture(portrait: Path, video: Path, output: Path) -> None:
    """Write the portrait and every second frame of its video side by side. output: path ending in .webp."""
    pixels, frames, times = read_image(portrait).pixels, [], []
    part = frame_face(pixels)
    still = shrink(pixels, part)
    with VideoReader(video) as reader:
        for number, frame in enumerate(reader):
            if number % EVERY == 0:
                both = Image.new("RGB", (2 * SIDE_PX, SIDE_PX))
                both.paste(still, (0, 0))
                both.paste(shrink(frame.pixels, part), (SIDE_PX, 0))
                frames.append(both)
                times.append(float(frame.time))
    step_ms = round(1000 * float(np.median(np.diff(times))))
    frames[0].save(output, save_all=True, append_images=frames[1:], duration=step_ms, loop=0, quality=QUALITY, method=4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("portrait", "video", "output"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    write_moving_picture(given.portrait, given.video, given.output)

"""Write a moving picture (animated WebP) of a finished video, for a page: the portrait beside what it became.

    python examples/moving_picture.py demo-out/astronaut.png demo-out/astronaut.mp4 docs/demo.webp
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from mouthpiece.engine.media.reading import VideoReader, read_image

SIDE_PX = 224
EVERY = 2  # frames of the video for one of the moving picture
QUALITY = 55


def shrink(pixels: np.ndarray) -> Image.Image:
    """Fit a picture (H, W, 3) uint8 into a square of SIDE_PX."""
    side = min(pixels.shape[:2])
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    return Image.fromarray(pixels[top : top + side, left : left + side]).resize((SIDE_PX, SIDE_PX), Image.LANCZOS)


def write_moving_picture(portrait: Path, video: Path, output: Path) -> None:
    """Write the portrait and every second frame of its video side by side. output: path ending in .webp."""
    still, frames, times = shrink(read_image(portrait).pixels), [], []
    with VideoReader(video) as reader:
        for number, frame in enumerate(reader):
            if number % EVERY == 0:
                both = Image.new("RGB", (2 * SIDE_PX, SIDE_PX))
                both.paste(still, (0, 0))
                both.paste(shrink(frame.pixels), (SIDE_PX, 0))
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

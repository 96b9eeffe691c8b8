"""Read and write pictures: upright, RGB, 8 bits, of a size that fits in memory."""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from mouthpiece.engine.errors import InvalidInputError, MouthpieceError, UsageError
from mouthpiece.engine.files import atomic_write, check_input_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIN_SIDE_PX = 32  # least side of a picture that is read
MAX_SIDE_PX = 4096  # larger pictures are reduced to this on their long side
MAX_PIXELS = 170_000_000  # below Pillow's own hard limit; 12,000 x 12,000 passes
# endings of the pictures that can be written
WRITE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_ORIENTATION_TAG = 0x0112  # EXIF
_TRANSPOSE_BY_ORIENTATION = {  # EXIF orientation -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_READABLE_HINT = "Give a PNG, JPEG, WebP, TIFF, BMP or GIF picture."


@dataclass(frozen=True)
class Picture:
    """A picture in memory.

    pixels: (H, W, 3) uint8 RGB, upright.
    path: where it came from.
    original_size_px: (width, height) in the file, upright, before any reduction.
    """

    pixels: np.ndarray = field(repr=False)
    path: Path
    original_size_px: tuple

    @property
    def is_reduced(self) -> bool:
        """Return whether the pixels are fewer than in the file."""
        return self.original_size_px != (self.pixels.shape[1], self.pixels.shape[0])


def read_image(path: str | Path, max_side_px: int | None = None) -> Picture:
    """Read a picture: EXIF orientation applied, transparency laid on white, 16 bits scaled, colours in sRGB.

    path: a picture file; of an animation the first frame.
    max_side_px: the long side is reduced to at most this; None gives MAX_SIDE_PX.
    Raises InvalidInputError for what is not a picture, is cut off, too small (MIN_SIDE_PX) or too large (MAX_PIXELS).
    """
    path = check_input_file(path, "picture")
    with _open_image(path) as image:
        return _load_pixels(image, path, max_side_px or MAX_SIDE_PX)


def check_picture(path: str | Path) -> None:
    """Check the beginning of a picture file, without decoding it; raise what read_image would raise for it."""
    path = check_input_file(path, "picture")
    with _open_image(path) as image:
        _check_size(image, path)


@contextmanager
def _open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open a picture file, still undecoded, as a context that turns Pillow's errors into InvalidInputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_list_formats()) as image:
                yield image
    except UnidentifiedImageError as error:
        raise InvalidInputError(
            f"{path}: not a picture that can be read.", hint=_READABLE_HINT, code="not_a_picture"
        ) from error
    except Image.DecompressionBombError as error:
        raise _make_size_error(path) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InvalidInputError(
            f"{path}: the picture is broken or cut off ({error}).",
            hint="Save or download it again.",
            code="broken_picture",
        ) from error


def is_picture(path: str | Path) -> bool:
    """Return whether a file begins as a picture of a kind that can be read."""
    try:
        with _open_image(path):
            return True
    except InvalidInputError as problem:
        return problem.code == "picture_too_large"


def _list_formats() -> list[str]:
    """List the formats that Pillow reads, but for IMT, which searches all of a file, however long."""
    Image.init()
    return [kind for kind in Image.ID if kind != "IMT"]


def _check_size(image: Image.Image, path: Path) -> None:
    """Check that a picture is neither too small nor too large to be read."""
    width_px, height_px = image.size
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise InvalidInputError(
            f"{path}: {width_px} x {height_px} pixels is too small.",
            hint=f"Each side needs at least {MIN_SIDE_PX}.",
            code="picture_too_small",
        )
    if width_px * height_px > MAX_PIXELS:
        raise _make_size_error(path)


def _load_pixels(image: Image.Image, path: Path, max_side_px: int) -> Picture:
    """Decode an opened picture and bring it to upright RGB of 8 bits."""
    _check_size(image, path)
    width_px, height_px = image.size
    image.draft(image.mode, (max_side_px, max_side_px))  # JPEG: decode at 1/2, 1/4 or 1/8; others ignore it
    profile = image.info.get("icc_profile")
    image.load()
    turn = image.getexif().get(_ORIENTATION_TAG, 1)
    image = _to_eight_bit(image, path)
    if max(image.size) > max_side_px:
        image = _shrink(image, max_side_px)
    image = _flatten_transparency(image, profile)
    if turn in _TRANSPOSE_BY_ORIENTATION:
        image = image.transpose(_TRANSPOSE_BY_ORIENTATION[turn])
    original = (height_px, width_px) if turn >= 5 else (width_px, height_px)
    return Picture(np.array(image, dtype=np.uint8), path, original)


def _make_size_error(path: str | Path) -> InvalidInputError:
    """Make the error for a picture of too many pixels."""
    return InvalidInputError(
        f"{path}: more than {MAX_PIXELS // 1_000_000} million pixels.",
        hint="Reduce the picture first; faces need no more than 4096 on a side.",
        code="picture_too_large",
    )


def _to_eight_bit(image: Image.Image, path: Path) -> Image.Image:
    """Convert an image to 8 bits a channel; 16-bit grey keeps its full range."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "I":
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise InvalidInputError(
                f"{path}: 32-bit grey levels.", hint="Save it with 8 or 16 bits.", code="picture_depth"
            )
        return Image.fromarray((grey >> 8).astype(np.uint8) if grey.max() > 255 else grey.astype(np.uint8))
    if image.mode == "F":
        raise InvalidInputError(
            f"{path}: floating-point grey levels.", hint="Save it with 8 or 16 bits.", code="picture_depth"
        )
    if image.mode in ("P", "PA", "1"):
        return image.convert("RGBA" if image.mode != "1" else "L")
    return image


def _shrink(image: Image.Image, max_side_px: int) -> Image.Image:
    """Shrink a picture so that its long side fits."""
    scale = max_side_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    method = Image.Resampling.BOX if scale < 0.5 else Image.Resampling.LANCZOS
    return image.resize((width, height), method, reducing_gap=2.0)


def _flatten_transparency(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image to RGB in sRGB, on white where it is transparent."""
    if "transparency" in image.info or image.mode in ("LA", "La", "RGBa"):
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        image = white
    if profile and image.mode in ("RGB", "CMYK"):
        image = _to_srgb(image, profile)
    return image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert a picture with a colour profile to sRGB; a broken profile is ignored, as viewers do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return cast("Image.Image", converted)  # None only for a conversion in place
    except ImageCms.PyCMSError:
        return image


def write_image(
    path: str | Path, pixels: np.ndarray, overwrite: bool = False, inputs: Sequence[str | Path] = ()
) -> None:
    """Write a picture under a temporary name and rename it; the suffix chooses the format.

    path: ends in one of WRITE_SUFFIXES.
    pixels: (H, W, 3) or (H, W) uint8, RGB or grey.
    overwrite, inputs: as for files.check_output_file.
    Raises UsageError for an unknown suffix or an output that is in the way, OutputError for the disk.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITE_SUFFIXES:
        raise UsageError(
            f"{path}: cannot write pictures as '{path.suffix}'.", hint=f"Use one of {' '.join(WRITE_SUFFIXES)}."
        )
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise MouthpieceError(f"{path}: pixels are {pixels.dtype} {pixels.shape}, need uint8 (H, W, 3) or (H, W).")
    lossy: dict[str, Any] = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}
    with atomic_write(path, overwrite, inputs) as part:
        Image.fromarray(np.ascontiguousarray(pixels)).save(part, **lossy)

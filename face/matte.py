"""Matte a portrait: which part is the person whose face was chosen, hair and shoulders included, with soft edges."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.engine.device import set_cpu_threads
from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.weights.digests import is_verified
from mouthpiece.engine.weights.model_cache import cached_model
from mouthpiece.face.crop import make_crop, transform_points
from mouthpiece.face.detect import find_faces_fast

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxruntime import InferenceSession

    from mouthpiece.face.crop import Crop

RVM_FILE = "rvm_mobilenetv3_fp32.onnx"
RVM_SHA256 = "88d4531297118f595bf2fd60f6f566aec2e559393802d1f436c380f0cbbd2828"
NETWORK_PX = 512  # long side of the network's input
VIEW_BOX = (-0.75, 1.75, -1.45, 1.75)  # left, right, top, bottom of what the network gets, in units of the face's crop
HEAD_ELLIPSE = (0.5, 0.50, 0.24, 0.32)  # centre and half axes of what is certainly face, also when turned a little
EAR_ELLIPSE = (
    0.5,
    0.44,
    0.50,
    0.26,
)  # centre and half axes of where ears are, which the matte loses before a dark wall
MIN_FACE_SHARE = 0.7  # share of the face that the matte must cover to be used
MAX_PLAIN_SPREAD = 12.0  # levels of 255: a wall that spreads less is plain
MIN_SHARE = 0.05  # shares below this become 0
MAX_HALF_WIDTH = 0.75  # half width beside the face from which somebody else may be in the matte


def get_head_window(crop: Crop, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Get the part of a picture that a moving head can reach: (rows, columns) as slices.

    crop: of the face.  size: (width, height) of the picture in pixels.
    """
    left, right, top, bottom = VIEW_BOX
    corners = crop.to_frame(np.array([[left, top], [right, top], [left, bottom], [right, bottom]]) * crop.size_px - 0.5)
    x0, y0 = np.clip(np.floor(corners.min(0)), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(0)), 0, size).astype(int)
    return slice(y0, y1), slice(x0, x1)


def compute_matte(
    pixels: np.ndarray, points: np.ndarray, network: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray | None:
    """Compute the matte of the chosen person, float32 (H, W) in [0, 1]; None where no person is found around the face.

    pixels: uint8 (H, W, 3) RGB.
    points: (4, 2) eyes and mouth corners of the face.
    network: function from uint8 (h, w, 3) to float32 (h, w) shares of any person; the best that is available when None.
    Other people and what is not connected to the face are left out, holes are filled. Beyond `get_head_window` it is 0.
    Raises MissingDependencyError when the installed weights are of another version.
    Source: Lin et al. 2021 (RobustVideoMatting) or MediaPipe's selfie segmentation.
    """
    window = get_head_window(make_crop(points, 100), pixels.shape[1::-1])
    view = pixels[window]
    h, w = view.shape[:2]
    if min(h, w) < 16:
        return None
    scale = NETWORK_PX / max(h, w)
    small = tuple(max(16, round(side * scale)) for side in (w, h))
    shrunk = cv2.resize(view, small, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    to_view = np.array([[small[0] / w, 0, 0], [0, small[1] / h, 0]])
    to_view[:, 2] = to_view[:, :2] @ [0.5 - window[1].start, 0.5 - window[0].start] - 0.5
    share = isolate_person(
        (network or choose_matting_network())(shrunk),
        transform_points(to_view, points),
        shrunk,
        lambda: [transform_points(to_view, f.points) for f in find_faces_fast(pixels)],
    )
    if share is None:
        return None
    matte = np.zeros(pixels.shape[:2], np.float32)
    matte[window] = np.clip(cv2.resize(share, (w, h), interpolation=cv2.INTER_LINEAR), 0, 1)
    return matte


def compute_crop_coordinates(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Compute where pixels lie in units of the face's crop, float32 (H, W, 2).

    points: (4, 2) of the face.  shape: (H, W).
    """
    m = make_crop(points, 1000).crop_from_frame / 1000
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    return np.stack([m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]], -1).astype(np.float32)


def isolate_person(
    share: np.ndarray, points: np.ndarray, pixels: np.ndarray, faces: Callable[[], list[np.ndarray]] = list
) -> np.ndarray | None:
    """Isolate the person to whom a face belongs, without holes, float32 (H, W); None when the face is not covered.

    share: float32 (H, W) of any person.  points: (4, 2) of the face.  pixels: uint8 (H, W, 3).
    faces: function that returns the points (4, 2) of all faces; called where the figure is too wide for one person.
    """
    u = compute_crop_coordinates(points, share.shape)
    r = _compute_elliptic_distance(u, HEAD_ELLIPSE)
    face = r < 1
    if not face.any() or share[face].mean() < MIN_FACE_SHARE:
        return None
    # glasses and shadows are not holes
    share = np.maximum(np.clip(share, 0, 1), np.clip((1.15 - r) / 0.15, 0, 1)).astype(np.float32)
    share = np.maximum(share, _recover_ears(share, u, pixels))
    joined = _keep_connected(share > 0.5, face)
    beside = joined & (np.abs(u[..., 0] - 0.5) > MAX_HALF_WIDTH) & (np.abs(u[..., 1] - 0.5) < 0.4)
    if beside.any():
        joined &= _mask_nearest_face(u, points, faces())
    near = (
        cv2.dilate(
            joined.astype(np.uint8),
            np.ones((3, 3), np.uint8),
            iterations=max(2, round(0.05 * _get_crop_side_px(points))),
        )
        > 0
    )
    share = np.where(near, share, 0)
    share[_find_holes(share > 0.5)] = 1
    return np.where(share < MIN_SHARE, 0, share).astype(np.float32)


def _compute_elliptic_distance(u: np.ndarray, ellipse: tuple[float, float, float, float]) -> np.ndarray:
    """Compute the distance (H, W) from the centre of an ellipse in its own units: 1 on its outline."""
    x, y, rx, ry = ellipse
    return np.hypot((u[..., 0] - x) / rx, (u[..., 1] - y) / ry)


def _recover_ears(share: np.ndarray, u: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Recover ears that the matte lost: what stands out from a plain wall on that side, float32 (H, W)."""
    r = _compute_elliptic_distance(u, EAR_ELLIPSE)
    colours = cv2.GaussianBlur(pixels, (0, 0), 1).astype(np.float32)
    found: np.ndarray = np.zeros(share.shape, np.uint8)
    for side in (u[..., 0] < 0.5, u[..., 0] >= 0.5):
        wall, here = colours[side & (share < 0.02) & (r > 1) & (r < 1.5)], side & (r < 1) & (share < 0.9)
        if len(wall) >= 50:
            middle = np.median(wall, 0)
            spread = 1.5 * np.median(np.abs(wall - middle), 0).max()  # a shoulder in the sample does no harm
            if spread < MAX_PLAIN_SPREAD:
                found[here] = 255 * (np.abs(colours[here] - middle).max(-1) > MAX_PLAIN_SPREAD + 3 * spread)
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9)))
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return cv2.GaussianBlur(found, (0, 0), 1).astype(np.float32) / 255


def _get_crop_side_px(points: np.ndarray) -> float:
    """Get the side of the face's crop in pixels of the picture."""
    return 1 / make_crop(points, 1).scale


def _keep_connected(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Keep the parts of a mask (H, W) that touch a seed (H, W)."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return np.isin(labels, np.setdiff1d(np.unique(labels[seed & mask]), [0]))


def _find_holes(mask: np.ndarray) -> np.ndarray:
    """Find the holes of a mask (H, W): what it encloses."""
    _, labels = cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)
    rim = np.unique(np.r_[labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return ~mask & ~np.isin(labels, rim)


def _mask_nearest_face(u: np.ndarray, points: np.ndarray, faces: list[np.ndarray]) -> np.ndarray:
    """Mask where the chosen face is the nearest of all, in units of each face's size, (H, W) bool."""
    own = np.hypot(u[..., 0] - 0.5, u[..., 1] - 0.5)
    centre, side_px = np.mean(points, 0), _get_crop_side_px(points)
    here = np.ones(own.shape, bool)
    for face in faces:
        if np.hypot(*(face.mean(0) - centre)) > 0.35 * side_px:
            other = compute_crop_coordinates(face, own.shape)
            here &= own <= np.hypot(other[..., 0] - 0.5, other[..., 1] - 0.5)
    return here


def find_matting_weights() -> Path | None:
    """Find RobustVideoMatting's weights in this package; None when they were left out."""
    path = Path(__file__).parent / "embedded" / RVM_FILE
    return path if path.is_file() else None


def choose_matting_network() -> Callable[[np.ndarray], np.ndarray]:
    """Choose the network that segments people: RobustVideoMatting where its weights are, else MediaPipe's, coarser."""
    return segment_with_mediapipe if find_matting_weights() is None else segment_with_rvm


def segment_with_rvm(pixels: np.ndarray) -> np.ndarray:
    """Segment people by RobustVideoMatting: their share of every pixel, float32 (H, W).

    pixels: uint8 (H, W, 3) RGB, a few hundred pixels.
    Raises MissingDependencyError when the weights are not the verified ones.
    Source: Lin, Yang, Saleemi, Sengupta 2021, MobileNetV3; one picture without memory, at full resolution.
    """
    frame = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]).astype(np.float32) / 255
    nothing = {f"r{i}i": np.zeros((1, 1, 1, 1), np.float32) for i in range(1, 5)}
    whole = {"downsample_ratio": np.ones(1, np.float32)}
    return _open_session(find_matting_weights()).run(["pha"], {"src": frame} | nothing | whole)[0][0, 0]


@cached_model(1)
def _open_session(path: Path | None) -> InferenceSession:
    """Open the network, once a process where models are cached."""
    import onnxruntime

    from mouthpiece.engine.weights.records import record_model

    if path is None or not is_verified(path, RVM_SHA256):
        raise MissingDependencyError(
            f"matting: {path or RVM_FILE} is damaged or of another version.",
            hint="Install mouthpiece again.",
            code="bad_weights",
        )
    record_model("matting", path, RVM_SHA256)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = set_cpu_threads(), 3
    # waiting in a loop starves whoever shares the cores
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def segment_with_mediapipe(pixels: np.ndarray) -> np.ndarray:
    """Segment people by MediaPipe's selfie segmentation at 256 px: their share of every pixel, float32 (H, W).

    pixels: uint8 (H, W, 3) RGB.
    Source: MediaPipe's model card of 2021.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

    from mouthpiece.engine.weights.records import record_packaged_model

    record_packaged_model("mediapipe", ("modules/selfie_segmentation/selfie_segmentation.tflite",))
    with SelfieSegmentation(model_selection=0) as network:
        return np.asarray(network.process(np.ascontiguousarray(pixels)).segmentation_mask, np.float32)

"""Which part of a portrait is the person whose face was chosen, hair and shoulders included: a soft matte, once a clip."""

import os
from pathlib import Path

import cv2
import numpy as np

from engine.cache import is_verified
from engine.device import threads
from engine.errors import Missing
from engine.warm import kept_warm
from face.crop import crop_of, place
from face.detect import find_faces_quick

FILE = "rvm_mobilenetv3_fp32.onnx"
SHA256 = "88d4531297118f595bf2fd60f6f566aec2e559393802d1f436c380f0cbbd2828"
NETWORK_PX = 512                   # long side of what the network gets
SEEN = (-0.75, 1.75, -1.45, 1.75)  # left, right, top, bottom of what is looked at, in units of the face's crop
HEAD = (0.5, 0.50, 0.24, 0.32)     # centre and half axes of what is face for sure, turned away a little or not
EARS = (0.5, 0.44, 0.50, 0.26)     # where ears are, lost by the matte before a dark wall
NEEDED_SHARE = 0.7                 # of the face that the matte must cover to be believed
PLAIN = 12.0                       # levels of 255: a wall that spreads less is plain
FAINT = 0.05                       # shares below this part one figure from another
WIDE = 0.75                        # half width beside the face from which somebody else may be in the matte


def window_of(crop, size):
    """(rows, columns) as slices: the part of a picture that a head can move.

    crop: Crop of the face.  size: (width, height) of the picture in pixels.
    Source: ours.
    """
    left, right, top, bottom = SEEN
    corners = crop.to_frame(np.array([[left, top], [right, top], [left, bottom], [right, bottom]]) * crop.size_px - 0.5)
    x0, y0 = np.clip(np.floor(corners.min(0)), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(0)), 0, size).astype(int)
    return slice(y0, y1), slice(x0, x1)


def matte_of(pixels, points, network=None):
    """Share of the chosen person in every pixel, float32 (H, W) in [0, 1]; None where no person is made out around the face.

    pixels: uint8 (H, W, 3) RGB.
    points: (4, 2) eyes and mouth corners of the face.
    network: function from uint8 (h, w, 3) to float32 (h, w) shares of any person; the best at hand when None.
    Other people and what is not joined to the face are no part of it; holes are. Beyond `window_of` it is 0.
    Raises Missing when the installed weights are other ones.
    Source: ours, on Lin et al. 2021 (RobustVideoMatting) or MediaPipe's selfie segmentation.
    """
    window = window_of(crop_of(points, 100), pixels.shape[1::-1])
    view = pixels[window]
    h, w = view.shape[:2]
    if min(h, w) < 16:
        return None
    scale = NETWORK_PX / max(h, w)
    small = tuple(max(16, round(side * scale)) for side in (w, h))
    seen = cv2.resize(view, small, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    to_view = np.array([[small[0] / w, 0, 0], [0, small[1] / h, 0]])
    to_view[:, 2] = to_view[:, :2] @ [0.5 - window[1].start, 0.5 - window[0].start] - 0.5
    at = place(to_view, points)
    found = chosen((network or best_network())(seen), at, seen, lambda: [place(to_view, f.points) for f in find_faces_quick(pixels)])
    if found is None:
        return None
    matte = np.zeros(pixels.shape[:2], np.float32)
    matte[window] = np.clip(cv2.resize(found, (w, h), interpolation=cv2.INTER_LINEAR), 0, 1)
    return matte


def places(points, shape):
    """Where pixels lie in units of the face's crop, float32 (H, W, 2).

    points: (4, 2) of the face.  shape: (H, W).
    Source: ours.
    """
    m = crop_of(points, 1000).crop_from_frame / 1000
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    return np.stack([m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]], -1).astype(np.float32)


def chosen(share, points, pixels, faces=list):
    """The one person to whom a face belongs, without holes, float32 (H, W); None when the shares do not cover the face.

    share: float32 (H, W) of any person.  points: (4, 2) of the face.  pixels: uint8 (H, W, 3).
    faces: function that gives the points (4, 2) of all faces of the picture; asked where the figure is too wide for one.
    Source: ours.
    """
    u = places(points, share.shape)
    r = _rings(u, HEAD)
    face = r < 1
    if not face.any() or share[face].mean() < NEEDED_SHARE:
        return None
    share = np.maximum(np.clip(share, 0, 1), np.clip((1.15 - r) / 0.15, 0, 1)).astype(np.float32)  # glasses and shadows are no holes
    share = np.maximum(share, _ears(share, u, pixels))
    joined = _joined(share > 0.5, face)
    beside = joined & (np.abs(u[..., 0] - 0.5) > WIDE) & (np.abs(u[..., 1] - 0.5) < 0.4)
    if beside.any():
        joined &= _nearer(u, points, faces())
    near = cv2.dilate(joined.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=max(2, round(0.05 * _crop_px(points)))) > 0
    share = np.where(near, share, 0)
    share[_holes(share > 0.5)] = 1
    return np.where(share < FAINT, 0, share).astype(np.float32)


def _rings(u, ellipse):
    """Distance from the centre of an ellipse in its own units (H, W): 1 on its outline."""
    x, y, rx, ry = ellipse
    return np.hypot((u[..., 0] - x) / rx, (u[..., 1] - y) / ry)


def _ears(share, u, pixels):
    """Share of what the matte lost where ears are: whatever stands out from a plain wall on that side, float32 (H, W)."""
    r = _rings(u, EARS)
    colours = cv2.GaussianBlur(pixels, (0, 0), 1).astype(np.float32)
    found = np.zeros(share.shape, np.uint8)
    for side in (u[..., 0] < 0.5, u[..., 0] >= 0.5):
        wall, here = colours[side & (share < 0.02) & (r > 1) & (r < 1.5)], side & (r < 1) & (share < 0.9)
        if len(wall) >= 50:
            middle = np.median(wall, 0)
            spread = 1.5 * np.median(np.abs(wall - middle), 0).max()  # a shoulder in the sample does no harm
            if spread < PLAIN:
                found[here] = 255 * (np.abs(colours[here] - middle).max(-1) > PLAIN + 3 * spread)
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9)))
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return cv2.GaussianBlur(found, (0, 0), 1).astype(np.float32) / 255


def _crop_px(points):
    return 1 / crop_of(points, 1).scale


def _joined(mask, seed):
    """The parts of a mask (H, W) that touch a seed (H, W)."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return np.isin(labels, np.setdiff1d(np.unique(labels[seed & mask]), [0]))


def _holes(mask):
    """What a mask (H, W) encloses and the border does not reach."""
    _, labels = cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)
    rim = np.unique(np.r_[labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return ~mask & ~np.isin(labels, rim)


def _nearer(u, points, faces):
    """Where the chosen face is the nearest of all, in units of each face's size (H, W) bool."""
    own = np.hypot(u[..., 0] - 0.5, u[..., 1] - 0.5)
    centre, side_px = np.mean(points, 0), _crop_px(points)
    here = np.ones(own.shape, bool)
    for face in faces:
        if np.hypot(*(face.mean(0) - centre)) > 0.35 * side_px:
            other = places(face, own.shape)
            here &= own <= np.hypot(other[..., 0] - 0.5, other[..., 1] - 0.5)
    return here


def weights_path():
    """Where RobustVideoMatting's weights lie in this package; None when they were left out. Source: ours."""
    path = Path(__file__).parent / "embedded" / FILE
    return path if path.is_file() else None


def best_network():
    """The function that tells people from background: RobustVideoMatting where its weights are, else MediaPipe's, coarser at hair.

    Source: ours.
    """
    return selfie if weights_path() is None else robust


def robust(pixels):
    """Share of people in every pixel by RobustVideoMatting, float32 (H, W).

    pixels: uint8 (H, W, 3) RGB, a few hundred pixels.
    Raises Missing when the weights are not the verified ones.
    Source: Lin, Yang, Saleemi, Sengupta 2021, MobileNetV3; one picture, nothing remembered, nothing left out.
    """
    frame = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]).astype(np.float32) / 255
    nothing = {f"r{i}i": np.zeros((1, 1, 1, 1), np.float32) for i in range(1, 5)}
    whole = {"downsample_ratio": np.ones(1, np.float32)}
    return _session(weights_path()).run(["pha"], {"src": frame} | nothing | whole)[0][0, 0]


@kept_warm(1)
def _session(path):
    import onnxruntime

    from engine.weights import record  # brings torch with it

    if path is None or not is_verified(path, SHA256):
        raise Missing(
            f"matting: {path or FILE} is damaged or of another version.",
            hint="Install mouthpiece again.",
            code="bad_weights",
        )
    record("matting", path, SHA256)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads(), 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting in a loop starves whoever shares the cores
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def selfie(pixels):
    """Share of people in every pixel by MediaPipe's selfie segmentation at 256 px, float32 (H, W).

    pixels: uint8 (H, W, 3) RGB.
    Source: MediaPipe's model card of 2021.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

    from engine.weights import record_packaged  # brings torch with it

    record_packaged("mediapipe", ("modules/selfie_segmentation/selfie_segmentation.tflite",))
    with SelfieSegmentation(model_selection=0) as network:
        return np.asarray(network.process(np.ascontiguousarray(pixels)).segmentation_mask, np.float32)

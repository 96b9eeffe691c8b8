"""Detect faces in a picture (MTCNN first, MediaPipe as a second opinion) and choose the one that is meant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.face.crop import TEMPLATE, make_crop
from mouthpiece.face.detectors import (
    MIN_FACE_PX,
    MIN_FACE_SCORE,
    Face,
    find_faces_mediapipe,
    find_faces_mtcnn,
    is_same_face,
)

CONFIDENT_SCORE = 0.95  # below this of MTCNN, MediaPipe is asked too
MIN_POINTED_SCORE = 0.3  # enough where the user has pointed at the face
TILTED_DEG = 20.0  # tilt from which MTCNN's points are detected again upright
EXTREME_DEG = 65.0  # yaw from which a profile is refused, unless placed by hand
LONG_SIDE_PX = 1280  # larger pictures are shrunk to this long side for detection
ROTATED_SIDE_PX = 640  # and to this for faces that lie on their side or upside down
FACE_HINT = (
    "Give a frontal picture, or choose the place with --face x,y "
    "(the point between eyes and mouth; --face x,y,width sets the size too)."
)


@dataclass(frozen=True)
class FaceChoice:
    """Choice of a face by --face: the largest when all are None."""

    index: int | None = None
    point: tuple[float, float] | None = None
    width_px: float | None = None


def parse_face_choice(choice: str | FaceChoice) -> FaceChoice:
    """Parse `largest`, `INDEX` (0 is the largest) or `x,y[,width]`.

    choice: text, or a FaceChoice, which is returned as it is.
    Raises UsageError for anything else.
    """
    if isinstance(choice, FaceChoice):
        return choice
    text = str(choice).strip().lower()
    if text == "largest":
        return FaceChoice()
    try:
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) == 1 and text.isdigit():
            return FaceChoice(index=int(text))
        if (
            len(numbers) in (2, 3)
            and all(math.isfinite(n) and n >= 0 for n in numbers)
            and (len(numbers) == 2 or numbers[2] > 0)
        ):
            return FaceChoice(point=(numbers[0], numbers[1]), width_px=numbers[2] if len(numbers) == 3 else None)
    except ValueError:
        pass
    raise UsageError(
        f"--face {choice}: not a choice of face.",
        code="bad_face_choice",
        hint="Give largest, an index (0 is the largest face), or x,y or x,y,width in pixels of the picture.",
    )


def check_image(image: object) -> np.ndarray:
    """Check that an image is uint8 (H, W, 3), and return it; raise UsageError otherwise."""
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or 0 in image.shape
    ):
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(
            f"image: got {got}, need RGB uint8 (H, W, 3).",
            code="bad_image",
            hint="Read it with mouthpiece.engine.media.images.read_image.",
        )
    return image


def confirm_face(
    image: np.ndarray, face: Face, source: str = "mtcnn", size_px: int = 112, border: float = 0.6
) -> Face | None:
    """Confirm a face by a detector in an upright crop of a typical size: the face, or None when there is none.

    image: uint8 (H, W, 3) RGB.  face: where it should be.  source: "mtcnn" or "mediapipe".
    size_px: side of the aligned crop.  border: around it, in units of its side.
    """
    crop = make_crop(face.points, size_px).with_border(border)
    part, view = crop.to_local(image)
    find = find_faces_mtcnn if source == "mtcnn" else find_faces_mediapipe
    seen = [f.transform(crop.frame_from_crop) for f in find(view.extract(part)) if f.score >= MIN_FACE_SCORE]
    seen = [f for f in seen if is_same_face(f, face)]
    return min(seen, key=lambda f: np.hypot(*(f.points - face.points).T).sum(), default=None)


def _scan_picture(image: np.ndarray) -> tuple[list[Face], float]:
    """Scan a still picture: (faces of MIN_FACE_SCORE or more, largest first; best score of all detections)."""
    small = _shrink_image(image, LONG_SIDE_PX)
    faces, best = _detect_with_both(small, MIN_FACE_SCORE)
    if not faces and min(small.shape[:2]) >= MIN_FACE_PX:  # a face that fills the picture
        pad = max(small.shape[:2]) // 3
        faces, better = _detect_with_both(
            cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_REPLICATE), MIN_FACE_SCORE
        )
        faces, best = [f.transform(np.array([[1, 0, -pad], [0, 1, -pad]], float)) for f in faces], max(best, better)
    faces = faces if small is image else [f.transform(_make_upscale_matrix(image, small)) for f in faces]
    return sorted(faces, key=lambda f: -f.area_px), best


def _detect_with_both(image: np.ndarray, min_score: float) -> tuple[list[Face], float]:
    """Detect with both detectors in one picture of a typical size: (faces, best score of all detections)."""
    faces = find_faces_mtcnn(image)
    best = max((f.score for f in faces), default=0.0)
    faces = [confirm_face(image, f) or f if abs(f.roll_deg) > TILTED_DEG else f for f in faces if f.score >= min_score]
    if best < CONFIDENT_SCORE and min(image.shape[:2]) >= MIN_FACE_PX:
        second = find_faces_mediapipe(image, 0.05)
        best = max([best] + [f.score for f in second])
        second = [confirm_face(image, f) or f for f in second if f.score >= min_score]
        if max((f.score for f in faces + second), default=0.0) < CONFIDENT_SCORE:
            second += _find_rotated_faces(image)
        for face in second:
            known = [f for f in faces if is_same_face(f, face)]
            if face.score > max(
                (f.score for f in known), default=0.0
            ):  # also a face upside down that MTCNN saw upright
                faces = [f for f in faces if f not in known] + [face]
    return faces, best


def _find_rotated_faces(image: np.ndarray) -> list[Face]:
    """Find faces of which MTCNN is confident in the picture, shrunk, turned by a quarter, a half or three quarters."""
    large, image = image, _shrink_image(image, ROTATED_SIDE_PX)
    large_from_small = _make_upscale_matrix(large, image)
    h, w = image.shape[:2]
    back = {1: [[0, -1, w - 1], [1, 0, 0]], 2: [[-1, 0, w - 1], [0, -1, h - 1]], 3: [[0, 1, 0], [-1, 0, h - 1]]}
    return [
        f.transform(np.array(matrix, float)).transform(large_from_small)
        for k, matrix in back.items()
        for f in find_faces_mtcnn(np.ascontiguousarray(np.rot90(image, k)))
        if f.score >= CONFIDENT_SCORE
    ]


def find_faces(image: np.ndarray) -> list[Face]:
    """Find the faces of a still picture, largest first; empty when neither detector is confident.

    image: uint8 (H, W, 3) RGB, any size.
    MTCNN first, then MediaPipe where MTCNN is not confident, then both on the padded picture.
    Raises UsageError when the array is not such an image.
    """
    return _scan_picture(check_image(image))[0]


def find_faces_fast(image: np.ndarray, long_side_px: int = 960) -> list[Face]:
    """Find faces in a frame of a video, largest first: MTCNN on the shrunk frame, MediaPipe where it finds none.

    image: uint8 (H, W, 3) RGB.
    """
    small = _shrink_image(image, long_side_px)
    faces = [f for f in find_faces_mtcnn(small) if f.score >= MIN_FACE_SCORE] or find_faces_mediapipe(small)
    return faces if small is image else [f.transform(_make_upscale_matrix(image, small)) for f in faces]


def _shrink_image(image: np.ndarray, long_side_px: int) -> np.ndarray:
    """Shrink an image to a long side; return it as it is when that is short enough."""
    scale = min(1.0, long_side_px / max(image.shape[:2]))
    return image if scale == 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _make_upscale_matrix(large: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Make the matrix (2, 3) large_from_small of two sizes of one picture."""
    sx, sy = large.shape[1] / small.shape[1], large.shape[0] / small.shape[0]
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2]])


def choose_face(
    faces: list[Face],
    choice: str | FaceChoice,
    name: str,
    image: np.ndarray | None = None,
    best_score: float | None = None,
) -> Face:
    """Choose the face that --face asks for.

    faces: from `find_faces`.  choice: `largest`, `INDEX`, `x,y[,width]` or a FaceChoice.
    name: what to call the picture in error messages.
    image: uint8 (H, W, 3) RGB; with it a face can be placed by hand.
    best_score: highest score of all detections, for the error.
    Raises InvalidInputError when there is no such face or it is a profile; UsageError for a bad choice.
    """
    choice = parse_face_choice(choice)
    if choice.point is not None:
        return _choose_face_at_point(faces, choice, name, image)
    if not faces:
        best = min(best_score or 0.0, MIN_FACE_SCORE - 0.01)  # a face that did reach it would be in the list
        raise InvalidInputError(
            f"{name}: no face found (best score {best:.2f}, need {MIN_FACE_SCORE:.2f}).", hint=FACE_HINT, code="no_face"
        )
    if choice.index is not None and choice.index >= len(faces):
        known = ", ".join(f"{i} at {f.centre[0]:.0f},{f.centre[1]:.0f}" for i, f in enumerate(faces))
        raise InvalidInputError(
            f"{name}: face {choice.index} asked for, {len(faces)} found ({known}).",
            code="no_such_face",
            hint=f"Give --face 0 to {len(faces) - 1}, largest, or x,y.",
        )
    face = faces[choice.index or 0]
    if abs(face.rough_yaw_deg) >= EXTREME_DEG:
        raise InvalidInputError(
            f"{name}: the face is turned about {abs(face.rough_yaw_deg):.0f} degrees away, "
            f"accepted are {EXTREME_DEG:.0f}.",
            code="profile",
            hint="Give a more frontal picture, choose another face with --face INDEX, or insist with --face x,y.",
        )
    return face


def pick_face(image: np.ndarray, choice: str | FaceChoice = "largest", name: str = "image") -> Face:
    """Pick the face of a still picture that --face asks for: `find_faces` and `choose_face` in one step."""
    faces, best_score = _scan_picture(check_image(image))
    return choose_face(faces, choice, name, image, best_score)


def _choose_face_at_point(faces: list[Face], choice: FaceChoice, name: str, image: np.ndarray | None) -> Face:
    """Choose the face at a point, searched for more closely, or made there."""
    point = np.array(choice.point)
    if image is not None and not (point < check_image(image).shape[1::-1]).all():
        h, w = image.shape[:2]
        raise UsageError(
            f"{name}: --face {point[0]:g},{point[1]:g} lies outside the picture ({w} x {h} px).",
            code="face_outside",
            hint=f"Give x below {w} and y below {h}.",
        )
    here = [f for f in faces if f.contains(point) and _matches_width(f, choice.width_px)]
    if here:
        return min(here, key=lambda f: np.hypot(*(f.centre - point)))
    if image is None:
        raise InvalidInputError(f"{name}: no face found at {point[0]:g},{point[1]:g}.", code="no_face", hint=FACE_HINT)
    return _search_around_point(image, point, choice.width_px) or make_face_at_point(
        image.shape, point, choice.width_px
    )


def _matches_width(face: Face, width_px: float | None) -> bool:
    """Return whether a face is about as wide as asked for."""
    return width_px is None or 0.5 < (face.box_xyxy[2] - face.box_xyxy[0]) / width_px < 2


def _search_around_point(image: np.ndarray, point: np.ndarray, width_px: float | None) -> Face | None:
    """Search a face around the point in enlarged cut-outs, where a weak score is enough; None when there is none."""
    short = min(image.shape[:2])
    sides = [2.5 * width_px] if width_px is not None else [short, short / 2, short / 4]
    for side in (s for s in sides if s >= 32):
        view_from_frame = np.array(
            [[512 / side, 0, 256 - point[0] * 512 / side], [0, 512 / side, 256 - point[1] * 512 / side]]
        )
        frame_from_view = cv2.invertAffineTransform(view_from_frame)
        view = cv2.warpAffine(image, view_from_frame, (512, 512), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        faces = [f.transform(frame_from_view) for f in _detect_with_both(view, MIN_POINTED_SCORE)[0]]
        faces = [f for f in faces if f.contains(point) and _matches_width(f, width_px)]
        if faces:
            return min(faces, key=lambda f: np.hypot(*(f.centre - point)))
    return None


def make_face_at_point(
    shape: tuple[int, ...], point: np.ndarray | tuple[int, int], width_px: float | None = None
) -> Face:
    """Choose the face at a point, searched for more closely, or made there."""
    """Make a frontal, upright face at a point.

    shape: of the picture.  point: (2,) x, y between eyes and mouth.
    width_px: width of the face; when None 0.4 of the picture's short side, less where the border is near.
    """
    point = np.asarray(point, float)
    if width_px is None:
        room = min(*point, *(np.array(shape[1::-1]) - point))
        width_px = max(min(0.4 * min(shape[:2]), 2 * room), min(16.0, *shape[:2]))
    eye_px = 0.46 * width_px
    unit = eye_px / (TEMPLATE[1, 0] - TEMPLATE[0, 0])
    middle = (TEMPLATE[:2].mean(0) + TEMPLATE[2]) / 2
    eyes, mouth = (TEMPLATE[:2] - middle) * unit, (TEMPLATE[2] - middle) * unit
    points = point + np.array([eyes[0], eyes[1], mouth - [0.42 * eye_px, 0], mouth + [0.42 * eye_px, 0]])
    half = np.array([width_px, 1.27 * width_px]) / 2
    return Face(np.r_[point - half, point + half], points, 0.0, "hand")

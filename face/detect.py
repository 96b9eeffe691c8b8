"""Faces in a picture: MTCNN first, MediaPipe as a second opinion, the user's finger last."""

import math
from typing import NamedTuple

import cv2
import numpy as np

from engine.errors import Refused, UsageProblem
from face.crop import TEMPLATE, crop_of
from face.detectors import MIN_SIDE_PX, NEEDED_SCORE, Face, find_faces_mediapipe, find_faces_mtcnn, overlap

SURE_SCORE = 0.95  # MTCNN below this asks MediaPipe too
TRUSTED_SCORE = 0.3  # enough where the user has pointed at the face
TILTED_DEG = 20.0  # MTCNN's points are read again upright from here
EXTREME_DEG = 65.0  # a profile is refused from here, unless placed by hand
LONG_SIDE_PX = 1280  # larger pictures are shrunk to this for detection
TURNED_SIDE_PX = 640  # and to this for faces that lie on their side or head down
HINT = (
    "Give a frontal picture, or choose the place with --face x,y "
    "(the point between eyes and mouth; --face x,y,width sets the size too)."
)


class Choice(NamedTuple):
    """What --face asks for: the largest face when all are None."""

    index: int | None = None
    point: tuple[float, float] | None = None
    width_px: float | None = None


def parse_choice(choice):
    """`largest`, `INDEX` (0 is the largest) or `x,y[,width]` as a `Choice`.

    choice: text, or a Choice, which passes.
    Raises UsageProblem for anything else.
    Source: ours.
    """
    if isinstance(choice, Choice):
        return choice
    text = str(choice).strip().lower()
    if text == "largest":
        return Choice()
    try:
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) == 1 and text.isdigit():
            return Choice(index=int(text))
        if (
            len(numbers) in (2, 3)
            and all(math.isfinite(n) and n >= 0 for n in numbers)
            and (len(numbers) == 2 or numbers[2] > 0)
        ):
            return Choice(point=tuple(numbers[:2]), width_px=numbers[2] if len(numbers) == 3 else None)
    except ValueError:
        pass
    raise UsageProblem(
        f"--face {choice}: not a choice of face.",
        code="bad_face_choice",
        hint="Give largest, an index (0 is the largest face), or x,y or x,y,width in pixels of the picture.",
    )


def check_image(image):
    """The image itself when it is uint8 (H, W, 3); UsageProblem otherwise. Source: ours."""
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or 0 in image.shape
    ):
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageProblem(
            f"image: got {got}, need RGB uint8 (H, W, 3).",
            code="bad_image",
            hint="Read it with engine.media.read_image.",
        )
    return image


def confirm(image, face, source="mtcnn", size_px=112, wide=0.6):
    """The face as a detector sees it upright, at a usual size, in one small view; None when it sees none there.

    image: uint8 (H, W, 3) RGB.  face: where to look.  source: "mtcnn" or "mediapipe".
    size_px: side of the aligned crop.  wide: border around it, in units of its side.
    Source: ours.
    """
    crop = crop_of(face.points, size_px).widened(wide)
    part, view = crop.near(image)
    find = find_faces_mtcnn if source == "mtcnn" else find_faces_mediapipe
    seen = [f.moved(crop.frame_from_crop) for f in find(view.take(part)) if f.score >= NEEDED_SCORE]
    seen = [f for f in seen if overlap(f, face)]
    return min(seen, key=lambda f: np.hypot(*(f.points - face.points).T).sum(), default=None)


def _scan(image):
    """(faces, best score met); only the faces that reach NEEDED_SCORE, largest first."""
    small = _shrunk(image, LONG_SIDE_PX)
    faces, best = _both(small, NEEDED_SCORE)
    if not faces and min(small.shape[:2]) >= MIN_SIDE_PX:  # a face that fills the picture
        pad = max(small.shape[:2]) // 3
        faces, better = _both(cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_REPLICATE), NEEDED_SCORE)
        faces, best = [f.moved(np.array([[1, 0, -pad], [0, 1, -pad]], float)) for f in faces], max(best, better)
    faces = faces if small is image else [f.moved(_large_from_small(image, small)) for f in faces]
    return sorted(faces, key=lambda f: -f.area_px), best


def _both(image, min_score):
    """(faces of either detector, best score met) in one picture of a usual size."""
    faces = find_faces_mtcnn(image)
    best = max((f.score for f in faces), default=0.0)
    faces = [confirm(image, f) or f if abs(f.roll_deg) > TILTED_DEG else f for f in faces if f.score >= min_score]
    if best < SURE_SCORE and min(image.shape[:2]) >= MIN_SIDE_PX:
        second = find_faces_mediapipe(image, 0.05)
        best = max([best] + [f.score for f in second])
        second = [confirm(image, f) or f for f in second if f.score >= min_score]
        if max((f.score for f in faces + second), default=0.0) < SURE_SCORE:
            second += _find_turned(image)
        for face in second:
            known = [f for f in faces if overlap(f, face)]
            if face.score > max(
                (f.score for f in known), default=0.0
            ):  # also a face upside down that MTCNN saw upright
                faces = [f for f in faces if f not in known] + [face]
    return faces, best


def _find_turned(image):
    """Faces that MTCNN is sure of when the picture, shrunk, is turned by a quarter, a half or three quarters."""
    large, image = image, _shrunk(image, TURNED_SIDE_PX)
    large_from_small = _large_from_small(large, image)
    h, w = image.shape[:2]
    back = {1: [[0, -1, w - 1], [1, 0, 0]], 2: [[-1, 0, w - 1], [0, -1, h - 1]], 3: [[0, 1, 0], [-1, 0, h - 1]]}
    return [
        f.moved(np.array(matrix, float)).moved(large_from_small)
        for k, matrix in back.items()
        for f in find_faces_mtcnn(np.ascontiguousarray(np.rot90(image, k)))
        if f.score >= SURE_SCORE
    ]


def find_faces(image):
    """Faces in a still picture, largest first; empty when neither detector is sure.

    image: uint8 (H, W, 3) RGB, any size.
    Raises UsageProblem when the array is not such an image.
    Source: ours; MTCNN, then MediaPipe where MTCNN is not sure, then both on the padded picture.
    """
    return _scan(check_image(image))[0]


def find_faces_quick(image, long_side_px=960):
    """Faces in a frame of a video, largest first: MTCNN on the shrunk frame, MediaPipe where it finds none.

    image: uint8 (H, W, 3) RGB.
    Source: ours.
    """
    small = _shrunk(image, long_side_px)
    faces = [f for f in find_faces_mtcnn(small) if f.score >= NEEDED_SCORE] or find_faces_mediapipe(small)
    return faces if small is image else [f.moved(_large_from_small(image, small)) for f in faces]


def _shrunk(image, long_side_px):
    """The image itself, or a smaller copy with that long side."""
    scale = min(1.0, long_side_px / max(image.shape[:2]))
    return image if scale == 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _large_from_small(large, small):
    sx, sy = large.shape[1] / small.shape[1], large.shape[0] / small.shape[0]
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2]])


def choose_face(faces, choice, name, image=None, best_score=None):
    """The face that --face asks for.

    faces: what `find_faces` gave.  choice: `largest`, `INDEX`, `x,y[,width]` or a Choice.
    name: what to call the picture in a sentence.
    image: uint8 (H, W, 3) RGB; with it a face can be placed by hand.
    best_score: highest score met, for the refusal.
    Raises Refused when there is no such face or it is seen from the side only; UsageProblem for a bad choice.
    Source: ours.
    """
    choice = parse_choice(choice)
    if choice.point is not None:
        return _face_at_point(faces, choice, name, image)
    if not faces:
        best = min(best_score or 0.0, NEEDED_SCORE - 0.01)  # a face that did reach it would be in the list
        raise Refused(
            f"{name}: no face found (best score {best:.2f}, need {NEEDED_SCORE:.2f}).", hint=HINT, code="no_face"
        )
    if choice.index is not None and choice.index >= len(faces):
        known = ", ".join(f"{i} at {f.centre[0]:.0f},{f.centre[1]:.0f}" for i, f in enumerate(faces))
        raise Refused(
            f"{name}: face {choice.index} asked for, {len(faces)} found ({known}).",
            code="no_such_face",
            hint=f"Give --face 0 to {len(faces) - 1}, largest, or x,y.",
        )
    face = faces[choice.index or 0]
    if abs(face.yaw_hint) >= EXTREME_DEG:
        raise Refused(
            f"{name}: the face is turned about {abs(face.yaw_hint):.0f} degrees away, accepted are {EXTREME_DEG:.0f}.",
            code="profile",
            hint="Give a more frontal picture, choose another face with --face INDEX, or insist with --face x,y.",
        )
    return face


def pick_face(image, choice="largest", name="image"):
    """The face of a still picture that --face asks for: `find_faces` and `choose_face` in one step.

    Source: ours.
    """
    faces, best_score = _scan(check_image(image))
    return choose_face(faces, choice, name, image, best_score)


def _face_at_point(faces, choice, name, image):
    point = np.array(choice.point)
    if image is not None and not (point < check_image(image).shape[1::-1]).all():
        h, w = image.shape[:2]
        raise UsageProblem(
            f"{name}: --face {point[0]:g},{point[1]:g} lies outside the picture ({w} x {h} px).",
            code="face_outside",
            hint=f"Give x below {w} and y below {h}.",
        )
    here = [f for f in faces if f.contains(point) and _fits(f, choice.width_px)]
    if here:
        return min(here, key=lambda f: np.hypot(*(f.centre - point)))
    if image is None:
        raise Refused(f"{name}: no face found at {point[0]:g},{point[1]:g}.", code="no_face", hint=HINT)
    return _look_closer(image, point, choice.width_px) or hand_face(image.shape, point, choice.width_px)


def _fits(face, width_px):
    return width_px is None or 0.5 < (face.box_xyxy[2] - face.box_xyxy[0]) / width_px < 2


def _look_closer(image, point, width_px):
    """A face around the point in enlarged cut-outs, a weak score being enough; None when there is none."""
    short = min(image.shape[:2])
    sides = [2.5 * width_px] if width_px is not None else [short, short / 2, short / 4]
    for side in (s for s in sides if s >= 32):
        view_from_frame = np.array(
            [[512 / side, 0, 256 - point[0] * 512 / side], [0, 512 / side, 256 - point[1] * 512 / side]]
        )
        frame_from_view = cv2.invertAffineTransform(view_from_frame)
        view = cv2.warpAffine(image, view_from_frame, (512, 512), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        faces = [f.moved(frame_from_view) for f in _both(view, TRUSTED_SCORE)[0]]
        faces = [f for f in faces if f.contains(point) and _fits(f, width_px)]
        if faces:
            return min(faces, key=lambda f: np.hypot(*(f.centre - point)))
    return None


def hand_face(shape, point, width_px=None):
    """A frontal, upright face standing where the user points.

    shape: of the picture.  point: (2,) x, y between eyes and mouth.
    width_px: width of the face; when None 0.4 of the picture's short side, less where the border is near.
    Source: ours; the crop template, at the usual ratio of face width to eye distance.
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

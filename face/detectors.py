"""Detect faces by one detector, MTCNN or MediaPipe, with points in the same places."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.face.crop import transform_points

if TYPE_CHECKING:
    from mediapipe.framework.formats.detection_pb2 import Detection

MIN_FACE_SCORE = 0.6  # a detection below this is not a face
MIN_FACE_PX = 20  # side of MTCNN's smallest face
NOSE_DEPTH = 0.5  # nose tip before the eyes, in distances between the eyes
# MediaPipe's key points against MTCNN's on frontal portraits, in distances between the eyes
MEDIAPIPE_EYES_UP = 0.03  # its eyes lie lower by this
MEDIAPIPE_EYES_WIDE = 0.96  # MTCNN's distance between the eyes over its own
MEDIAPIPE_MOUTH_UP = 0.127  # its mouth lies lower by this
MOUTH_HALF_WIDTH = 0.45  # from the middle of the mouth to a corner


@dataclass(frozen=True, eq=False)
class Face:
    """One face found in a picture, in frame pixels.

    box_xyxy: (4,) left, top, right, bottom.
    points: (4, 2) eye on the picture's left, on its right, mouth corner left, right (of the upright face).
    score: detector confidence in [0, 1].  source: "mtcnn", "mediapipe" or "hand".
    nose: (2,) tip of the nose, or None.
    """

    box_xyxy: np.ndarray
    points: np.ndarray
    score: float
    source: str
    nose: np.ndarray | None = None

    @property
    def area_px(self) -> float:
        """Return the area of the box in pixels."""
        x0, y0, x1, y1 = self.box_xyxy
        return float(max(0, x1 - x0) * max(0, y1 - y0))

    @property
    def centre(self) -> np.ndarray:
        """Return the centre of the box, (2,)."""
        return (self.box_xyxy[:2] + self.box_xyxy[2:]) / 2

    @property
    def rough_yaw_deg(self) -> float:
        """Estimate the yaw of the head in degrees, positive to the right of the upright picture; 0 when unknown.

        The nose tip leaves the middle line by so much at a typical nose depth.
        """
        if self.nose is None:
            return 0.0
        across = self.points[1] - self.points[0]
        down = self.points[2:].mean(0) - self.points[:2].mean(0)
        axis = np.array([down[1], -down[0]]) / max(np.hypot(*down), 1e-6)
        offset = (self.nose - self.points[:2].mean(0)) @ axis
        return math.degrees(math.atan2(offset, NOSE_DEPTH * max(across @ axis, 1e-6)))

    @property
    def roll_deg(self) -> float:
        """Return the tilt of the eye line in degrees, positive clockwise."""
        return math.degrees(math.atan2(*(self.points[1] - self.points[0])[::-1]))

    def contains(self, point: np.ndarray) -> bool:
        """Return whether a point (2,) lies in the box."""
        return bool((self.box_xyxy[:2] <= point).all() and (point <= self.box_xyxy[2:]).all())

    def transform(self, matrix: np.ndarray) -> Face:
        """Transform the face to another picture by a similarity (2, 3) other_from_this."""
        x0, y0, x1, y1 = self.box_xyxy
        corners = transform_points(matrix, np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], float))
        nose = None if self.nose is None else transform_points(matrix, self.nose[None])[0]
        return replace(
            self,
            box_xyxy=np.r_[corners.min(0), corners.max(0)],
            points=transform_points(matrix, self.points),
            nose=nose,
        )


def find_faces_mtcnn(image: np.ndarray) -> list[Face]:
    """Find faces with MTCNN, largest first. image: (H, W, 3) uint8 RGB.

    Raises MissingDependencyError when facenet-pytorch, which carries the weights, is not installed.
    Source: Zhang et al. 2016, 1604.02878.
    """
    if min(image.shape[:2]) < MIN_FACE_PX:
        return []
    from mouthpiece.face.mtcnn import load_mtcnn  # brings torch with it

    detections = load_mtcnn().detect(image, MIN_FACE_PX)
    faces = [
        Face(box, points[[0, 1, 3, 4]], float(score), "mtcnn", points[2])
        for box, score, points in zip(detections.boxes, detections.scores, detections.points, strict=True)
    ]
    return sorted(faces, key=lambda face: -face.area_px)


def find_faces_mediapipe(image: np.ndarray, min_score: float = MIN_FACE_SCORE) -> list[Face]:
    """Find faces with MediaPipe's short- and full-range detectors, largest first, with points where MTCNN has them.

    image: uint8 (H, W, 3) RGB.  min_score: lowest confidence returned, [0, 1].
    Source: Bazarevsky et al. 2019 (BlazeFace), through MediaPipe.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    from mediapipe.python.solutions.face_detection import FaceDetection

    from mouthpiece.engine.weights.records import record_packaged_model

    record_packaged_model(
        "mediapipe",
        [f"modules/face_detection/face_detection_{kind}.tflite" for kind in ("short_range", "full_range_sparse")],
    )
    found: list[Face] = []
    for model in (0, 1):
        with FaceDetection(model_selection=model, min_detection_confidence=max(min_score, 0.05)) as detector:
            for detection in detector.process(image).detections or []:
                face = _convert_detection(detection, image.shape)
                if face.score >= min_score and not any(is_same_face(face, other) for other in found):
                    found.append(face)
    return sorted(found, key=lambda f: -f.area_px)


def _convert_detection(detection: Detection, shape: tuple[int, ...]) -> Face:
    """Convert a detection of MediaPipe's in a picture of a shape (H, W, 3)."""
    h, w = shape[:2]
    location = detection.location_data
    box = location.relative_bounding_box
    left, right, nose, mouth = (np.array([k.x * w, k.y * h]) for k in list(location.relative_keypoints)[:4])
    across = right - left
    up = np.array([across[1], -across[0]])
    if up @ (mouth - (left + right) / 2) > 0:  # mirrored order in an odd detection: keep "up" away from the mouth
        up = -up
    middle = (left + right) / 2 + MEDIAPIPE_EYES_UP * up
    mouth = mouth + MEDIAPIPE_MOUTH_UP * up
    points = np.array(
        [
            middle - across / 2 * MEDIAPIPE_EYES_WIDE,
            middle + across / 2 * MEDIAPIPE_EYES_WIDE,
            mouth - across * MOUTH_HALF_WIDTH,
            mouth + across * MOUTH_HALF_WIDTH,
        ]
    )
    box = np.array([box.xmin * w, box.ymin * h, (box.xmin + box.width) * w, (box.ymin + box.height) * h])
    return Face(box, points, float(detection.score[0]), "mediapipe", nose)


def is_same_face(a: Face, b: Face) -> bool:
    """Return whether two detections are one face: either centre lies in the other's box."""
    return a.contains(b.centre) or b.contains(a.centre)

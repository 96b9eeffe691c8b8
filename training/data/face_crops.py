"""Crop talking clips and portraits with the mesh that teaches; landmarks exist here, never at inference."""

from __future__ import annotations

import multiprocessing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.media.images import read_image
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.engine.timeline import MOTION_HZ
from mouthpiece.face.crop import make_crop
from mouthpiece.face.detect import find_faces_mtcnn
from mouthpiece.training.data.manifest import COMMON_SPEAKER, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from mouthpiece.engine.types import Frame
    from mouthpiece.face.crop import Crop

CLIP_PX, PORTRAIT_PX = 144, 320
DETECT_EVERY_FRAMES = 15  # frames


def _open_face_mesh(video: bool) -> Any:
    import mediapipe as mp

    sure = dict(max_num_faces=1, min_detection_confidence=0.3)
    return mp.solutions.face_mesh.FaceMesh(static_image_mode=not video, refine_landmarks=True, **sure)


def _find_landmarks(mesh: Any, frame: np.ndarray, crop: Crop) -> np.ndarray | None:
    """Return (478, 3) landmarks in the unit square of a crop (z in the same unit), or None."""
    found = mesh.process(np.ascontiguousarray(frame)).multi_face_landmarks
    if not found:
        return None
    h, w = frame.shape[:2]
    p = np.array([[q.x * w, q.y * h, q.z * w] for q in found[0].landmark])
    m = crop.crop_from_frame
    scale = np.hypot(*m[:, 0])
    return np.c_[((p[:, :2] - 0.5) @ m[:, :2].T + m[:, 2] + 0.5) / crop.size_px, p[:, 2] * scale / crop.size_px]


def _pad_frame(frame: np.ndarray) -> np.ndarray:
    """Return the frame with room around it, so that faces at the border are found."""
    return cv2.copyMakeBorder(frame, *(frame.shape[0] // 8,) * 4, cv2.BORDER_REPLICATE)


def resample_to_clock(frames: Iterable[Frame], rate_hz: Fraction = MOTION_HZ) -> Iterator[np.ndarray]:
    """Return pixels of the frame that is on screen at each tick of the clock, whatever the rate of the video.

    frames: Frames in order of time.  rate_hz: of the clock.
    Stamps may be a millisecond off and still count for their tick.
    """
    shown, tick = None, 0
    for frame in frames:
        while shown is not None and tick / rate_hz < frame.time - Fraction(1, 1000):
            yield shown
            tick += 1
        shown, time = frame.pixels, frame.time
    if shown is not None and tick / rate_hz <= time + Fraction(1, 1000):
        yield shown


def crop_clip(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (frames uint8 (N, 144, 144, 3), marks float16 (N, 478, 3)) of a talking clip at 25 Hz, or None without a
    face.

    path: a video of one person; the alignment is the median over the clip.
    """
    with VideoReader(path) as reader:
        frames = list(resample_to_clock(reader))
    seen = [faces[0].points for faces in map(find_faces_mtcnn, frames[::DETECT_EVERY_FRAMES]) if faces]
    if len(seen) < 2:
        return None
    crop = make_crop(np.median(seen, 0), CLIP_PX)
    marks, last = [], None
    with _open_face_mesh(True) as mesh:
        for frame in frames:
            last = found if (found := _find_landmarks(mesh, frame, crop)) is not None else last
            marks.append(last if last is not None else np.full((478, 3), np.nan))
    return np.stack([crop.extract(f) for f in frames]), np.array(marks, np.float16)


def crop_portrait(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (crop uint8 (320, 320, 3), marks float16 (478, 3)) of a portrait, or None without a face."""
    image = _pad_frame(read_image(path).pixels)
    faces = find_faces_mtcnn(image)
    if not faces:
        return None
    crop = make_crop(faces[0].points, PORTRAIT_PX)
    with _open_face_mesh(False) as mesh:
        marks = _find_landmarks(mesh, image, crop)
    return None if marks is None else (crop.extract(image), marks.astype(np.float16))


def _crop_part(job: tuple) -> int:
    data, out, rows = job
    import torch

    torch.set_num_threads(1)
    for row in rows:
        target = Path(out) / "crops" / f"{row['kind']}__{row.get('speaker') or ''}__{Path(row['path']).stem}.npz"
        if target.exists():
            continue
        made = (crop_portrait if row["kind"] == "portrait" else crop_clip)(Path(data) / row["path"])
        if made is not None:
            with atomic_write(target) as part:
                np.savez(part, frames=made[0], marks=made[1])
    return len(rows)


def write_crops(data: Path, out: Path, workers: int = 2, progress: Callable[..., Any] | None = None) -> int:
    """Write OUT/crops/KIND__SPEAKER__NAME.npz for every talking clip and portrait; resumes. Returns the number of files
    there.

    data: folder with manifest.jsonl.  out: working folder.  workers: processes.  progress: called with (done, all).
    Portraits first, the speaker there is most of last.
    """
    rows = read_rows(data, ("portrait", "talk", "talk-eval"))
    (Path(out) / "crops").mkdir(parents=True, exist_ok=True)
    rows.sort(key=lambda r: (r["kind"] != "portrait", r.get("speaker") == COMMON_SPEAKER))
    done = 0
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for n in pool.imap_unordered(_crop_part, [(data, out, rows[i::40]) for i in range(40)]):
            done += n
            if progress:
                progress(done, len(rows))
    return len(list((Path(out) / "crops").glob("[!.]*__*.npz")))

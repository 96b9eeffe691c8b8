"""Puppets: portraits animated by the face mesh of talking clips, training pairs whose optical flow is known."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from mouthpiece.engine.files import atomic_write
from mouthpiece.lipsync.portrait.lip_line import LipLine
from mouthpiece.lipsync.portrait.mouth_patch import FLOW_PX, MOUTH_PATCH
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX as IMAGE_PX
from mouthpiece.lipsync.portrait.mouth_shading import alpha_composite
from mouthpiece.lipsync.portrait.teeth import measure_cheek_colour
from mouthpiece.training.data.manifest import is_common_speaker
from mouthpiece.training.data.mesh_warp import (
    BORDER_POINTS,
    map_to_source,
    rasterize,
    sample_image,
    triangulate_face,
)
from mouthpiece.training.mesh_geometry import (
    INNER_LIP_RING,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LID_POINTS,
    LOWER_LIP_EDGE,
    POINT_COUNT,
    UPPER_LIP_EDGE,
    close_lips,
    compute_lid_motion,
    extract_motion,
    get_lip_gap,
    measure_mesh_opening,
)
from mouthpiece.training.motion_space import load_mesh_points, split_crop_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

DRAW_PX = 256
MOTION_GAIN_RANGE = (0.7, 1.7)  # of the actor's displacement
TYPICAL_SKIN_LEVEL = 155.0  # mean of the cheeks' colours of usual portraits
# how dark, and how wide in units of the crop, the line is along which lips meet that were photographed apart
CONTACT_DARKNESS, CONTACT_WIDTH = 0.45, 0.0036
CONTACT_MAX_GAP, CONTACT_FADE_LENGTH = 0.008, 0.012  # of the crop: gap at which it is gone; its end beside the corners
# opening of a portrait whose lips are apart, whatever the mesh says of shut ones
OPEN_LIPS_GAP = 0.008
# how far the mesh's inner lips lie on the teeth of a smile, of the crop and of the lip's next ring; the gap at which
# they do
MAX_TRIM, MAX_TRIM_SHARE, FULL_TRIM_GAP = 0.003, 0.4, 0.015
CLOSED_LIPS_SHARE = 0.2  # of poses have lips that meet exactly
JOBS = 16  # parts that the portraits are made in
# clips of the speaker there is most of, chosen anew for each part of the portraits
COMMON_SPEAKER_CLIPS = 10


def mask_inner_mouth(ring: np.ndarray, size_px: int) -> np.ndarray:
    """Return the coverage of the inside of the lips, float32 (S, S) in [0, 1], none where they meet; ring (20, 2) in
    the unit
    square.

    In each column the share of a pixel between the lips.
    """
    top, bottom, beside = (size_px * v for v in _measure_lip_heights(ring, size_px))
    y = np.arange(size_px, dtype=np.float32)[:, None]
    cover = np.clip(np.minimum(y + 1, bottom) - np.maximum(y, top), 0, 1)
    return (cover * (beside > 0)).astype(np.float32)


def mask_lip_contact(ring: np.ndarray, size_px: int) -> np.ndarray:
    """Return the dark line along which lips meet, float32 (S, S) in [0, 1], none where they part; ring (20, 2) in the
    unit
    square.
    """
    top, bottom, beside = _measure_lip_heights(ring, size_px)
    y = (np.arange(size_px, dtype=np.float32)[:, None] + 0.5) / size_px
    near = np.clip(1 - (bottom - top) / CONTACT_MAX_GAP, 0, 1) * np.clip(beside / CONTACT_FADE_LENGTH, 0, 1)
    return (np.exp(-(((y - (top + bottom) / 2) / CONTACT_WIDTH) ** 2)) * near).astype(np.float32)


def _split_ring(ring: np.ndarray) -> list[np.ndarray]:
    """Return the upper and lower inner lip (11, 2) of a ring (20, 2), both from left to right."""
    n = len(UPPER_LIP_EDGE)
    return [rim[np.argsort(rim[:, 0])] for rim in (ring[:n], np.r_[ring[:1], ring[: n - 1 : -1], ring[n - 1 : n]])]


def _measure_lip_heights(ring: np.ndarray, size_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the height of the upper and of the lower inner lip in each column (S,), and how far it is from the nearer
    corner,
    unit square; beside the mouth below 0.
    """
    x = (np.arange(size_px) + 0.5) / size_px
    top, bottom = (np.interp(x, *rim.T) for rim in _split_ring(ring))
    return top, bottom, np.minimum(x - ring[: len(UPPER_LIP_EDGE), 0].min(), ring[: len(UPPER_LIP_EDGE), 0].max() - x)


def locate_lip_line(p_shut: np.ndarray) -> LipLine:
    """Return the placement of the teeth behind shut lips (468, 2): where the lips meet."""
    left, right = p_shut[UPPER_LIP_EDGE[0]], p_shut[UPPER_LIP_EDGE[-1]]
    x, y = (p_shut[13] + p_shut[14]) / 2
    return LipLine(float(x), float(y), float(np.arctan2(right[1] - left[1], right[0] - left[0])))


def draw_mouth_cavity(ring: np.ndarray, size_px: int, light: float) -> np.ndarray:
    """Return the inside of a mouth without upper teeth, float32 (S, S, 3): dark, a tongue, lower teeth in the shade
    where it
    is wide open.

    ring: (20, 2) inner lips in the unit square.  light: of the face, 1 for a usual portrait.
    Drawn, as a function of the lips alone, so that it can be learned.
    """
    x = (np.arange(size_px) + 0.5) / size_px
    y = x[:, None]
    (upper, lower), (top, bottom, _) = _split_ring(ring), _measure_lip_heights(ring, size_px)
    middle, half = ring[:, 0].mean(), np.ptp(ring[:, 0]) / 2 + 1e-6
    aside, wide = (x - middle) / half, float(np.max(lower[:, 1] - upper[:, 1]))
    above = bottom - y  # of the lower lip
    out = np.array([44.0, 17.0, 17.0]) * (1 + 0.25 * np.clip((y - top) / max(wide, 1e-3), 0, 1))[..., None]
    tongue = (0.42 * wide + 0.004) * np.sqrt(np.clip(1 - (aside / 0.82) ** 2, 0, 1))
    share = np.clip((tongue - above) / 0.010 + 0.5, 0, 1) * np.clip(wide / 0.03, 0, 1)
    out += (np.array([142.0, 66.0, 64.0]) * (0.62 + 0.38 * np.clip(1 - above / 0.03, 0, 1))[..., None] - out) * (
        0.85 * share
    )[..., None]
    row = 0.014 * np.clip((wide - 0.035) / 0.04, 0, 1) * np.sqrt(np.clip(1 - (aside / 0.66) ** 2, 0, 1))
    share = np.clip((row - above) / 0.004 + 0.5, 0, 1) * (row > 0.001)
    out += (np.array([168.0, 152.0, 138.0]) - out) * (0.7 * share)[..., None]
    return (out * light).astype(np.float32)


@dataclass(frozen=True)
class SourcePortrait:
    """A still face prepared for puppetry.

    image: uint8 (S, S, 3).  points, shut: (468, 2) as it is and with lips shut, unit square.  tris: (T, 3).  light: of
    its face, 1 is usual.
    contact: how dark the line is to be where its lips meet; 0 where they were photographed so, and the line is there.
    """

    image: np.ndarray
    points: np.ndarray
    shut: np.ndarray
    triangles: np.ndarray
    light: float
    contact: float = CONTACT_DARKNESS


@dataclass(frozen=True)
class DrivingClip:
    """A talking clip.

    displacement: (N, 468, 2) from rest.  closed: (N,) eyes.
    """

    displacement: np.ndarray
    eye_closure: np.ndarray

    def __len__(self) -> int:
        return len(self.eye_closure)


def trim_inner_lips(p: np.ndarray) -> np.ndarray:
    """Return a face (468, 2) whose inner lips are drawn a little back where they are apart, from the teeth that the
    mesh
    leaves on their rims.
    """
    q, most = p.copy(), MAX_TRIM * np.clip((get_lip_gap(p)[1:-1, 1] - OPEN_LIPS_GAP) / FULL_TRIM_GAP, 0, 1)
    for rim, next_ring, way in ((UPPER_LIP_EDGE, INNER_UPPER_LIP, -1), (LOWER_LIP_EDGE, INNER_LOWER_LIP, 1)):
        room = np.clip(way * (p[next_ring] - p[rim])[1:-1, 1], 0, None)
        q[rim[1:-1], 1] += way * np.minimum(most, MAX_TRIM_SHARE * room)  # further would fold the lip
    return q


def load_portrait(path: Path) -> SourcePortrait:
    """Return the Portrait of a crop file."""
    d = np.load(path)
    p = trim_inner_lips(d["marks"][:POINT_COUNT, :2].astype(float))
    q = close_lips(p)
    light = np.clip(measure_cheek_colour(d["frames"]).mean() / TYPICAL_SKIN_LEVEL, 0.45, 1.3)
    return SourcePortrait(
        d["frames"],
        p,
        q,
        triangulate_face(q),
        float(light),
        CONTACT_DARKNESS * float(np.clip(measure_mesh_opening(p) / OPEN_LIPS_GAP, 0, 1)),
    )


def load_driving_clip(path: Path) -> DrivingClip | None:
    """Return the Actor of a crop file, or None where a frame lacks its mesh."""
    marks = load_mesh_points(path)
    if not np.isfinite(marks).all():
        return None
    displacement, closed, *_ = extract_motion(marks)
    return DrivingClip(displacement, closed)


def warp_portrait(
    who: SourcePortrait, displacement: np.ndarray, lids: float, teeth: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a portrait with its face moved.

    Returns image uint8 (192, 192, 3); ids int16 (96, 96) and weights float16 (96, 96, 2) of its raster; points (N, 2);
    inner mouth of the patch uint8 (64, 112).
    displacement: (468, 2) from rest.  lids: (0 open … 1 shut) put on the portrait.  teeth: (64, 112, 5) as `add_teeth`
    takes them, or none.
    Piecewise affine warp, the inside of the mouth drawn.
    """
    t = who.shut + displacement
    t[LID_POINTS] = who.points[LID_POINTS] + compute_lid_motion(who.points, lids)[LID_POINTS]
    points = np.r_[t, BORDER_POINTS]
    ids, weights = rasterize(points, who.triangles, DRAW_PX)
    image = sample_image(
        who.image, map_to_source(ids, weights, who.triangles, np.r_[who.points, BORDER_POINTS])
    ).astype(np.float32)
    mask = np.maximum(
        mask_inner_mouth(t[INNER_LIP_RING], DRAW_PX), who.contact * mask_lip_contact(t[INNER_LIP_RING], DRAW_PX)
    )
    if mask.any():
        image += (draw_mouth_cavity(t[INNER_LIP_RING], DRAW_PX, who.light) - image) * cv2.GaussianBlur(
            mask, (0, 0), 0.7
        )[..., None]
    return _make_pose(np.clip(image, 0, 255).astype(np.uint8), points, who.triangles, mask, teeth)


def _make_pose(
    image: np.ndarray, points: np.ndarray, tris: np.ndarray, mask: np.ndarray, teeth: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    image = cv2.resize(image, (IMAGE_PX,) * 2, interpolation=cv2.INTER_AREA)
    top, bottom, left, right = MOUTH_PATCH
    inside = cv2.resize(mask, (IMAGE_PX,) * 2, interpolation=cv2.INTER_AREA)[top:bottom, left:right]
    if teeth is not None:
        image[top:bottom, left:right] = add_teeth(image[top:bottom, left:right], teeth, inside)
    ids, weights = rasterize(points, tris, FLOW_PX)
    return image, ids, weights[..., :2].astype(np.float16), points.astype(np.float32), (inside * 255).astype(np.uint8)


def add_teeth(part: np.ndarray, teeth: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return a mouth patch uint8 (64, 112, 3) with teeth (64, 112, 5) in it; inside (64, 112) in [0, 1]. Source:
    `alpha_composite`.
    """
    colours, laid, mask = (torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (part, teeth, inside))
    out = alpha_composite(colours.permute(2, 0, 1)[None], laid.permute(2, 0, 1)[None], mask[None, None], black=0.0)
    return out[0].permute(1, 2, 0).clamp(0, 255).round().to(torch.uint8).numpy()


def make_original_pose(who: SourcePortrait) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the portrait as one of its own poses, in the format of `warp_portrait`."""
    wide = measure_mesh_opening(who.points) > OPEN_LIPS_GAP
    mask = mask_inner_mouth(who.points[INNER_LIP_RING], DRAW_PX) if wide else np.zeros((DRAW_PX, DRAW_PX), np.float32)
    return _make_pose(
        cv2.resize(who.image, (DRAW_PX,) * 2, interpolation=cv2.INTER_AREA),
        np.r_[who.points, BORDER_POINTS],
        who.triangles,
        mask,
    )


def estimate_teeth_cover(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the cover (64, 112) uint8 of a portrait's own teeth: what is bright between its lips.

    image: (192, 192, 3) uint8.  inside: (64, 112) uint8 of `make_original_pose`.
    Checked by eye on smiling portraits.
    """
    top, bottom, left, right = MOUTH_PATCH
    gray = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2GRAY).astype(np.float32)
    sure = inside > 200
    if sure.sum() < 40:
        return np.zeros_like(inside)
    bright = np.quantile(gray[sure], 0.85)
    share = np.clip((gray / max(bright, 1) - 0.45) / 0.2, 0, 1) * inside
    return cv2.GaussianBlur(share, (0, 0), 0.6).clip(0, 255).astype(np.uint8)


def sample_poses(
    who: SourcePortrait, actors: list[DrivingClip], count: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the count + 1 poses of a portrait, the first itself: stacked outputs of `warp_portrait`, and eyelids
    (count + 1,).

    who: Portrait.  actors: list of Actor.
    Open mouths come oftener than in speech, and so do lips that meet.
    """
    made, lids = [make_original_pose(who)], [0.0]
    while len(made) <= count:
        actor = actors[rng.integers(len(actors))]
        wide = measure_mesh_opening(actor.displacement)
        meet = rng.random() < CLOSED_LIPS_SHARE
        odds = np.ones(len(wide)) if meet else np.clip(wide, 0, None) + 0.02
        displacement = actor.displacement[rng.choice(len(wide), p=odds / odds.sum())] * rng.uniform(*MOTION_GAIN_RANGE)
        if meet:
            displacement = close_lips(who.shut + displacement) - who.shut
        lids.append(float(rng.choice([0.0, rng.uniform(0.3, 1.0), 1.0], p=[0.6, 0.25, 0.15])))
        made.append(warp_portrait(who, displacement, lids[-1]))
    return [np.stack(x) for x in zip(*made)], np.array(lids, np.float32)


def _write_part(job: tuple[Path, list[Path], int, int, list[Path]]) -> int:
    out, paths, part, poses, clips = job
    rng = np.random.default_rng(part)
    strange, common = ([c for c in clips if is_common_speaker(c.name) == which] for which in (False, True))
    picked = rng.choice(len(common), min(COMMON_SPEAKER_CLIPS, len(common)), replace=False)
    chosen = [common[k] for k in picked] + strange
    actors = [a for a in map(load_driving_clip, chosen) if a is not None]
    for path in paths:
        target = Path(out) / "puppets" / path.name
        if not target.exists():
            who = load_portrait(path)
            (images, ids, weights, points, mouths), lids = sample_poses(who, actors, poses, rng)
            with atomic_write(target) as partial:
                np.savez(
                    partial,
                    images=images,
                    ids=ids,
                    weights=weights,
                    points=points,
                    mouths=mouths,
                    lids=lids,
                    teeth=estimate_teeth_cover(images[0], mouths[0]),
                    tris=who.triangles.astype(np.int16),
                    shut=who.shut,
                )
    return len(paths)


def write_puppets(out: Path, poses: int = 16, workers: int = 2, progress: Callable[..., Any] | None = None) -> int:
    """Write OUT/puppets/*.npz: every portrait (also those kept out, for measuring) with its poses; resumes. Returns
    their number.

    out: working folder with crops.  poses: of each portrait beside its own.  workers: processes.
    progress: called with (done, all).
    Raises UsageError when there are no crops.
    """
    parts = split_crop_files(out)
    (Path(out) / "puppets").mkdir(parents=True, exist_ok=True)
    paths = parts["portraits"] + parts["held_portraits"]
    done = 0
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for n in pool.imap_unordered(
            _write_part, [(out, paths[i::JOBS], i, poses, parts["clips"]) for i in range(JOBS)]
        ):
            done += n
            if progress:
                progress(done, len(paths))
    return done

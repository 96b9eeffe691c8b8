"""Still portraits become training pairs: a talking clip's mesh moves a portrait, the inside of its mouth is drawn. Training only."""
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial import Delaunay

from engine.files import replacing
from engine.train.manifest import is_common
from lipsync.patch import FLOW_PX, PATCH
from lipsync.patch import WORK_PX as IMAGE_PX
from lipsync.teeth import Placement, cheeks, laid_over
from lipsync.train.mesh import (
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LIDS,
    LOWER,
    POINTS,
    RING,
    UPPER,
    gap,
    lid_motion,
    motion_of,
    opening,
    shut,
)
from lipsync.train.space import load_marks, split_files

DRAW_PX = 256
STRENGTH = (0.7, 1.7)                  # of the actor's displacement
USUAL_SKIN = 155.0                     # mean of the cheeks' colours of usual portraits
LIPS_APART = 0.02                      # of the crop, while triangles are chosen
CONTACT, CONTACT_WIDE = 0.45, 0.0036   # how dark, and how wide in units of the crop, the line is along which lips meet that were photographed apart
CONTACT_APART, CONTACT_END = 0.008, 0.012   # of the crop: gap at which it is gone; its end beside the corners
SEEN_APART = 0.008                     # opening of a portrait whose lips are apart, whatever the mesh says of shut ones
TRIM, TRIM_ROOM, WIDE_APART = 0.003, 0.4, 0.015   # how far the mesh's inner lips lie on the teeth of a smile, of the crop and of the lip's next ring; the gap at which they do
SHUT_ODDS = 0.2                        # of poses have lips that meet exactly
JOBS = 16                              # parts that the portraits are made in
COMMON_ACTORS = 10                     # clips of the speaker there is most of, chosen anew for each part of the portraits
FRAME = np.array([[x, y] for x in np.linspace(-0.12, 1.12, 7) for y in np.linspace(-0.12, 1.12, 7) if min(x, y) < 0 or max(x, y) > 1])


def triangles(p_shut):
    """Triangles (T, 3) over mesh and frame of a shut face, none inside the mouth and none from one lip to the other.

    For the triangulation everything below the line of the lips is lowered a little, most in the middle of the mouth.
    Source: Delaunay 1934; ours.
    """
    q = np.r_[p_shut, FRAME].copy()
    order = np.argsort(p_shut[UPPER, 0])
    x, y = p_shut[UPPER, 0][order], p_shut[UPPER, 1][order]
    across = np.clip((q[:, 0] - x[0]) / (x[-1] - x[0]), 0, 1)
    below = q[:, 1] > np.interp(q[:, 0], x, y) + 1e-9
    below[UPPER], below[LOWER[1:-1]], below[len(p_shut):] = False, True, False
    q[:, 1] += np.where(below, LIPS_APART * np.minimum(1, 6 * across * (1 - across)), 0)
    return np.array([t for t in Delaunay(q).simplices if not set(t) <= set(RING)])


def raster(points, tris, size_px):
    """Which triangle covers each pixel, and where in it: ids int16 (S, S), -1 for none; weights float32 (S, S, 3).

    points: (N, 2) unit square.  tris: (T, 3).
    Source: barycentric coordinates of pixel centres; a little beyond the triangle where rounding put a pixel there.
    """
    ids = np.full((size_px, size_px), -1, np.int32)
    corners = points[tris]
    for k, c in enumerate(np.round((corners * size_px - 0.5) * 16).astype(np.int32)):
        cv2.fillConvexPoly(ids, c, k, lineType=cv2.LINE_8, shift=4)
    y, x = np.mgrid[0:size_px, 0:size_px]
    at = np.stack([(x + 0.5) / size_px, (y + 0.5) / size_px], -1)
    t = corners[ids]
    a, b, c = t[..., 0, :], t[..., 1, :], t[..., 2, :]
    area = _cross(b - a, c - a)
    area = np.where(abs(area) < 1e-7, np.inf, area)
    wb, wc = np.clip(_cross(at - a, c - a) / area, -0.2, 1.2), np.clip(_cross(b - a, at - a) / area, -0.2, 1.2)
    return ids.astype(np.int16), np.stack([1 - wb - wc, wb, wc], -1).astype(np.float32)


def _cross(u, v):
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


def inner_mouth(ring, size_px):
    """Coverage of the inside of the lips, float32 (S, S) in [0, 1], none where they meet; ring (20, 2) in the unit square.

    Source: ours; in each column the share of a pixel between the lips.
    """
    top, bottom, beside = (size_px * v for v in _lips_of(ring, size_px))
    y = np.arange(size_px, dtype=np.float32)[:, None]
    cover = np.clip(np.minimum(y + 1, bottom) - np.maximum(y, top), 0, 1)
    return (cover * (beside > 0)).astype(np.float32)


def lip_contact(ring, size_px):
    """The dark line along which lips meet, float32 (S, S) in [0, 1], none where they part; ring (20, 2) in the unit square. Source: ours."""
    top, bottom, beside = _lips_of(ring, size_px)
    y = (np.arange(size_px, dtype=np.float32)[:, None] + 0.5) / size_px
    near = np.clip(1 - (bottom - top) / CONTACT_APART, 0, 1) * np.clip(beside / CONTACT_END, 0, 1)
    return (np.exp(-(((y - (top + bottom) / 2) / CONTACT_WIDE) ** 2)) * near).astype(np.float32)


def _rims(ring):
    """Upper and lower inner lip (11, 2) of a ring (20, 2), both from left to right."""
    n = len(UPPER)
    return [rim[np.argsort(rim[:, 0])] for rim in (ring[:n], np.r_[ring[:1], ring[: n - 1 : -1], ring[n - 1 : n]])]


def _lips_of(ring, size_px):
    """Height of the upper and of the lower inner lip in each column (S,), and how far it is from the nearer corner, unit square; beside the mouth below 0."""
    x = (np.arange(size_px) + 0.5) / size_px
    top, bottom = (np.interp(x, *rim.T) for rim in _rims(ring))
    return top, bottom, np.minimum(x - ring[: len(UPPER), 0].min(), ring[: len(UPPER), 0].max() - x)


def source_of(ids, weights, tris, points):
    """Unit-square positions (S, S, 2) that each pixel of a raster shows, in the picture whose points are given. Source: `raster`."""
    return (points[tris][ids] * weights[..., None]).sum(-2).astype(np.float32)


def sample(image, source):
    """image uint8 (H, W, 3) read at unit-square positions (S, S, 2). Source: bicubic, edges repeat."""
    x, y = source[..., 0] * image.shape[1] - 0.5, source[..., 1] * image.shape[0] - 0.5
    return cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def lip_line(p_shut):
    """Placement of the teeth behind shut lips (468, 2): where the lips meet. Source: ours."""
    left, right = p_shut[UPPER[0]], p_shut[UPPER[-1]]
    x, y = (p_shut[13] + p_shut[14]) / 2
    return Placement(float(x), float(y), float(np.arctan2(right[1] - left[1], right[0] - left[0])))


def cavity(ring, size_px, light):
    """The inside of a mouth without upper teeth, float32 (S, S, 3): dark, a tongue, lower teeth in the shade where it is wide open.

    ring: (20, 2) inner lips in the unit square.  light: of the face, 1 for a usual portrait.
    Source: ours, drawn; a function of the lips alone, so that it can be learned.
    """
    x = (np.arange(size_px) + 0.5) / size_px
    y = x[:, None]
    (upper, lower), (top, bottom, _) = _rims(ring), _lips_of(ring, size_px)
    middle, half = ring[:, 0].mean(), np.ptp(ring[:, 0]) / 2 + 1e-6
    aside, wide = (x - middle) / half, float(np.max(lower[:, 1] - upper[:, 1]))
    above = bottom - y                                                      # of the lower lip
    out = np.array([44.0, 17.0, 17.0]) * (1 + 0.25 * np.clip((y - top) / max(wide, 1e-3), 0, 1))[..., None]
    tongue = (0.42 * wide + 0.004) * np.sqrt(np.clip(1 - (aside / 0.82) ** 2, 0, 1))
    share = np.clip((tongue - above) / 0.010 + 0.5, 0, 1) * np.clip(wide / 0.03, 0, 1)
    out += (np.array([142.0, 66.0, 64.0]) * (0.62 + 0.38 * np.clip(1 - above / 0.03, 0, 1))[..., None] - out) * (0.85 * share)[..., None]
    row = 0.014 * np.clip((wide - 0.035) / 0.04, 0, 1) * np.sqrt(np.clip(1 - (aside / 0.66) ** 2, 0, 1))
    share = np.clip((row - above) / 0.004 + 0.5, 0, 1) * (row > 0.001)
    out += (np.array([168.0, 152.0, 138.0]) - out) * (0.7 * share)[..., None]
    return (out * light).astype(np.float32)


@dataclass(frozen=True)
class Portrait:
    """A still face prepared for puppetry.

    image: uint8 (S, S, 3).  points, shut: (468, 2) as it is and with lips shut, unit square.  tris: (T, 3).  light: of its face, 1 is usual.
    contact: how dark the line is to be where its lips meet; 0 where they were photographed so, and the line is there.
    """
    image: np.ndarray
    points: np.ndarray
    shut: np.ndarray
    tris: np.ndarray
    light: float
    contact: float = CONTACT


@dataclass(frozen=True)
class Actor:
    """A talking clip.

    displacement: (N, 468, 2) from rest.  closed: (N,) eyes.
    """
    displacement: np.ndarray
    closed: np.ndarray

    def __len__(self):
        return len(self.closed)


def trimmed(p):
    """A face (468, 2) whose inner lips are drawn a little back where they are apart, from the teeth that the mesh leaves on their rims. Source: ours."""
    q, most = p.copy(), TRIM * np.clip((gap(p)[1:-1, 1] - SEEN_APART) / WIDE_APART, 0, 1)
    for rim, next_ring, way in ((UPPER, INNER_UPPER_LIP, -1), (LOWER, INNER_LOWER_LIP, 1)):
        room = np.clip(way * (p[next_ring] - p[rim])[1:-1, 1], 0, None)
        q[rim[1:-1], 1] += way * np.minimum(most, TRIM_ROOM * room)     # further would fold the lip
    return q


def load_portrait(path):
    """The Portrait of a crop file. Source: ours."""
    d = np.load(path)
    p = trimmed(d["marks"][:POINTS, :2].astype(float))
    q = shut(p)
    light = np.clip(cheeks(d["frames"]).mean() / USUAL_SKIN, 0.45, 1.3)
    return Portrait(d["frames"], p, q, triangles(q), float(light), CONTACT * float(np.clip(opening(p) / SEEN_APART, 0, 1)))


def load_actor(path):
    """The Actor of a crop file, or None where a frame lacks its mesh. Source: ours."""
    marks = load_marks(path)
    if not np.isfinite(marks).all():
        return None
    displacement, closed, *_ = motion_of(marks)
    return Actor(displacement, closed)


def puppet(who, displacement, lids, teeth=None):
    """A portrait with its face moved.

    Returns image uint8 (192, 192, 3); ids int16 (96, 96) and weights float16 (96, 96, 2) of its raster; points (N, 2);
    inner mouth of the patch uint8 (64, 112).
    displacement: (468, 2) from rest.  lids: (0 open … 1 shut) put on the portrait.  teeth: (64, 112, 5) as `with_teeth` takes them, or none.
    Source: ours; piecewise affine warp, the inside of the mouth drawn.
    """
    t = who.shut + displacement
    t[LIDS] = who.points[LIDS] + lid_motion(who.points, lids)[LIDS]
    points = np.r_[t, FRAME]
    ids, weights = raster(points, who.tris, DRAW_PX)
    image = sample(who.image, source_of(ids, weights, who.tris, np.r_[who.points, FRAME])).astype(np.float32)
    mask = np.maximum(inner_mouth(t[RING], DRAW_PX), who.contact * lip_contact(t[RING], DRAW_PX))
    if mask.any():
        image += (cavity(t[RING], DRAW_PX, who.light) - image) * cv2.GaussianBlur(mask, (0, 0), 0.7)[..., None]
    return _pose(np.clip(image, 0, 255).astype(np.uint8), points, who.tris, mask, teeth)


def _pose(image, points, tris, mask, teeth=None):
    image = cv2.resize(image, (IMAGE_PX,) * 2, interpolation=cv2.INTER_AREA)
    top, bottom, left, right = PATCH
    inside = cv2.resize(mask, (IMAGE_PX,) * 2, interpolation=cv2.INTER_AREA)[top:bottom, left:right]
    if teeth is not None:
        image[top:bottom, left:right] = with_teeth(image[top:bottom, left:right], teeth, inside)
    ids, weights = raster(points, tris, FLOW_PX)
    return image, ids, weights[..., :2].astype(np.float16), points.astype(np.float32), (inside * 255).astype(np.uint8)


def with_teeth(part, teeth, inside):
    """A mouth patch uint8 (64, 112, 3) with teeth (64, 112, 5) in it; inside (64, 112) in [0, 1]. Source: `laid_over`."""
    colours, laid, mask = (torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (part, teeth, inside))
    out = laid_over(colours.permute(2, 0, 1)[None], laid.permute(2, 0, 1)[None], mask[None, None], black=0.0)
    return out[0].permute(1, 2, 0).clamp(0, 255).round().to(torch.uint8).numpy()


def itself(who):
    """The portrait as one of its own poses, in the format of `puppet`. Source: ours."""
    wide = opening(who.points) > SEEN_APART
    mask = inner_mouth(who.points[RING], DRAW_PX) if wide else np.zeros((DRAW_PX, DRAW_PX), np.float32)
    return _pose(cv2.resize(who.image, (DRAW_PX,) * 2, interpolation=cv2.INTER_AREA), np.r_[who.points, FRAME], who.tris, mask)


def teeth_cover(image, inside):
    """Cover (64, 112) uint8 of a portrait's own teeth: what is bright between its lips.

    image: (192, 192, 3) uint8.  inside: (64, 112) uint8 of `itself`.
    Source: ours; looked at on smiling portraits.
    """
    top, bottom, left, right = PATCH
    gray = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2GRAY).astype(np.float32)
    sure = inside > 200
    if sure.sum() < 40:
        return np.zeros_like(inside)
    bright = np.quantile(gray[sure], 0.85)
    share = np.clip((gray / max(bright, 1) - 0.45) / 0.2, 0, 1) * inside
    return cv2.GaussianBlur(share, (0, 0), 0.6).clip(0, 255).astype(np.uint8)


def poses_of(who, actors, count, rng):
    """count + 1 poses of a portrait, the first itself: stacked outputs of `puppet`, and eyelids (count + 1,).

    who: Portrait.  actors: list of Actor.
    Source: ours; open mouths come oftener than in speech, and so do lips that meet.
    """
    made, lids = [itself(who)], [0.0]
    while len(made) <= count:
        actor = actors[rng.integers(len(actors))]
        wide = opening(actor.displacement)
        meet = rng.random() < SHUT_ODDS
        odds = np.ones(len(wide)) if meet else np.clip(wide, 0, None) + 0.02
        displacement = actor.displacement[rng.choice(len(wide), p=odds / odds.sum())] * rng.uniform(*STRENGTH)
        if meet:
            displacement = shut(who.shut + displacement) - who.shut
        lids.append(float(rng.choice([0.0, rng.uniform(0.3, 1.0), 1.0], p=[0.6, 0.25, 0.15])))
        made.append(puppet(who, displacement, lids[-1]))
    return [np.stack(x) for x in zip(*made)], np.array(lids, np.float32)


def _puppets_some(job):
    out, paths, part, poses, clips = job
    rng = np.random.default_rng(part)
    strange, common = ([c for c in clips if is_common(c.name) == which] for which in (False, True))
    chosen = list(rng.choice(common, min(COMMON_ACTORS, len(common)), replace=False)) + strange
    actors = [a for a in map(load_actor, chosen) if a is not None]
    for path in paths:
        target = Path(out) / "puppets" / path.name
        if not target.exists():
            who = load_portrait(path)
            (images, ids, weights, points, mouths), lids = poses_of(who, actors, poses, rng)
            with replacing(target) as part:
                np.savez(part, images=images, ids=ids, weights=weights, points=points, mouths=mouths, lids=lids,
                         teeth=teeth_cover(images[0], mouths[0]), tris=who.tris.astype(np.int16), shut=who.shut)
    return len(paths)


def puppets(out, poses=16, workers=2, progress=None):
    """Write OUT/puppets/*.npz: every portrait (also those kept out, for measuring) with its poses; resumes. Returns their number.

    out: working folder with crops.  poses: of each portrait beside its own.  workers: processes.
    progress: called with (done, all).
    Raises UsageProblem when there are no crops.
    Source: ours.
    """
    parts = split_files(out)
    (Path(out) / "puppets").mkdir(parents=True, exist_ok=True)
    paths = parts["portraits"] + parts["held_portraits"]
    done = 0
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for n in pool.imap_unordered(_puppets_some, [(out, paths[i::JOBS], i, poses, parts["clips"]) for i in range(JOBS)]):
            done += n
            if progress:
                progress(done, len(paths))
    return done

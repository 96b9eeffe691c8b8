"""The motion space: teacher displacements on a lattice, and the linear code that spans them."""
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.spatial import Delaunay

from engine.encoders.vision import BLINK, LATTICE, LOWER, UPPER_FACE, MotionSpace
from engine.errors import UsageProblem
from engine.files import replacing
from engine.train.manifest import COMMON_SPEAKER, held_out, made_by
from lipsync.train.mesh import LIDS, POINTS, lid_motion, motion_of, opening, shut

BLINK_UNIT = 0.5                       # a code of 2 is a shut eye
LEAST_FRAMES = 60                      # of talking clips; every second one is used, and 21 numbers are to be found
HALF = LATTICE // 2                    # lattice rows above belong to eyes and brows


def split_files(out, split=None):
    """Crop files by part: {"clips", "held_clips", "known_clips", "portraits", "held_portraits", "eval"} -> list of paths.

    out: working folder, crops named as `train crops` writes them.  split: of `held_out`; None reads the shipped one.
    Raises UsageProblem when there are no crops.
    Source: ours; configs/held_out.toml.
    """
    split = split or held_out()
    parts = {k: [] for k in ("clips", "held_clips", "known_clips", "portraits", "held_portraits", "eval")}
    known = stills = 0
    for path in sorted(made_by("crops", Path(out) / "crops").glob("[!.]*__*.npz")):
        kind, speaker, name = path.stem.split("__", 2)
        if kind == "portrait":
            parts["held_portraits" if stills % split["portraits_every"] == split["portraits_at"] else "portraits"].append(path)
            stills += 1
        elif kind == "talk-eval":
            parts["eval"].append(path)
        elif name in split["talk"]:
            parts["held_clips"].append(path)
        elif speaker == COMMON_SPEAKER:
            parts["known_clips" if known % split["known_every"] == 0 else "clips"].append(path)
            known += 1
        else:
            parts["clips"].append(path)
    return parts


def load_marks(path):
    """Mesh of a crop file, float64 (..., 468, 3); NaN where no face was found. Source: `train crops`."""
    return np.load(path)["marks"][..., :POINTS, :].astype(float)


def meshed(paths):
    """(path, mesh (N, 468, 3)) of every crop file that has a mesh in each of its frames. Source: ours."""
    for path in paths:
        marks = load_marks(path)
        if np.isfinite(marks).all():
            yield path, marks


def lattice_map(canonical):
    """Matrix (1024, 468) that reads displacements of mesh points on the lattice; they fall to zero a little outside the crop.

    canonical: (468, 2) points of a half-open mouth, so that the lips lie on different nodes.
    Source: barycentric interpolation over a Delaunay triangulation.
    """
    edge = np.linspace(-0.15, 1.15, 9)
    frame = np.array([(x, y) for x in edge for y in edge if min(x, y) < -0.1 or max(x, y) > 1.1])
    tri = Delaunay(np.r_[canonical, frame])
    at = (np.stack(np.meshgrid(*[np.arange(LATTICE)] * 2), -1).reshape(-1, 2) + 0.5) / LATTICE
    where = tri.find_simplex(at)
    affine = tri.transform[where]
    part = np.einsum("nij,nj->ni", affine[:, :2], at - affine[:, 2])
    weight = np.c_[part, 1 - part.sum(1)]
    m = np.zeros((len(at), len(canonical) + len(frame)))
    np.put_along_axis(m, tri.simplices[where], weight, 1)
    return m[:, : len(canonical)]


def lattices(displacement, matrix):
    """Displacements (N, 468, 2) on the lattice (N, 2, 32, 32); matrix of `lattice_map`. Source: ours."""
    n = len(displacement)
    flat = displacement.transpose(1, 0, 2).reshape(matrix.shape[1], n * 2)
    z = csr_array(matrix) @ flat                       # three weights a node
    return z.reshape(len(matrix), n, 2).transpose(1, 2, 0).reshape(n, 2, LATTICE, LATTICE)


def build_space(out):
    """Motion space from the talking clips and portraits of OUT/crops: (MotionSpace, lattice matrix (1024, 468), blink lattice).

    Raises UsageProblem when there is nothing to build it from.
    Source: PCA of teacher lattices after the head's affine part is taken out; ours.
    """
    parts = split_files(out)
    motions = [motion_of(marks) for _, marks in meshed(parts["clips"])]
    frames, portraits = sum(len(m[0]) for m in motions), len(parts["portraits"])
    if frames < LEAST_FRAMES or not portraits:
        raise UsageProblem(f"{out}: {frames} frames of talking clips and {portraits} portraits are too few to build a motion space.",
                           hint=f"Give at least {LEAST_FRAMES} and one, and run 'mouthpiece train crops' again.")  # fmt: skip
    rest = np.mean([shut(load_marks(p)[:, :2]) for p in parts["portraits"]], 0)
    moved = np.concatenate([m[0] for m in motions])
    wide = opening(rest + moved)
    canonical = rest + moved[wide > np.quantile(wide, 0.8)].mean(0)
    canonical[LIDS] = rest[LIDS]
    matrix = lattice_map(canonical)
    weight = np.ones((2, LATTICE, LATTICE))
    weight[:, 18:28, 9:23] = 3
    z = np.concatenate([lattices(m[0][::2], matrix) for m in motions])
    blink = lattices(lid_motion(rest, 1.0)[None], matrix)[0] * BLINK_UNIT
    basis = []
    for width, rows in ((LOWER, slice(HALF, None)), (UPPER_FACE, slice(0, HALF))):
        w = np.zeros_like(weight)
        w[:, rows] = weight[:, rows]
        x = torch.tensor((z * w).reshape(len(z), -1), dtype=torch.float32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)       # it starts from random directions; the space must not depend on what ran before
            comp = torch.pca_lowrank(x, q=width, center=False, niter=4)[2]
        std = (x @ comp).std(0)
        flat = (comp * std).T.numpy().reshape(width, *weight.shape)
        basis.append(np.where(w > 0, flat / np.maximum(w, 1e-9), 0))
    basis = np.concatenate([basis[0], blink[None], basis[1]])
    b, w2 = basis.reshape(len(basis), -1), weight.reshape(-1) ** 2
    projection = np.linalg.solve((b * w2) @ b.T + 1e-9 * np.eye(len(b)), b * w2)
    pose_std = np.concatenate([m[2] - np.median(m[2], 0) for m in motions]).std(0).clip(1e-4)      # a head may never have turned
    codes = z.reshape(len(z), -1) @ projection.T
    codes[:, BLINK] = 0                # the lids were taken out, and a blink must not count as mouth
    lips = np.linalg.lstsq(codes, opening(moved)[_every_other([len(m[0]) for m in motions])], rcond=None)[0]
    space = MotionSpace(*(torch.tensor(part, dtype=torch.float32) for part in (basis, projection, pose_std, lips)))
    return space, matrix, canonical


def space_of(out):
    """(MotionSpace, lattice matrix (1024, 468)) of OUT/space.npz, built and written on first use. Source: `build_space`."""
    path = Path(out) / "space.npz"
    if not path.exists():
        space, matrix, canonical = build_space(out)
        with replacing(path) as part:
            np.savez(part, matrix=matrix, canonical=canonical, **{k: getattr(space, k).numpy() for k in MotionSpace.__dataclass_fields__})
    d = np.load(path)
    return MotionSpace(**{k: torch.from_numpy(d[k]) for k in MotionSpace.__dataclass_fields__}), d["matrix"]


def _every_other(lengths):
    """Indices of every second frame of each clip, in the concatenation of all."""
    ends = np.cumsum(lengths)
    return np.concatenate([np.arange(end - n, end, 2) for n, end in zip(lengths, ends)])


def teacher_lattices(displacement, closed, matrix, rest):
    """Teacher lattices (N, 2, 32, 32): displacement (N, 468, 2) with the lids of rest (468, 2) closed by (N,) put back. Source: ours."""
    lids = lattices(lid_motion(rest, 1.0)[None], matrix)[0]
    return lattices(displacement, matrix) + closed[:, None, None, None] * lids

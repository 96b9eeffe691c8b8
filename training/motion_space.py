"""The motion space: teacher displacements on a lattice, and the linear code that spans them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.spatial import Delaunay

from mouthpiece.engine.encoders.motion import BLINK_INDEX, BROW_WIDTH, LATTICE_NODES, LOWER_FACE_WIDTH, MotionSpace
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.files import atomic_write
from mouthpiece.training.data.manifest import COMMON_SPEAKER, load_held_out, require_stage
from mouthpiece.training.mesh_geometry import (
    LID_POINTS,
    POINT_COUNT,
    close_lips,
    compute_lid_motion,
    extract_motion,
    measure_mesh_opening,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

BLINK_UNIT = 0.5  # a code of 2 is a shut eye
MIN_FRAMES = 60  # of talking clips; every second one is used, and 21 numbers are to be found
HALF_LATTICE = LATTICE_NODES // 2  # lattice rows above belong to eyes and brows


def split_crop_files(out: Path, split: dict[str, Any] | None = None) -> dict[str, list[Path]]:
    """Crop files by part: {"clips", "held_clips", "known_clips", "portraits", "held_portraits", "eval"} -> list of
    paths.

    out: working folder, crops named as `train crops` writes them.  split: of `load_held_out`; None reads the shipped
    one.
    Raises UsageError when there are no crops.
    Source: configs/held_out.toml.
    """
    split = split or load_held_out()
    parts: dict[str, list[Path]] = {
        k: [] for k in ("clips", "held_clips", "known_clips", "portraits", "held_portraits", "eval")
    }
    known = stills = 0
    for path in sorted(require_stage("crops", Path(out) / "crops").glob("[!.]*__*.npz")):
        kind, speaker, name = path.stem.split("__", 2)
        if kind == "portrait":
            parts[
                "held_portraits" if stills % split["portraits_every"] == split["portraits_at"] else "portraits"
            ].append(path)
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


def load_mesh_points(path: Path) -> np.ndarray:
    """Return the mesh of a crop file, float64 (..., 468, 3); NaN where no face was found. Source: `train crops`."""
    return np.load(path)["marks"][..., :POINT_COUNT, :].astype(float)


def iterate_meshes(paths: Iterable[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    """Return (path, mesh (N, 468, 3)) of every crop file that has a mesh in each of its frames."""
    for path in paths:
        marks = load_mesh_points(path)
        if np.isfinite(marks).all():
            yield path, marks


def make_lattice_map(canonical: np.ndarray) -> np.ndarray:
    """Return the matrix (1024, 468) that reads displacements of mesh points on the lattice; they fall to zero a little
    outside the
    crop.

    canonical: (468, 2) points of a half-open mouth, so that the lips lie on different nodes.
    Source: barycentric interpolation over a Delaunay triangulation.
    """
    edge = np.linspace(-0.15, 1.15, 9)
    frame = np.array([(x, y) for x in edge for y in edge if min(x, y) < -0.1 or max(x, y) > 1.1])
    tri = Delaunay(np.r_[canonical, frame])
    at = (np.stack(np.meshgrid(*[np.arange(LATTICE_NODES)] * 2), -1).reshape(-1, 2) + 0.5) / LATTICE_NODES
    where = tri.find_simplex(at)
    affine = tri.transform[where]
    part = np.einsum("nij,nj->ni", affine[:, :2], at - affine[:, 2])
    weight = np.c_[part, 1 - part.sum(1)]
    m = np.zeros((len(at), len(canonical) + len(frame)))
    np.put_along_axis(m, tri.simplices[where], weight, 1)
    return m[:, : len(canonical)]


def project_to_lattice(displacement: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return displacements (N, 468, 2) on the lattice (N, 2, 32, 32); matrix of `make_lattice_map`."""
    n = len(displacement)
    flat = displacement.transpose(1, 0, 2).reshape(matrix.shape[1], n * 2)
    z = csr_array(matrix) @ flat  # three weights a node
    return z.reshape(len(matrix), n, 2).transpose(1, 2, 0).reshape(n, 2, LATTICE_NODES, LATTICE_NODES)


def build_space(out: Path) -> tuple[MotionSpace, np.ndarray, np.ndarray]:
    """Return the motion space from the talking clips and portraits of OUT/crops: (MotionSpace, lattice matrix (1024,
    468), blink
    lattice).

    Raises UsageError when there is nothing to build it from.
    Source: PCA of teacher lattices after the head's affine part is taken out.
    """
    parts = split_crop_files(out)
    motions = [extract_motion(marks) for _, marks in iterate_meshes(parts["clips"])]
    frames, portraits = sum(len(m[0]) for m in motions), len(parts["portraits"])
    if frames < MIN_FRAMES or not portraits:
        raise UsageError(
            f"{out}: {frames} frames of talking clips and {portraits} portraits are too few to build a motion space.",
            hint=f"Give at least {MIN_FRAMES} and one, and run 'mouthpiece train crops' again.",
        )
    rest = np.mean([close_lips(load_mesh_points(p)[:, :2]) for p in parts["portraits"]], 0)
    moved = np.concatenate([m[0] for m in motions])
    wide = measure_mesh_opening(rest + moved)
    canonical = rest + moved[wide > np.quantile(wide, 0.8)].mean(0)
    canonical[LID_POINTS] = rest[LID_POINTS]
    matrix = make_lattice_map(canonical)
    weight = np.ones((2, LATTICE_NODES, LATTICE_NODES))
    weight[:, 18:28, 9:23] = 3
    z = np.concatenate([project_to_lattice(m[0][::2], matrix) for m in motions])
    blink = project_to_lattice(compute_lid_motion(rest, 1.0)[None], matrix)[0] * BLINK_UNIT
    basis = []
    for width, rows in ((LOWER_FACE_WIDTH, slice(HALF_LATTICE, None)), (BROW_WIDTH, slice(0, HALF_LATTICE))):
        w = np.zeros_like(weight)
        w[:, rows] = weight[:, rows]
        x = torch.tensor((z * w).reshape(len(z), -1), dtype=torch.float32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # it starts from random directions; the space must not depend on what ran before
            comp = torch.pca_lowrank(x, q=width, center=False, niter=4)[2]
        std = (x @ comp).std(0)
        flat = (comp * std).T.numpy().reshape(width, *weight.shape)
        basis.append(np.where(w > 0, flat / np.maximum(w, 1e-9), 0))
    basis = np.concatenate([basis[0], blink[None], basis[1]])
    b, w2 = basis.reshape(len(basis), -1), weight.reshape(-1) ** 2
    projection = np.linalg.solve((b * w2) @ b.T + 1e-9 * np.eye(len(b)), b * w2)
    # a head may never have turned
    pose_std = np.concatenate([m[2] - np.median(m[2], 0) for m in motions]).std(0).clip(1e-4)
    codes = z.reshape(len(z), -1) @ projection.T
    codes[:, BLINK_INDEX] = 0  # the lids were taken out, and a blink must not count as mouth
    lips = np.linalg.lstsq(
        codes, measure_mesh_opening(moved)[_list_alternate_frames([len(m[0]) for m in motions])], rcond=None
    )[0]
    space = MotionSpace(*(torch.tensor(part, dtype=torch.float32) for part in (basis, projection, pose_std, lips)))
    return space, matrix, canonical


def load_space(out: Path) -> tuple[MotionSpace, np.ndarray]:
    """Return (MotionSpace, lattice matrix (1024, 468)) of OUT/space.npz, built and written on first use. Source:
    `build_space`.
    """
    path = Path(out) / "space.npz"
    if not path.exists():
        space, matrix, canonical = build_space(out)
        with atomic_write(path) as part:
            np.savez(
                part,
                matrix=matrix,
                canonical=canonical,
                **{k: getattr(space, k).numpy() for k in MotionSpace.__dataclass_fields__},
            )
    d = np.load(path)
    return MotionSpace(**{k: torch.from_numpy(d[k]) for k in MotionSpace.__dataclass_fields__}), d["matrix"]


def _list_alternate_frames(lengths: list[int]) -> np.ndarray:
    """Return indices of every second frame of each clip, in the concatenation of all."""
    ends = np.cumsum(lengths)
    return np.concatenate([np.arange(end - n, end, 2) for n, end in zip(lengths, ends)])


def make_teacher_lattices(
    displacement: np.ndarray, closed: np.ndarray, matrix: np.ndarray, rest: np.ndarray
) -> np.ndarray:
    """Return the teacher lattices (N, 2, 32, 32): displacement (N, 468, 2) with the lids of rest (468, 2) closed by
    (N,) put back.
    """
    lids = project_to_lattice(compute_lid_motion(rest, 1.0)[None], matrix)[0]
    return project_to_lattice(displacement, matrix) + closed[:, None, None, None] * lids

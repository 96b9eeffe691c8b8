"""What earlier runs on a film left: looks at its faces, lips of its lines, patches of its frames; a run makes only what
is not there.
"""

from __future__ import annotations

import hashlib
import io
import sqlite3
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.media.patches import FramePatch
from mouthpiece.engine.media.rewrite import SEGMENT_FRAMES
from mouthpiece.engine.version import get_code_version
from mouthpiece.face.crop import Crop
from mouthpiece.lipsync.film.mouth_scan import MouthScan, scan_mouths
from mouthpiece.lipsync.film.reference_mouths import ReferenceKey, ReferenceMouth, ReferenceMouthCollector
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction

    from mouthpiece.engine.contracts import FaceTracks
    from mouthpiece.engine.media.rewrite import VideoRewriter
    from mouthpiece.lipsync.film.edit_plan import FaceEditPlan, MouthSources
    from mouthpiece.lipsync.models import LipsyncModels
    from mouthpiece.lipsync.options import LipsyncOptions

RETAINED_RUNS = 4  # what no run of the last so many has used is thrown away
COMMIT_EVERY = 64  # entries; a run that is killed loses no more
# frames are looked at in stretches this long, so that a line a little longer needs no new look
SCAN_BLOCK_S = 2.0
_TABLES = """CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, run INTEGER, data BLOB)"""


class BlobStore:
    """Named bytes in one file. It may vanish, break or be locked by another run: then nothing is found and nothing is
    kept.

    path: Path; its folder is made.
    Source: ours; SQLite.
    """

    def __init__(self, path: Path) -> None:
        self._held, self._uncommitted, self._run = None, 0, 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._open(path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # locked, or no room
                    raise
                path.unlink(missing_ok=True)  # torn: begun anew
                self._open(path)
        except (sqlite3.Error, OSError):
            self._held = None

    def _open(self, path: Path) -> None:
        self._held = sqlite3.connect(path, timeout=2)
        self._held.executescript("PRAGMA synchronous=OFF;" + _TABLES)
        self._run = self._held.execute("INSERT INTO runs DEFAULT VALUES").lastrowid
        self._held.commit()

    def find(self, name: str) -> bytes | None:
        """The bytes of that name, or None."""
        return self._run_query(self._find, name)

    def _find(self, name: str) -> bytes | None:
        row = self._held.execute("SELECT data, run FROM entries WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        if row[1] != self._run:
            self._held.execute("UPDATE entries SET run = ? WHERE name = ?", (self._run, name))
            self._counted()
        return row[0]

    def put(self, name: str, data: bytes) -> None:
        """Keeps bytes under a name."""
        self._run_query(self._keep, name, data)

    def _keep(self, name: str, data: bytes) -> None:
        self._held.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (name, self._run, data))
        self._counted()

    def _counted(self) -> None:
        self._uncommitted += 1
        if self._uncommitted >= COMMIT_EVERY:
            self._held.commit()
            self._uncommitted = 0

    def _run_query(self, act: Callable, *words) -> bytes | None:
        if self._held is None:
            return None
        try:
            return act(*words)
        except sqlite3.Error:
            self._held = None
            return None

    def close(self, completed: bool = True) -> None:
        """Writes what is held. done: whether the run came to its end; then what was of no use for long is
        thrown away.
        """

        def end() -> None:
            if completed:
                self._held.execute("DELETE FROM entries WHERE run <= ?", (self._run - RETAINED_RUNS,))
            self._held.commit()
            self._held.close()

        self._run_query(end)
        self._held = None


class DubCache:
    """Looks, lips and patches of one film on a Shelf, named by everything that they depend on.

    shelf: Shelf.  film: SHA-256 of the film.  made_by: what else rules, such as hashes of weights.
    counts: {kind: {"found", "made"}} of this run.
    """

    def __init__(self, store: BlobStore | None, film_digest: str, settings: str = "") -> None:
        self._store, self._base = store, f"{film_digest}|{settings}|{get_code_version()}".encode()
        self._reference_keys = {}
        self.counts = {}

    def make_key(self, kind: str, *parts) -> str:
        """A name of a kind for what depends on parts: arrays, or what str tells apart."""
        found = hashlib.sha256(self._base + kind.encode())
        for part in parts:
            if isinstance(part, np.ndarray):
                found.update(f"{part.shape}{part.dtype}".encode() + np.ascontiguousarray(part).tobytes())
            else:
                found.update(f"|{part}|".encode())
        return f"{kind}-{found.hexdigest()[:40]}"

    def _counted(self, kind: str, found: bool) -> None:
        row = self.counts.setdefault(kind, {"found": 0, "made": 0})
        row["found" if found else "made"] += 1

    def get_arrays(self, name: str, make: Callable) -> dict[str, np.ndarray]:
        """Dict of arrays (or of bytes, as uint8) of that name; made and kept where it is not there. make: callable."""
        data = self._store.find(name)
        if data is not None:
            with np.load(io.BytesIO(data)) as file:
                self._counted(name.split("-")[0], True)
                return dict(file)
        made, out = make(), io.BytesIO()
        np.savez(out, **made)
        self._store.put(name, out.getvalue())
        self._counted(name.split("-")[0], False)
        return made

    def scan_mouths(
        self,
        video: Path,
        tracks: FaceTracks,
        wanted: list[np.ndarray],
        models: LipsyncModels,
        advance: Callable = lambda n: None,
    ) -> list[MouthScan]:
        """As film.look, from an earlier run where it looked at the same frames; frames are looked at in whole stretches
        of BLOCK_S.
        """
        wanted, out = [expand_to_blocks(w, tracks.times_s) for w in wanted], []
        for number, (track, flags) in enumerate(zip(tracks.tracks, wanted)):
            name = self.make_key("look", track.points, track.shot, track.yaw_deg, tracks.times_s, flags)
            arrays = self.get_arrays(
                name,
                lambda k=number: _pack_scan(
                    scan_mouths(video, _select_face(tracks, k), [wanted[k]], models, advance)[0]
                ),
            )
            out.append(_unpack_scan(arrays))
        return out

    def reuse_segments(
        self, frames: Iterator, writer: VideoRewriter, times: list[Fraction], advance: Callable, names: list[str]
    ) -> Iterator[tuple]:
        """The frames of segments that no earlier run has encoded; the others are appended to the writer as they were,
        in their turn.

        frames: triples as VideoReader.natives gives them, all of a film.  writer: FilmWriter, which writes what this
        gives before it asks for
        more than resync.CHUNK_FRAMES.  times: Fractions, starts of all frames.  advance: called with frames appended.
        names: of the segments.
        """

        def keep(number: int, data: bytes) -> None:
            if number < len(names):
                self._store.put(names[number], data)
                self._counted("segment", False)

        writer.on_segment, known = keep, False
        for index, time, native in frames:
            if index % SEGMENT_FRAMES == 0:
                data = (
                    self._store.find(names[index // SEGMENT_FRAMES]) if index // SEGMENT_FRAMES < len(names) else None
                )
                known = data is not None
                if known:
                    self._counted("segment", True)
                    writer.append(native, times[index : index + SEGMENT_FRAMES], data)
                    advance(len(times[index : index + SEGMENT_FRAMES]))
            if not known:
                yield index, time, native

    def make_patch_key(
        self,
        change: FaceEditPlan,
        index: int,
        code: np.ndarray,
        sources: MouthSources,
        options: LipsyncOptions,
    ) -> str:
        """The name of a frame's Patch. change: resync.Change.  index: of the frame.  code: (26,) wanted.  sources: of
        its mouth.
        """
        told = [part for rest, share in sources.lips for part in (self._rest(rest), float(share))]
        if sources.inside is not None:
            told += ["inside", self._rest(sources.inside), float(sources.inside_share)]
        shown = (change.source_codes[index], code, float(change.weight[index]), change.track.points[index])
        return self.make_key("patch", index, *shown, *told, options.seed, options.grain)

    def _rest(self, rest: ReferenceMouth) -> str:
        key = id(rest)
        if key not in self._reference_keys:  # the rest is held too, so that its id stays its own
            parts = (
                rest.code,
                rest.crop.crop_from_frame,
                np.frombuffer(rest.picture_jpeg, np.uint8),
                np.frombuffer(rest.crop_jpeg, np.uint8),
            )
            self._reference_keys[key] = rest, self.make_key("rest", rest.index, *parts)
        return self._reference_keys[key][1]

    def load_patch(self, name: str) -> None:
        """The Patch of that name, or None; its pixels before and after differ as those of the one that was kept."""
        data = self._store.find(name)
        if data is None:
            return None
        self._counted("patch", True)
        x, y, h, w = np.frombuffer(data, np.int32, 4)
        delta = np.frombuffer(zlib.decompress(data[16:]), np.uint8).reshape(2, h, w, 3)
        return FramePatch(int(x), int(y), delta[1], delta[0])

    def save_patch(self, name: str, patch: FramePatch) -> None:
        """Keeps the change that a Patch makes."""
        delta = patch.after.astype(np.int16) - patch.before
        parts = np.stack([np.maximum(delta, 0), np.maximum(-delta, 0)]).astype(np.uint8)
        head = np.array([patch.x_px, patch.y_px, *delta.shape[:2]], np.int32)
        self._store.put(name, head.tobytes() + zlib.compress(parts.tobytes(), 1))
        self._counted("patch", False)


def expand_to_blocks(flags: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """(F,) bool: all frames of stretches of BLOCK_S in which one is flagged. flags: (F,) bool.  times_s: (F,)."""
    block = (np.asarray(times_s) / SCAN_BLOCK_S).astype(int)
    return np.isin(block, np.unique(block[flags]))


def _select_face(seen: FaceTracks, number: int) -> FaceTracks:
    """The Seen of one face of several."""
    return type(seen)(seen.times, seen.end, (seen.choices[number],), [seen.tracks[number]], seen.truncated)


def _pack_scan(looks: MouthScan) -> dict[str, np.ndarray]:
    """Arrays of Looks."""
    out = dict(codes=looks.codes, why=looks.skip_reasons, noses=looks.head_descriptors)
    for k, (key, rest) in enumerate(sorted(looks.collector.references.items())):
        out |= {f"{k}_key": np.array(key), f"{k}_code": rest.code, f"{k}_facts": np.array([rest.index, rest.opening], np.float64),
                f"{k}_there": rest.crop.crop_from_frame, f"{k}_back": rest.crop.frame_from_crop,
                f"{k}_part": np.frombuffer(rest.picture_jpeg, np.uint8), f"{k}_face": np.frombuffer(rest.crop_jpeg, np.uint8)}  # fmt: skip
    return out


def _unpack_scan(arrays: dict[str, np.ndarray]) -> MouthScan:
    """Looks of such arrays."""
    found = {}
    for k in range((len(arrays) - 3) // 7):
        code, facts, there, back, part, face = (
            arrays[f"{k}_{name}"] for name in ("code", "facts", "there", "back", "part", "face")
        )
        rest = ReferenceMouth(
            int(facts[0]), code, float(facts[1]), Crop(there, back, WORK_PX), part.tobytes(), face.tobytes()
        )
        found[ReferenceKey(*arrays[f"{k}_key"].tolist())] = rest
    return MouthScan(arrays["codes"], arrays["why"], arrays["noses"], ReferenceMouthCollector(found))

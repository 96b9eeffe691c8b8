"""A cache of what earlier runs computed on a film: mouth scans, mouths of lines, patches and encoded segments."""

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
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from fractions import Fraction
    from typing import Any, TypeVar

    from mouthpiece.engine.contracts import FaceTracks
    from mouthpiece.engine.media.rewrite import VideoRewriter
    from mouthpiece.lipsync.film.edit_plan import FaceEditPlan, MouthSources
    from mouthpiece.lipsync.models import LipsyncModels
    from mouthpiece.lipsync.options import LipsyncOptions

    Answer = TypeVar("Answer")

RETAINED_RUNS = 4  # an entry that none of the last so many runs used is deleted
COMMIT_EVERY = 64  # entries; a run that is killed loses no more
SCAN_BLOCK_S = 2.0  # frames are scanned in blocks this long, so that a line a little longer needs no new scan
_LOCK_TIMEOUT_S = 2  # how long to wait for another run that writes
_TABLES = """CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, run INTEGER, data BLOB)"""


class BlobStore:
    """Named bytes in one SQLite file, kept for the last RETAINED_RUNS runs that used them.

    The file may be deleted, damaged or locked by another run: then nothing is found and nothing is kept.

    path: of the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self._database: sqlite3.Connection | None = None
        self._uncommitted = 0
        self._run = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._open(path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # locked, or the disk is full
                    raise
                path.unlink(missing_ok=True)  # damaged: begun anew
                self._open(path)
        except (sqlite3.Error, OSError):
            self._database = None

    def _open(self, path: Path) -> None:
        self._database = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S)
        self._database.executescript("PRAGMA synchronous=OFF;" + _TABLES)
        self._run = self._database.execute("INSERT INTO runs DEFAULT VALUES").lastrowid or 0
        self._database.commit()

    def find(self, name: str) -> bytes | None:
        """Find the bytes of that name; None where there are none."""

        def find(database: sqlite3.Connection) -> bytes | None:
            row = database.execute("SELECT data, run FROM entries WHERE name = ?", (name,)).fetchone()
            if row is None:
                return None
            if row[1] != self._run:
                database.execute("UPDATE entries SET run = ? WHERE name = ?", (self._run, name))
                self._count_change(database)
            return row[0]

        return self._query(find)

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes under a name."""

        def put(database: sqlite3.Connection) -> None:
            database.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (name, self._run, data))
            self._count_change(database)

        self._query(put)

    def close(self, completed: bool = True) -> None:
        """Commit and close. completed: the run came to its end, so entries that were not used for long are deleted."""

        def close(database: sqlite3.Connection) -> None:
            if completed:
                database.execute("DELETE FROM entries WHERE run <= ?", (self._run - RETAINED_RUNS,))
            database.commit()
            database.close()

        self._query(close)
        self._database = None

    def _count_change(self, database: sqlite3.Connection) -> None:
        """Count a change; commit after COMMIT_EVERY of them."""
        self._uncommitted += 1
        if self._uncommitted >= COMMIT_EVERY:
            database.commit()
            self._uncommitted = 0

    def _query(self, query: Callable[[sqlite3.Connection], Answer]) -> Answer | None:
        """Run a query; after an error of the database nothing is found or kept any more."""
        if self._database is None:
            return None
        try:
            return query(self._database)
        except sqlite3.Error:
            self._database = None
            return None


class DubCache:
    """Mouth scans, mouths, patches and segments of one film in a BlobStore, each named by all that it depends on.

    store: None only makes keys.  film_digest: SHA-256 of the film.
    settings: what else everything depends on, such as hashes of weights; the version of the code is added.
    counts: {kind: {"found", "made"}} of this run.
    """

    def __init__(self, store: BlobStore | None, film_digest: str, settings: str = "") -> None:
        self._store = store
        self._base = f"{film_digest}|{settings}|{get_code_version()}".encode()
        self._reference_keys: dict[int, tuple[ReferenceMouth, str]] = {}  # by id of a reference mouth
        self.counts: dict[str, dict[str, int]] = {}

    def make_key(self, kind: str, *parts: Any) -> str:
        """Make the key of what depends on parts: arrays, or values that str tells apart. kind: begins the key."""
        digest = hashlib.sha256(self._base + kind.encode())
        for part in parts:
            if isinstance(part, np.ndarray):
                digest.update(f"{part.shape}{part.dtype}".encode() + np.ascontiguousarray(part).tobytes())
            else:
                digest.update(f"|{part}|".encode())
        return f"{kind}-{digest.hexdigest()[:40]}"

    def _find(self, key: str) -> bytes | None:
        return None if self._store is None else self._store.find(key)

    def _put(self, key: str, data: bytes) -> None:
        if self._store is not None:
            self._store.put(key, data)

    def _count(self, kind: str, found: bool) -> None:
        row = self.counts.setdefault(kind, {"found": 0, "made": 0})
        row["found" if found else "made"] += 1

    def get_arrays(self, key: str, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the arrays of a key ({name: array}); they are made and kept where the key is new."""
        kind, data = key.split("-")[0], self._find(key)
        if data is not None:
            with np.load(io.BytesIO(data)) as file:
                self._count(kind, True)
                return dict(file)
        arrays, out = make(), io.BytesIO()
        np.savez(out, **arrays)
        self._put(key, out.getvalue())
        self._count(kind, False)
        return dict(arrays)

    def scan_mouths(
        self,
        video: Path,
        tracks: FaceTracks,
        wanted: Sequence[np.ndarray],
        models: LipsyncModels,
        advance: Callable[[int], object] = lambda n: None,
    ) -> list[MouthScan]:
        """Scan mouths as mouth_scan.scan_mouths does, in whole blocks of SCAN_BLOCK_S, unless an earlier run has.

        wanted: for every face (F,) bool, the frames that are needed.
        """
        flags = [expand_to_blocks(one, tracks.times_s) for one in wanted]
        scans = []
        for number, track in enumerate(tracks.tracks):
            key = self.make_key("look", track.points, track.shot, track.yaw_deg, tracks.times_s, flags[number])

            def scan(number: int = number) -> dict[str, np.ndarray]:
                face = _select_face(tracks, number)
                return _pack_scan(scan_mouths(video, face, [flags[number]], models, advance)[0])

            scans.append(_unpack_scan(self.get_arrays(key, scan)))
        return scans

    def reuse_segments(
        self,
        frames: Iterator[tuple],
        writer: VideoRewriter,
        times: Sequence[Fraction],
        advance: Callable[[int], object],
        keys: Sequence[str],
    ) -> Iterator[tuple]:
        """Yield the frames of segments that no earlier run has encoded; append the other segments to the writer.

        frames: (index, time, native frame) of all frames of a film.
        writer: writes what is yielded before it asks for more than resync.CHUNK_FRAMES.
        times: starts of all frames.  advance: called with the number of frames that were appended.
        keys: of the segments.
        """

        def keep(number: int, data: bytes) -> None:
            if number < len(keys):
                self._put(keys[number], data)
                self._count("segment", False)

        writer.on_segment, known = keep, False
        for index, time, native in frames:
            if index % SEGMENT_FRAMES == 0:
                number, segment_times = index // SEGMENT_FRAMES, times[index : index + SEGMENT_FRAMES]
                data = self._find(keys[number]) if number < len(keys) else None
                known = data is not None
                if data is not None:
                    self._count("segment", True)
                    writer.append(native, segment_times, data)
                    advance(len(segment_times))
            if not known:
                yield index, time, native

    def make_patch_key(
        self, edit: FaceEditPlan, index: int, code: np.ndarray, sources: MouthSources, options: LipsyncOptions
    ) -> str:
        """Make the key of a frame's patch. index: of the frame.  code: (26,) target.  sources: of its mouth."""
        references = [part for mouth, share in sources.lips for part in (self._get_reference_key(mouth), float(share))]
        if sources.inside is not None:
            references += ["inside", self._get_reference_key(sources.inside), float(sources.inside_share)]
        target = (edit.source_codes[index], code, float(edit.weight[index]), edit.track.points[index])
        return self.make_key("patch", index, *target, *references, options.seed, options.grain)

    def _get_reference_key(self, mouth: ReferenceMouth) -> str:
        if id(mouth) not in self._reference_keys:
            parts = (
                mouth.code,
                mouth.crop.crop_from_frame,
                np.frombuffer(mouth.picture_jpeg, np.uint8),
                np.frombuffer(mouth.crop_jpeg, np.uint8),
            )
            # the mouth is held too, so that its id stays its own
            self._reference_keys[id(mouth)] = mouth, self.make_key("rest", mouth.index, *parts)
        return self._reference_keys[id(mouth)][1]

    def load_patch(self, key: str) -> FramePatch | None:
        """Load a patch; only the difference between its `after` and `before` is that of the patch that was saved."""
        data = self._find(key)
        if data is None:
            return None
        self._count("patch", True)
        x, y, h, w = np.frombuffer(data, np.int32, 4)
        delta = np.frombuffer(zlib.decompress(data[16:]), np.uint8).reshape(2, h, w, 3)
        return FramePatch(int(x), int(y), delta[1], delta[0])

    def save_patch(self, key: str, patch: FramePatch) -> None:
        """Save the change that a patch makes."""
        delta = patch.after.astype(np.int16) - patch.before
        parts = np.stack([np.maximum(delta, 0), np.maximum(-delta, 0)]).astype(np.uint8)
        head = np.array([patch.x_px, patch.y_px, *delta.shape[:2]], np.int32)
        self._put(key, head.tobytes() + zlib.compress(parts.tobytes(), 1))
        self._count("patch", False)


def expand_to_blocks(flags: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Flag all frames of every block of SCAN_BLOCK_S in which one is flagged: (F,) bool.

    flags: (F,) bool.  times_s: (F,) starts of the frames.
    """
    block = (np.asarray(times_s) / SCAN_BLOCK_S).astype(int)
    return np.isin(block, np.unique(block[flags]))


def _select_face(tracks: FaceTracks, number: int) -> FaceTracks:
    """Return the tracks of one face of several."""
    choice, track = (tracks.choices[number],), [tracks.tracks[number]]
    return type(tracks)(tracks.times, tracks.end, choice, track, tracks.truncated)


def _pack_scan(scan: MouthScan) -> dict[str, np.ndarray]:
    """Pack a scan into arrays: three of all frames, seven of each reference mouth with its number in their names."""
    arrays = {"codes": scan.codes, "why": scan.skip_reasons, "noses": scan.head_descriptors}
    for number, (key, mouth) in enumerate(sorted(scan.collector.references.items())):
        packed = {
            "key": np.array(key),
            "code": mouth.code,
            "facts": np.array([mouth.index, mouth.opening], np.float64),
            "there": mouth.crop.crop_from_frame,
            "back": mouth.crop.frame_from_crop,
            "part": np.frombuffer(mouth.picture_jpeg, np.uint8),
            "face": np.frombuffer(mouth.crop_jpeg, np.uint8),
        }
        arrays |= {f"{number}_{name}": array for name, array in packed.items()}
    return arrays


def _unpack_scan(arrays: Mapping[str, np.ndarray]) -> MouthScan:
    """Unpack what _pack_scan made."""
    references = {}
    for number in range((len(arrays) - 3) // 7):
        packed = {
            name: arrays[f"{number}_{name}"] for name in ("key", "code", "facts", "there", "back", "part", "face")
        }
        index, opening = packed["facts"]
        crop = Crop(packed["there"], packed["back"], WORK_PX)
        jpegs = packed["part"].tobytes(), packed["face"].tobytes()
        mouth = ReferenceMouth(int(index), packed["code"], float(opening), crop, *jpegs)
        references[ReferenceKey(*packed["key"].tolist())] = mouth
    return MouthScan(arrays["codes"], arrays["why"], arrays["noses"], ReferenceMouthCollector(references))

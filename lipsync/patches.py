"""What earlier runs on a film left: looks at its faces, lips of its lines, patches of its frames; a run makes only what is not there."""

import hashlib
import io
import sqlite3
import zlib
from functools import cache
from pathlib import Path

import numpy as np

from engine.film import SEGMENT_FRAMES, Patch
from face.crop import Crop
from lipsync.film import Looks, look
from lipsync.patch import WORK_PX
from lipsync.rests import Rest, RestFinder

KEPT_RUNS = 4                          # what no run of the last so many has used is thrown away
COMMIT_EVERY = 64                      # entries; a run that is killed loses no more
BLOCK_S = 2.0                          # frames are looked at in stretches this long, so that a line a little longer needs no new look
_TABLES = """CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, run INTEGER, data BLOB)"""


class Shelf:
    """Named bytes in one file. It may vanish, break or be locked by another run: then nothing is found and nothing is kept.

    path: Path; its folder is made.
    Source: ours; SQLite.
    """

    def __init__(self, path):
        self._held, self._waiting, self._run = None, 0, 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._open(path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):   # locked, or no room
                    raise
                path.unlink(missing_ok=True)                      # torn: begun anew
                self._open(path)
        except (sqlite3.Error, OSError):
            self._held = None

    def _open(self, path):
        self._held = sqlite3.connect(path, timeout=2)
        self._held.executescript("PRAGMA synchronous=OFF;" + _TABLES)
        self._run = self._held.execute("INSERT INTO runs DEFAULT VALUES").lastrowid
        self._held.commit()

    def find(self, name):
        """The bytes of that name, or None."""
        return self._tried(self._find, name)

    def _find(self, name):
        row = self._held.execute("SELECT data, run FROM entries WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        if row[1] != self._run:
            self._held.execute("UPDATE entries SET run = ? WHERE name = ?", (self._run, name))
            self._counted()
        return row[0]

    def keep(self, name, data):
        """Keeps bytes under a name."""
        self._tried(self._keep, name, data)

    def _keep(self, name, data):
        self._held.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (name, self._run, data))
        self._counted()

    def _counted(self):
        self._waiting += 1
        if self._waiting >= COMMIT_EVERY:
            self._held.commit()
            self._waiting = 0

    def _tried(self, act, *words):
        if self._held is None:
            return None
        try:
            return act(*words)
        except sqlite3.Error:
            self._held = None
            return None

    def close(self, done=True):
        """Writes what is held. done: whether the run came to its end; then what was of no use for long is thrown away."""
        def end():
            if done:
                self._held.execute("DELETE FROM entries WHERE run <= ?", (self._run - KEPT_RUNS,))
            self._held.commit()
            self._held.close()

        self._tried(end)
        self._held = None


class Kept:
    """Looks, lips and patches of one film on a Shelf, named by everything that they depend on.

    shelf: Shelf.  film: SHA-256 of the film.  made_by: what else rules, such as hashes of weights.
    counts: {kind: {"found", "made"}} of this run.
    Source: ours.
    """

    def __init__(self, shelf, film, made_by=""):
        self._shelf, self._base = shelf, f"{film}|{made_by}|{sources()}".encode()
        self._rests = {}
        self.counts = {}

    def name(self, kind, *parts):
        """A name of a kind for what depends on parts: arrays, or what str tells apart."""
        found = hashlib.sha256(self._base + kind.encode())
        for part in parts:
            if isinstance(part, np.ndarray):
                found.update(f"{part.shape}{part.dtype}".encode() + np.ascontiguousarray(part).tobytes())
            else:
                found.update(f"|{part}|".encode())
        return f"{kind}-{found.hexdigest()[:40]}"

    def _counted(self, kind, found):
        row = self.counts.setdefault(kind, {"found": 0, "made": 0})
        row["found" if found else "made"] += 1

    def arrays(self, name, make):
        """Dict of arrays (or of bytes, as uint8) of that name; made and kept where it is not there. make: callable."""
        data = self._shelf.find(name)
        if data is not None:
            with np.load(io.BytesIO(data)) as file:
                self._counted(name.split("-")[0], True)
                return dict(file)
        made, out = make(), io.BytesIO()
        np.savez(out, **made)
        self._shelf.keep(name, out.getvalue())
        self._counted(name.split("-")[0], False)
        return made

    def look(self, video, seen, wanted, models, advance=lambda n: None):
        """As film.look, from an earlier run where it looked at the same frames; frames are looked at in whole stretches of BLOCK_S."""
        wanted, out = [in_blocks(w, seen.times_s) for w in wanted], []
        for number, (track, flags) in enumerate(zip(seen.tracks, wanted)):
            name = self.name("look", track.points, track.shot, track.yaw_deg, seen.times_s, flags)
            arrays = self.arrays(name, lambda k=number: _packed(look(video, _one(seen, k), [wanted[k]], models, advance)[0]))
            out.append(_looks(arrays))
        return out

    def segments(self, frames, writer, times, advance, names):
        """The frames of segments that no earlier run has encoded; the others are appended to the writer as they were, in their turn.

        frames: triples as VideoReader.natives gives them, all of a film.  writer: FilmWriter, which writes what this gives before it asks for
        more than resync.CHUNK_FRAMES.  times: Fractions, starts of all frames.  advance: called with frames appended.  names: of the segments.
        """
        def keep(number, data):
            if number < len(names):
                self._shelf.keep(names[number], data)
                self._counted("segment", False)

        writer.on_segment, known = keep, False
        for index, time, native in frames:
            if index % SEGMENT_FRAMES == 0:
                data = self._shelf.find(names[index // SEGMENT_FRAMES]) if index // SEGMENT_FRAMES < len(names) else None
                known = data is not None
                if known:
                    self._counted("segment", True)
                    writer.append(native, times[index : index + SEGMENT_FRAMES], data)
                    advance(len(times[index : index + SEGMENT_FRAMES]))
            if not known:
                yield index, time, native

    def patch_name(self, change, index, code, rests, options):
        """The name of a frame's Patch. change: resync.Change.  index: of the frame.  code: (26,) wanted.  rests: from resync.donors."""
        told = [part for rest, share in rests for part in (self._rest(rest), float(share))]
        shown = (change.own[index], code, float(change.weight[index]), change.track.points[index])
        return self.name("patch", index, *shown, *told, options.seed, options.grain)

    def _rest(self, rest):
        key = id(rest)
        if key not in self._rests:      # the rest is held too, so that its id stays its own
            parts = (rest.code, rest.crop.crop_from_frame, np.frombuffer(rest.part, np.uint8), np.frombuffer(rest.face, np.uint8))
            self._rests[key] = rest, self.name("rest", rest.index, *parts)
        return self._rests[key][1]

    def patch(self, name):
        """The Patch of that name, or None; its pixels before and after differ as those of the one that was kept."""
        data = self._shelf.find(name)
        if data is None:
            return None
        self._counted("patch", True)
        x, y, h, w = np.frombuffer(data, np.int32, 4)
        delta = np.frombuffer(zlib.decompress(data[16:]), np.uint8).reshape(2, h, w, 3)
        return Patch(int(x), int(y), delta[1], delta[0])

    def keep_patch(self, name, patch):
        """Keeps the change that a Patch makes."""
        delta = patch.after.astype(np.int16) - patch.before
        parts = np.stack([np.maximum(delta, 0), np.maximum(-delta, 0)]).astype(np.uint8)
        head = np.array([patch.x_px, patch.y_px, *delta.shape[:2]], np.int32)
        self._shelf.keep(name, head.tobytes() + zlib.compress(parts.tobytes(), 1))
        self._counted("patch", False)


@cache
def sources():
    """Hash of what draws and writes: the source files of this room, and what encodes. Source: ours."""
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py")), here.parent / "engine" / "film.py", here.parent / "face" / "crop.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def in_blocks(flags, times_s):
    """(F,) bool: all frames of stretches of BLOCK_S in which one is flagged. flags: (F,) bool.  times_s: (F,). Source: ours."""
    block = (np.asarray(times_s) / BLOCK_S).astype(int)
    return np.isin(block, np.unique(block[flags]))


def _one(seen, number):
    """The Seen of one face of several."""
    return type(seen)(seen.times, seen.end, (seen.choices[number],), [seen.tracks[number]], seen.truncated)


def _packed(looks):
    """Arrays of Looks."""
    out = dict(codes=looks.codes, why=looks.why, noses=looks.noses)
    for k, (key, rest) in enumerate(sorted(looks.rests.found.items())):
        out |= {f"{k}_key": np.array(key), f"{k}_code": rest.code, f"{k}_facts": np.array([rest.index, rest.ajar], np.float64),
                f"{k}_there": rest.crop.crop_from_frame, f"{k}_back": rest.crop.frame_from_crop,
                f"{k}_part": np.frombuffer(rest.part, np.uint8), f"{k}_face": np.frombuffer(rest.face, np.uint8)}  # fmt: skip
    return out


def _looks(arrays):
    """Looks of such arrays."""
    found = {}
    for k in range((len(arrays) - 3) // 7):
        code, facts, there, back, part, face = (arrays[f"{k}_{name}"] for name in ("code", "facts", "there", "back", "part", "face"))
        rest = Rest(int(facts[0]), code, float(facts[1]), Crop(there, back, WORK_PX), part.tobytes(), face.tobytes())
        found[tuple(arrays[f"{k}_key"].tolist())] = rest
    return Looks(arrays["codes"], arrays["why"], arrays["noses"], RestFinder(found))

"""Data handed from one part of the program to another: articulation, followed faces, lines and takes of a dub.

Speech synthesis, face tracking and lip-sync know nothing of each other; what they exchange is defined here, typed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

# ARPABET phones in the order of the phone columns of an articulation; the first is silence
PHONES = (
    "SIL AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
).split()
SILENCE_COLUMN = PHONES.index("SIL")
VOICING_COLUMN = len(PHONES)
F0_COLUMN = len(PHONES) + 1
ENERGY_COLUMN = len(PHONES) + 2
ARTICULATION_WIDTH = len(PHONES) + 3  # columns
SILENT_ENERGY = -1.5  # energy of digital silence, in units of the log-mel scale; 0 at speaking level


@dataclass(frozen=True, eq=False)
class Articulation:
    """Describe speech by phones, voicing, pitch and energy, tick by tick at 50 Hz; raise UsageError for another shape.

    values: (T, 43) float32. Columns: probabilities of the 40 PHONES, voicing in [0, 1], F0 in octaves above 150 Hz (0
        where unvoiced), energy (0 at speaking level, SILENT_ENERGY in silence). A row of NaN is an unknown tick.
    """

    values: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != ARTICULATION_WIDTH:
            text = f"articulation of shape {self.values.shape}: need (N, {ARTICULATION_WIDTH}) at 50 Hz."
            raise UsageError(text, code="bad_articulation")

    @classmethod
    def silence(cls, ticks: int) -> Articulation:
        """Make `ticks` ticks of silence: phone SIL for certain, unvoiced, no energy."""
        values = np.zeros((ticks, ARTICULATION_WIDTH), np.float32)
        values[:, SILENCE_COLUMN] = 1
        values[:, ENERGY_COLUMN] = SILENT_ENERGY
        return cls(values)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def phone_posteriors(self) -> np.ndarray:
        """Get the probabilities of the PHONES, (T, 40)."""
        return self.values[:, : len(PHONES)]

    @property
    def speech_probability(self) -> np.ndarray:
        """Get the probability of anything but silence, (T,)."""
        return 1 - self.values[:, SILENCE_COLUMN]

    @property
    def energy(self) -> np.ndarray:
        """Get the energy, (T,)."""
        return self.values[:, ENERGY_COLUMN]

    @property
    def known(self) -> np.ndarray:
        """Get which ticks are known, (T,) bool."""
        return np.isfinite(self.values).all(1)

    def place_in_silence(self, first_tick: int, ticks: int) -> Articulation:
        """Place the articulation in `ticks` ticks of silence from `first_tick` on, which may be negative; cut it."""
        placed = Articulation.silence(ticks).values
        given = self.values[max(0, -first_tick) :]
        start = max(0, first_tick)
        placed[start : start + len(given)] = given[: max(0, ticks - start)]
        return Articulation(placed)


class TrackSegment(NamedTuple):
    """Delimit frames start_frame to end_frame (excluded) of one shot, all with the face or all without."""

    start_frame: int
    end_frame: int
    shot: int
    present: bool


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """Locate one face in every frame of a video.

    points: (F, 4, 2) pixels of the frame: both eyes, both corners of the mouth; NaN where the face is not seen.
    shot: (F,) int, number of the shot.
    yaw_deg: (F,) rough yaw of the head; NaN where the face is not seen.
    """

    points: np.ndarray
    shot: np.ndarray
    yaw_deg: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, frame: int) -> np.ndarray | None:
        """Get the points (4, 2) of a frame, None where the face is not seen."""
        points = self.points[frame]
        return points if np.isfinite(points).all() else None

    @property
    def present(self) -> np.ndarray:
        """Get whether the face is seen, (F,) bool."""
        return np.isfinite(self.points).all((1, 2))

    def spans(self) -> list[TrackSegment]:
        """Split the video at shot cuts and where the face comes or goes; give the segments in order, without gaps."""
        present = self.present
        changes = np.flatnonzero((np.diff(self.shot) != 0) | (present[1:] != present[:-1])) + 1
        edges = [0, *changes.tolist(), len(self)] if len(self) else [0]
        return [TrackSegment(a, b, int(self.shot[a]), bool(present[a])) for a, b in pairwise(edges)]


@dataclass(frozen=True, eq=False)
class FaceTracks:
    """Locate some faces of a film in every frame, with the times of the frames.

    times: F starts of frames in seconds, exact.  end: end of the last frame, seconds.
    choices: the faces as they were chosen, such as "largest".  tracks: a FaceTrack for each choice.
    truncated: whether frames that the file announces are missing.
    """

    times: list[Fraction] = field(repr=False)
    end: Fraction
    choices: tuple[str, ...]
    tracks: list[FaceTrack] = field(repr=False)
    truncated: bool = False

    @property
    def times_s(self) -> np.ndarray:
        """Get the starts of the frames, (F,) float64 seconds."""
        return np.array([float(time) for time in self.times])

    def get_track(self, choice: str) -> FaceTrack:
        """Get the track of a chosen face; raise ValueError where it was not followed."""
        return self.tracks[self.choices.index(choice)]


@dataclass(frozen=True, eq=False)
class DubLine:
    """A line of a dub whose speaker's lips have to move.

    id, speaker: of the line.  face: choice of the speaker's face, such as "largest" or "96,96".
    start_s, end_s: seconds of the film within which the mouth may change.
    first_tick: tick at 50 Hz, counted from the film's start, at which the articulation begins.
    articulation: of the spoken take; None where the voice has no plan and the dialogue must be analysed instead.
    """

    id: str
    speaker: str
    face: str
    start_s: float
    end_s: float
    first_tick: int = 0
    articulation: Articulation | None = field(default=None, repr=False)


_TAKE_FACTS = ("start_s", "duration_s", "timed_by", "needs_review", "why")  # among the facts of a recorded take
_TAKE_HASHES = ("hash", "settings_hash")  # beside them


@dataclass(frozen=True)
class Take:
    """A spoken take of a line, as a project file records it.

    file: of its sound, relative to the project's folder.  seed: of the run that made it.
    start_s, duration_s: of the sound, seconds of the film.
    timed_by: what set its times: "source" (the actor's line), "mouth" (his lips), "slot" or "text".
    needs_review, why: whether and why a person should listen.
    models: SHA-256 of each model that made it, by name.
    details: other measurements by name: voice, parts, aimed_s, prosody, mouth, hearing, notes …
    hash, settings_hash: of the line and of the settings when it was made.
    """

    file: str
    seed: int
    start_s: float
    duration_s: float
    timed_by: str
    needs_review: bool = False
    why: str = ""
    models: Mapping[str, str] = field(default_factory=dict, repr=False)
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
    hash: str = ""
    settings_hash: str = ""

    @property
    def end_s(self) -> float:
        """Get the second of the film at which the sound ends."""
        return self.start_s + self.duration_s

    @property
    def voice(self) -> str:
        """Get the name of the voice, "" where it is unknown."""
        return self.details.get("voice", "")

    @property
    def aimed_s(self) -> list[float] | None:
        """Get the [first, last] second that the sound was laid on, None where the slot alone set its times."""
        return self.details.get("aimed_s")

    @property
    def parts(self) -> list[dict[str, Any]]:
        """Get what was measured of the parts of the line; [{}] where nothing was."""
        return self.details.get("parts") or [{}]

    @property
    def hearing(self) -> dict[str, Any]:
        """Get what a recognizer heard in the take: heard, lost, wer, recogniser; {} where none listened."""
        return self.details.get("hearing") or {}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Take:
        """Read a take of a project file."""
        details = dict(record["facts"])
        named = {name: details.pop(name) for name in (*_TAKE_FACTS, "models") if name in details}
        hashes = {name: record[name] for name in _TAKE_HASHES if name in record}
        return cls(file=record["file"], seed=record.get("seed", 0), details=details, **named, **hashes)

    def as_dict(self) -> dict[str, Any]:
        """Give the take as a project file records it; the hashes only where they are set."""
        facts = {name: getattr(self, name) for name in _TAKE_FACTS} | dict(self.details) | {"models": dict(self.models)}
        hashes = {name: getattr(self, name) for name in _TAKE_HASHES if getattr(self, name)}
        return {"file": self.file, "seed": self.seed, "facts": facts} | hashes

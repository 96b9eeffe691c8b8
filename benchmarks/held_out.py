"""Whom `quality.py` makes speak, and what: people kept out of every training, drawn faces, a long reading."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from stylize import STYLES, stylize

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.media.images import read_image, write_image
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.training.data.manifest import load_held_out, read_rows

PARTS = ("held", "other", "portraits", "paintings", "long")
# a minute of reading, whose end is its beginning again: what drifts is then not what is said
LONG_S, REPEAT_S = 60.0, 10.0
LONG_READER, LONG_PORTRAIT = 0, 20  # numbers of the reader and of the portrait among those kept out
SENTENCE_S = (2.5, 4.5)  # of readers, for portraits and paintings
# blinks a minute of portraits and paintings, so that three seconds show some
BLINKS_PER_MINUTE = 40.0
STYLIZED_EVERY = 4  # every fourth portrait kept out is painted


@dataclass(frozen=True)
class HeldOutCase:
    """One video to be made and measured.

    name: of its files.  portrait, sound: paths.  against: the real clip, or None.
    lines: (path of a recording, its text or None, where it starts in the sound, s), to be aligned.
    asked: options of `animate` that are not the usual ones.
    """

    name: str
    portrait: Path
    sound: Path
    against: Path | None
    lines: tuple
    asked: dict = field(default_factory=dict)


def write_first_frame(video, path):
    """Path of the first frame of a clip as a picture file: the portrait of its own speaker."""
    if not path.is_file():
        with VideoReader(video) as reader:
            write_image(path, next(iter(reader)).pixels)
    return path


class HeldOutMaterial:
    """What is kept out of the training data.

    data: folder with manifest.jsonl.  out: folder in which pictures and sounds made for the purpose are put.
    Source: configs/held_out.toml.
    """

    def __init__(self, data, out):
        self.data, self.out, split = data, out, load_held_out()
        self.talk = [r for r in read_rows(data, ("talk",)) if Path(r["path"]).stem in split["talk"]]
        self.others = read_rows(data, ("talk-eval",))
        stills = sorted(read_rows(data, ("portrait",)), key=lambda r: r["path"])
        self.stills = [
            data / r["path"] for k, r in enumerate(stills) if k % split["portraits_every"] == split["portraits_at"]
        ]
        self.read = [r for r in read_rows(data, ("speech",)) if r.get("speaker") in split["readers"]]
        self.readers = split["readers"]

    def list_cases(self, part, most=None):
        """Return the cases of one of PARTS, at most so many."""
        return getattr(self, f"_{part}")()[:most]

    def _held(self):
        return [self._make_clip_case(f"held_{k:02d}", r) for k, r in enumerate(self.talk)]

    def _other(self):
        return [self._make_clip_case(f"other_{k:02d}", r) for k, r in enumerate(self.others)]

    def _make_clip_case(self, name, row):
        video, sound = self.data / row["path"], self.data / row["audio"]
        return HeldOutCase(
            name,
            write_first_frame(video, self.out / f"{name}_portrait.png"),
            sound,
            video,
            ((sound, row.get("text"), 0.0),),
        )

    def _choose_sound(self, k):
        """Row of the sound number k: sentences of GRID, which begin and end in silence, and of readers by turns."""
        if k % 2 == 0:
            row = self.talk[k // 2 % len(self.talk)]
            return self.data / row["audio"], row.get("text")
        short = [r for r in self.read if SENTENCE_S[0] <= r["duration_s"] <= SENTENCE_S[1]]
        row = short[(k // 2 * 5) % len(short)]
        return self.data / row["path"], row["text"]

    def _portraits(self):
        return [self._make_portrait_case(f"portrait_{k:02d}", still, k) for k, still in enumerate(self.stills)]

    def _make_portrait_case(self, name, picture, k):
        sound = self._choose_sound(k)
        return HeldOutCase(name, picture, sound[0], None, ((*sound, 0.0),), dict(seed=k, blink_rate=BLINKS_PER_MINUTE))

    def _paintings(self):
        made = []
        for k, still in enumerate(self.stills[2::STYLIZED_EVERY]):
            path = self.out / f"painting_{k:02d}_portrait.png"
            if not path.is_file():
                write_image(path, stylize(read_image(still).pixels, STYLES[k % len(STYLES)], k))
            made.append(self._make_portrait_case(f"painting_{k:02d}", path, k))
        return made

    def _long(self):
        rows = [r for r in self.read if r["speaker"] == self.readers[LONG_READER]]
        lines, waves, start_s = [], [], 0.0
        for row in rows:
            if start_s >= LONG_S - REPEAT_S:
                break
            waves.append(read_sound(self.data / row["path"], RATE_HZ, mono=True).samples[0])
            lines.append((self.data / row["path"], row["text"], start_s))
            start_s += len(waves[-1]) / RATE_HZ
        whole = [line for line, wave in zip(lines, waves) if line[2] + len(wave) / RATE_HZ <= LONG_S - REPEAT_S]
        lines = [*whole, (*lines[0][:2], LONG_S - REPEAT_S)]
        sound = self.out / "long_sound.wav"
        if not sound.is_file():
            once, again = (round(s * RATE_HZ) for s in (LONG_S - REPEAT_S, REPEAT_S))
            wave = np.concatenate(waves)[:once]
            write_sound(sound, Sound(np.concatenate([wave, wave[:again]])[None], RATE_HZ))
        return [HeldOutCase("long_00", self.stills[LONG_PORTRAIT], sound, None, tuple(lines))]

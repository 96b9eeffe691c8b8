"""Options of `speak` and of `dub`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.config import Options, option, reject_unused_options
from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.asr.recognizers import REVIEW_CHOICES
from mouthpiece.voice.scripts.sdh import SDH_CHOICES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mouthpiece.voice.scripts.script_format import ScriptReadOptions
    from mouthpiece.voice.timing.prosody_transfer import ProsodyOptions

MATCH_VOICE = "match"  # the voice that is nearest to the actor's
SCRIPT_OPTIONS = ("cue_rate", "encoding", "styles", "sdh")  # how a script file is read
FILM_OPTIONS = ("prosody", "register", "register_shift", "lip_timing", "face")  # how the actor in a film is followed


@dataclass(frozen=True)
class DialogueOptions(Options):
    """Say how the lines of a script are spoken, in `speak` and in `dub`.

    Raises UsageError naming the flag, the value and what is accepted.
    """

    voice: str | None = option(
        None, "a voice or mix for all, or NAME=VOICE,NAME=VOICE for speakers; 'match' is nearest to the actor"
    )
    language: str | None = option(
        None, "what is spoken, such as en-us, en-gb or fr; the script's or the voice's own by default"
    )
    speed: float = option(1.0, "tempo of the voice before lines are fitted", low=0.5, high=2.0)
    takes: int = option(1, "takes of each line that differ in tempo, melody and pauses", low=1, high=20)
    seed: int = option(0, "same seed, same input, same machine type: same output", low=0, high=2**31 - 1)
    prosody: str = option(
        "source", "times, melody and loudness of the actor's own line: source, neutral, or a share from 0 to 1"
    )
    register: str = option(
        "source", "whose register the melody has: the actor's or the voice's own", choices=("source", "voice")
    )
    register_shift: float = option(
        0.0, "moves the register further", unit="semitones", low=-12.0, high=12.0, advanced=True
    )
    lip_timing: str = option(
        "auto", "let visible lips time lines that the recording does not", choices=("auto", "off"), formerly="mouth"
    )
    face: str = option("largest", "whose lips: largest, an index from 0, or x,y[,width] in pixels")
    recognizer: str = option("auto", "what hears every line back", choices=REVIEW_CHOICES, formerly="listen")
    dictionary: Path | None = option(None, "file with pronunciations of your own words")
    cue_rate: Fraction | None = option(None, "frames a second of timecodes in a cue sheet, such as 25 or 24000/1001")
    encoding: str | None = option(None, "character set of the script, when it is guessed wrongly")
    styles: str | None = option(
        None, "the styles of an ASS script that are dialogue: NAME,NAME; by default all but signs and karaoke"
    )
    sdh: str = option(
        "drop",
        "captions for the deaf, such as [door slams] and >> NAME: leave sounds out and read names, or keep all",
        choices=SDH_CHOICES,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        from mouthpiece.face.detect import parse_face_choice

        parse_face_choice(self.face)
        self.get_prosody_options()

    def get_script_reading(self, duration: Fraction) -> ScriptReadOptions:
        """Get how a script file is read. duration: of the film, exact seconds."""
        from mouthpiece.voice.scripts.script_format import ScriptReadOptions

        return ScriptReadOptions(
            duration=duration, cue_rate=self.cue_rate, encoding=self.encoding, styles=self.styles, sdh=self.sdh
        )

    def reject_unused_prosody(self, flags: Mapping[str, Any]) -> None:
        """Reject options that rest on the actor's own line where it is not followed. Raises UsageError.

        flags: options given one by one, by name.
        """
        from mouthpiece.voice.timing.prosody_transfer import parse_prosody_amount

        if parse_prosody_amount(self.prosody) == 0:
            reject_unused_options(
                flags,
                ("register", "register_shift"),
                f"with --prosody {self.prosody}",
                "The voice speaks in its own way; leave it out, or give --prosody a share.",
            )

    def get_prosody_options(self) -> ProsodyOptions:
        """Get how much of the actor's prosody is transferred."""
        from mouthpiece.voice.timing.prosody_transfer import ProsodyOptions

        return ProsodyOptions(self.prosody, self.register, self.register_shift)


@dataclass(frozen=True)
class SpeakOptions(DialogueOptions):
    """Say how `speak` works: as for dialogue, and how long a text without a script lasts.

    Raises UsageError as DialogueOptions does.
    """

    slot: float | None = option(None, "for --text: the line shall last so long", unit="s", low=0.0, high=3600.0)


@dataclass(frozen=True)
class DubOptions(DialogueOptions):
    """Say how `dub` works: as for dialogue, and what sounds and is seen beside it.

    Raises UsageError as DialogueOptions does.
    """

    lines: str | None = option(None, "speak these again, as ids or places: 3,7-9; by default those that changed")
    bed: str = option("separate", "what sounds beside the dialogue: separate, keep, mute, or a file of your own")
    loudness: str = option("r128", "r128, netflix, web, or LUFS as a number")
    lips: bool = option(True, "move the lips of lines that do not follow the actor's own timing")
    faces: str | None = option(None, "whose face is whose: NAME=FACE;NAME=FACE, faces as for --face", formerly="map")
    on_missing_face: str = option(
        "pass", "frames without the face: leave them, hold the line, or fail", choices=("pass", "hold", "fail")
    )
    auto: bool = option(
        False, "without a script: go on with what was recognised instead of stopping for you to edit it"
    )
    quality: int = option(17, "H.264 quality, less is better", unit="crf", low=0, high=51)
    device: str = option("auto", "auto, cpu, or a GPU by name and number; a wrong one lists what is accepted")

    def __post_init__(self) -> None:
        super().__post_init__()
        from mouthpiece.engine.audio.loudness_targets import parse_loudness_target

        parse_loudness_target(self.loudness)
        parse_face_map(self.faces)


def parse_face_map(text: str | None) -> dict[str, str]:
    """Parse --faces into faces by speaker; None gives none. Raises UsageError."""
    from mouthpiece.face.detect import parse_face_choice

    faces = {}
    for part in filter(None, (part.strip() for part in (text or "").split(";"))):
        speaker, equals, face = (x.strip() for x in part.rpartition("="))
        if not equals or not speaker or not face:
            raise UsageError(
                f"--faces {text}: '{part}' names no speaker or no face.",
                hint="Write NAME=FACE;NAME=FACE.",
                code="bad_option",
            )
        parse_face_choice(face)
        faces[speaker] = face
    return faces

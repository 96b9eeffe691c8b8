"""Talking portraits and dubbing from one audio-visual core.

>>> import mouthpiece
>>> result = mouthpiece.animate("portrait.png", "line.wav", "out.mp4", size=96, fps=12)
>>> result.output.name, result.facts["frames"]
('out.mp4', 5)

Every function is a command of the same name and writes the same files; errors are MouthpieceErrors.
"""

from importlib import import_module
from pathlib import Path

if not (Path(__file__).parent / "engine").is_dir():  # a checkout: the other rooms lie beside this folder, not in it
    __path__.append(str(Path(__file__).resolve().parent.parent))

from mouthpiece.animate import animate  # noqa: E402 - the path comes first
from mouthpiece.dub import dub  # noqa: E402
from mouthpiece.engine import __version__  # noqa: E402
from mouthpiece.engine.errors import (  # noqa: E402
    ExitCode,
    InvalidInputError,
    MissingDependencyError,
    MouthpieceError,
    OutputError,
    UsageError,
)
from mouthpiece.engine.progress import ProgressEvent  # noqa: E402
from mouthpiece.evaluate import evaluate  # noqa: E402
from mouthpiece.job import Result  # noqa: E402
from mouthpiece.lip_sync import lipsync  # noqa: E402
from mouthpiece.sound import sound  # noqa: E402
from mouthpiece.speak import speak  # noqa: E402
from mouthpiece.transcribe import transcribe  # noqa: E402

__all__ = [
    "ExitCode",
    "InvalidInputError",
    "MissingDependencyError",
    "MouthpieceError",
    "OutputError",
    "ProgressEvent",
    "Result",
    "UsageError",
    "__version__",
    "animate",
    "dub",
    "evaluate",
    "lipsync",
    "sound",
    "speak",
    "transcribe",
]

# A module of this package has the name of each function, and the name means the function: it lends the function its
# attributes, so that dotted names such as mouthpiece.lipsync.options still lead on.
for _function in (animate, lipsync, speak, dub, sound, transcribe, evaluate):
    _function.__dict__ = vars(import_module(f"mouthpiece.{_function.__name__}"))

"""The networks of the embedded model, loaded together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mouthpiece.engine.encoders.motion import build_motion_encoder
from mouthpiece.engine.encoders.phonetic import load_phonetic_encoder
from mouthpiece.engine.weights.loading import load_state
from mouthpiece.lipsync.motion.speech_to_motion import SpeechMotionModels, load_core
from mouthpiece.lipsync.portrait.opening_segmenter import load_opening_segmenter
from mouthpiece.lipsync.portrait.renderer import load_face_renderer

if TYPE_CHECKING:
    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.encoders.motion import MotionEncoder
    from mouthpiece.lipsync.portrait.opening_segmenter import OpeningSegmenter
    from mouthpiece.lipsync.portrait.renderer import FaceRenderer


@dataclass(frozen=True, eq=False)
class LipsyncModels(SpeechMotionModels):
    """The embedded model, in eval.

    encoder: crops of a face -> expression codes.  renderer: on its device; all others run on the CPU.
    opening_segmenter: finds where eyes and mouth are open.
    """

    encoder: MotionEncoder
    renderer: FaceRenderer
    opening_segmenter: OpeningSegmenter


def load_models(placement: Placement) -> LipsyncModels:
    """Load all parts of the embedded model from the package's weights.

    placement: of the renderer.
    Raises MissingDependencyError for weights that are missing, broken or of another version.
    """
    renderer = load_face_renderer(placement)
    encoder, space = build_motion_encoder(*load_state("motion"))
    segmenter = load_opening_segmenter()
    return LipsyncModels(load_phonetic_encoder(), load_core(), space, encoder, renderer, segmenter)

"""What passes between the renderer and those who draw frames: a prepared reference goes in, parts of a frame come out.

Nothing here knows a network. All is in the space of the working crop: places in units of the crop, pictures of WORK_PX.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    from mouthpiece.lipsync.portrait.lip_line import MouthLogits


@dataclass(frozen=True, eq=False)
class ReferenceFace:
    """Hold a picture of a face, analysed once, from which frames are rendered.

    crop: (3, 192, 192) float32, the working crop in [-1, 1].
    teeth: (5, 64, 112) float32 on the mouth patch, as `teeth.to_teeth_tensor` makes it.
    mouth: what was found in the mouth patch.
    """

    crop: torch.Tensor
    teeth: torch.Tensor
    mouth: MouthLogits


@dataclass(frozen=True, eq=False)
class FrameParts:
    """Hold what one frame needs to be drawn, as numpy float32.

    flow: (n, n, 2) over the whole crop, where each place reads the reference, relative, in units of the crop.
    paint: (64, 112, 4) of the mouth patch: colours 0-255 times their cover, and the cover in [0, 1].
    teeth_light: (64, 112) light in [0, 1] on teeth that are to be laid over the paint; None where they are in it.
    """

    flow: np.ndarray
    paint: np.ndarray
    teeth_light: np.ndarray | None = None

"""The embedded renderer, `animate --model mini`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mouthpiece.engine.weights.model_cache import get_cached_model
from mouthpiece.lipsync.options import AnimateOptions

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.progress import Progress
    from mouthpiece.lipsync.models import LipsyncModels
    from mouthpiece.lipsync.options import PortraitOptions
    from mouthpiece.lipsync.portrait.animation_job import AnimateJob


class MiniRenderer:
    """Move a portrait with the networks that ship with the package; a `renderers.PortraitRenderer`."""

    options_class = AnimateOptions
    own_options = AnimateOptions

    def check(self, options: PortraitOptions, placement: Placement) -> None:
        """Load the networks: they are small. Raises MissingDependencyError."""
        self.load_models(options, placement)

    def load_models(self, options: PortraitOptions, placement: Placement) -> LipsyncModels:
        """Load all parts of the embedded model. Raises MissingDependencyError."""
        from mouthpiece.lipsync.models import load_models

        return get_cached_model(load_models, placement)

    def animate(
        self,
        job: AnimateJob[AnimateOptions],
        output: Path,
        models: LipsyncModels,
        placement: Placement,
        progress: Progress,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write the video, as `portrait.pipeline.animate`."""
        from mouthpiece.lipsync.portrait.pipeline import animate

        return animate(job, output, models, placement, progress, overwrite)

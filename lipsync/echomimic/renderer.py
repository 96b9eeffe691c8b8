"""EchoMimic's networks as renderers, `animate --model echomimic` and `--model echomimic-acc`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mouthpiece.engine.weights.model_cache import get_cached_model
from mouthpiece.lipsync.echomimic.options import EchoMimicAccOptions, EchoMimicControls, EchoMimicOptions

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.progress import Progress
    from mouthpiece.lipsync.echomimic.weights import EchoMimicModels
    from mouthpiece.lipsync.portrait.animation_job import AnimateJob


class EchoMimicRenderer:
    """Draw a portrait anew with EchoMimic's diffusion networks; a `renderers.PortraitRenderer`."""

    options_class: type[EchoMimicOptions] = EchoMimicOptions
    own_options = EchoMimicControls

    def check(self, options: EchoMimicOptions, placement: Placement) -> None:
        """Look whether the converted weights lie where they should. Raises MissingDependencyError."""
        from mouthpiece.lipsync.echomimic.weights import locate_files

        locate_files(options.model, options.weights)

    def load_models(self, options: EchoMimicOptions, placement: Placement) -> EchoMimicModels:
        """Load a variant's networks. Raises MissingDependencyError; UsageError for --speed without speed layers."""
        from mouthpiece.lipsync.echomimic.pipeline import check_speed
        from mouthpiece.lipsync.echomimic.weights import load_models

        models = get_cached_model(load_models, placement, options.model, options.weights)
        check_speed(options, models)
        return models

    def animate(
        self,
        job: AnimateJob[EchoMimicOptions],
        output: Path,
        models: EchoMimicModels,
        placement: Placement,
        progress: Progress,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write the video, as `echomimic.pipeline.animate`."""
        from mouthpiece.lipsync.echomimic.pipeline import animate

        return animate(job, output, models, placement, progress, overwrite)


class EchoMimicAccRenderer(EchoMimicRenderer):
    """Draw a portrait anew with the distilled networks, in a fifth of the steps."""

    options_class = EchoMimicAccOptions

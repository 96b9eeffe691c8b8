"""The table of portrait renderers: what can stand behind `--model`, and the interface that each one has.

A new renderer is one module with a class of this interface, one row of RENDERERS, and its training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mouthpiece.engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from mouthpiece.engine.config import Options
    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.progress import Progress
    from mouthpiece.lipsync.options import PortraitOptions
    from mouthpiece.lipsync.portrait.animation_job import AnimateJob


class PortraitRenderer(Protocol):
    """Turn a portrait and a sound into a video.

    options_class: option dataclass, with `model` preset to the renderer's name.
    own_options: those of its options that the renderers before it in the table do not have; None where there are none.
    """

    @property
    def options_class(self) -> type[PortraitOptions]: ...

    @property
    def own_options(self) -> type[Options] | None: ...

    def check(self, options: Any, placement: Placement) -> None:
        """Find out, without rendering, whether the renderer can run. Raises MissingDependencyError where it cannot.

        options: of `options_class`.
        """

    def load_models(self, options: Any, placement: Placement) -> Any:
        """Load the networks, placed and in eval; `animate` takes what is returned.

        options: of `options_class`.
        Raises MissingDependencyError for weights that are missing, broken or of another version, UsageError for options
        that they cannot follow.
        """

    def animate(
        self,
        job: AnimateJob[Any],
        output: Path,
        models: Any,
        placement: Placement,
        progress: Progress,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write the video and return its facts for the side-car, JSON-ready.

        job: from `prepare_animation`, with options of `options_class`.  output: a name ending in one of VIDEO_SUFFIXES.
        models, placement: of `load_models`.  overwrite: replace an existing file.
        Raises UsageError for the name, OutputError for the disk.
        """


def _make_mini() -> PortraitRenderer:
    from mouthpiece.lipsync.portrait.mini import MiniRenderer

    return MiniRenderer()


def _make_echomimic() -> PortraitRenderer:
    from mouthpiece.lipsync.echomimic.renderer import EchoMimicRenderer

    return EchoMimicRenderer()


def _make_echomimic_acc() -> PortraitRenderer:
    from mouthpiece.lipsync.echomimic.renderer import EchoMimicAccRenderer

    return EchoMimicAccRenderer()


# what --model accepts -> makes the renderer; the first row is the default, modules are imported when they are wanted
RENDERERS: dict[str, Callable[[], PortraitRenderer]] = {
    "mini": _make_mini,
    "echomimic": _make_echomimic,
    "echomimic-acc": _make_echomimic_acc,
}
DEFAULT_RENDERER = next(iter(RENDERERS))


def get_renderer(name: str) -> PortraitRenderer:
    """Return the renderer of a name. Raises UsageError for a name that is not in the table."""
    if name not in RENDERERS:
        raise UsageError(f"--model {name}: need {' or '.join(RENDERERS)}.", code="bad_option")
    return RENDERERS[name]()


def get_option_classes() -> dict[str, type[PortraitOptions]]:
    """Return the option dataclass of each renderer."""
    return {name: make().options_class for name, make in RENDERERS.items()}


def list_option_groups() -> dict[str, type[Options]]:
    """List the flags of `animate` in groups, title -> option dataclass: one for each `own_options`."""
    owners: dict[type[Options], list[str]] = {}
    for name, make in RENDERERS.items():
        own = make().own_options
        if own is not None:
            owners.setdefault(own, []).append(name)
    return {
        "animate" if DEFAULT_RENDERER in names else f"with --model {' or '.join(names)}": own
        for own, names in owners.items()
    }

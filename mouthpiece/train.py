"""Train: the recipes that made the embedded weights, and the fine-tuning of a public renderer, stage by stage."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mouthpiece.engine.errors import UsageError
from mouthpiece.job import Result
from mouthpiece.json_values import to_json

if TYPE_CHECKING:
    from mouthpiece.engine.progress import Progress

Report = Callable[..., None]  # called with numbers or dicts of numbers now and then
ECHOMIMIC_PREFIX = "echomimic-"  # of the stages that fine-tune that public model


@dataclass(frozen=True)
class TrainRequest:
    """A stage to be run.

    stage: one of STAGES.  out: working folder; a run continues where it stopped.
    data: folder with manifest.jsonl, for the stages that read one.
    start: folder of weights to begin with, for EchoMimic's stages; None: what is in `out`, else the pulled ones.
    minutes: budget of the whole run, earlier parts included; None: the stage's own.
    workers: processes that prepare data.  device: where networks learn.  seed: of the stages that draw.
    """

    stage: str
    out: Path
    data: Path | None = None
    start: Path | None = None
    minutes: float | None = None
    workers: int = 2
    device: str = "auto"
    seed: int = 0

    @property
    def data_folder(self) -> Path:
        """Return `data`, which check_request made sure of for the stages that read it."""
        if self.data is None:
            raise UsageError(f"train {self.stage}: --data is missing.", code="usage")
        return self.data

    def get_training_arguments(self, report: Report) -> dict[str, Any]:
        """Return the arguments that the stages share which train a network."""
        budget = {} if self.minutes is None else {"minutes": self.minutes}
        return dict(seed=self.seed, report=report, device=self.device) | budget


def run_train(request: TrainRequest, progress: Progress) -> Result:
    """Run one stage of the training.

    Raises UsageError for arguments that do not fit the stage, and what the stage raises.
    """
    check_request(request)

    def report(*facts: Any) -> None:
        progress.note(" ".join(json.dumps(fact) if isinstance(fact, dict) else f"{fact:.4g}" for fact in facts))

    facts = STAGES[request.stage](request, report)
    return Result("train", {"stage": request.stage, "facts": facts}, f"{request.stage}: {to_json(facts)}")


def check_request(request: TrainRequest) -> None:
    """Check that the arguments fit the stage. Raises UsageError."""
    stage = request.stage
    if stage in STAGES_WITH_DATA and request.data is None:
        hint = "Give the folder that holds manifest.jsonl."
        raise UsageError(f"train {stage}: --data is missing.", hint=hint, code="usage")
    if request.minutes is not None and not 0 < request.minutes < math.inf:
        raise UsageError(f"--minutes {request.minutes:g}: need a number above 0.", code="bad_option")
    if request.start is not None and not stage.startswith(ECHOMIMIC_PREFIX):
        message = f"train {stage}: --start belongs to the stages of echomimic."
        raise UsageError(message, hint="Leave it out.", code="usage")
    if request.workers < 1:
        raise UsageError(f"--workers {request.workers}: need at least 1.", code="bad_option")


def _write_crops(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.data.face_crops import write_crops

    return write_crops(request.data_folder, request.out, request.workers, report)


def _write_puppets(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.data.puppets import write_puppets

    return write_puppets(request.out, workers=request.workers, progress=report)


def _align_clips(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.data.forced_alignment import align_clips

    return align_clips(request.data_folder, request.out, request.workers, report)


def _write_synthetic_voices(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.data.synthetic_voices import write_synthetic_voices
    from mouthpiece.voice.text_to_speech import synthesize_for_face

    return write_synthetic_voices(request.data_folder, request.out, synthesize_for_face, request.seed, report)


def _write_motion_codes(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.data.motion_codes import write_motion_codes

    return write_motion_codes(request.data_folder, request.out)


def _write_encoded_clips(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.data.encoded_clips import write_encoded_clips

    return write_encoded_clips(request.out, request.workers, report)


def _train_motion(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.motion import train

    return train(request.out, **request.get_training_arguments(report))


def _train_phonetic(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.phonetic import train

    return train(request.out, **request.get_training_arguments(report))


def _train_core(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.core import train

    return train(request.out, **request.get_training_arguments(report))


def _train_renderer(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.renderer import train

    return train(request.out, **request.get_training_arguments(report))


def _train_finder(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.finder import train

    return train(request.out, **request.get_training_arguments(report))


def _embed_weights(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.embed import embed_weights

    return embed_weights(request.out)


def _write_echomimic_clips(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.echomimic import write_training_clips

    return write_training_clips(request.data_folder, request.out, request.start, device=request.device, progress=report)


def _fine_tune_echomimic(request: TrainRequest, report: Report) -> Any:
    from mouthpiece.training.echomimic import train

    stage = request.stage.removeprefix(ECHOMIMIC_PREFIX)
    return train(request.out, stage, start=request.start, **request.get_training_arguments(report))


# in the order in which they are run; docs/training.md says what each reads and writes
STAGES: dict[str, Callable[[TrainRequest, Report], Any]] = {
    "crops": _write_crops,
    "puppets": _write_puppets,
    "align": _align_clips,
    "voices": _write_synthetic_voices,
    "motion": _train_motion,
    "phonetic": _train_phonetic,
    "codes": _write_motion_codes,
    "reads": _write_encoded_clips,
    "core": _train_core,
    "renderer": _train_renderer,
    "finder": _train_finder,
    "embed": _embed_weights,
    "echomimic-clips": _write_echomimic_clips,
    "echomimic-image": _fine_tune_echomimic,
    "echomimic-video": _fine_tune_echomimic,
    "echomimic-speed": _fine_tune_echomimic,
}
STAGES_WITH_DATA = ("crops", "align", "voices", "codes", "echomimic-clips")  # they read manifest.jsonl

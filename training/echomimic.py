"""EMO's three stages for the EchoMimic architecture: pictures, then films with sound, then head speed; to fine-tune or
to begin anew.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import median_filter
from torch.nn import functional as F

from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.timeline import MOTION_HZ
from mouthpiece.engine.weights.loading import load_state_into
from mouthpiece.face.detect import find_faces_mtcnn
from mouthpiece.face.measure import measure_frames
from mouthpiece.lipsync.echomimic.audio_encoder import AudioFeatures, gather_tokens
from mouthpiece.lipsync.echomimic.config import WINDOW_FRAMES
from mouthpiece.lipsync.echomimic.face_region import make_face_region_mask, make_square_crop
from mouthpiece.lipsync.echomimic.networks import Denoiser
from mouthpiece.lipsync.echomimic.sampling import TRAINING_STEPS, compute_betas
from mouthpiece.lipsync.echomimic.weights import load_models, locate_files, write_safetensors
from mouthpiece.training.data.face_crops import DETECT_EVERY_FRAMES, resample_to_clock
from mouthpiece.training.data.manifest import read_rows, require_stage
from mouthpiece.training.training_run import TrainingRun, choose_training_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

STAGES = ("image", "video", "speed")
MOTION_FRAMES = 4  # shown clean before a window, EMO's motion frames
MOTION_FRAMES_SHARE = 0.5  # of the windows that have them
CONDITION_DROP_SHARE = 0.1  # of the items that are given no conditions, so that guidance works
PEAK_RATE = 1e-5  # EMO's learning rate in all stages
SPEED_BUCKETS, SPEED_MEDIAN_FRAMES = 9, 5
MAX_CLIP_FRAMES = 300
LICENCE = "as the weights and the data it was trained from"


@dataclass(frozen=True, eq=False)
class EchoMimicExample:
    """A window of a clip with the picture that it is drawn from.

    latents: (f, 4, h, w).  portrait: (1, 4, h, w), another moment of the clip.
    audio: (1, f, 50, W).  mask: (1, 1, 8 h, 8 w) in [0, 1].  speed: (1, f), head rotation in rad a second.
    Source: EMO, 2402.17485 section 4.1.
    """

    latents: torch.Tensor
    portrait: torch.Tensor
    audio: torch.Tensor
    mask: torch.Tensor
    speed: torch.Tensor

    def to(self, device: torch.device) -> EchoMimicExample:
        """Copy the example to a device."""
        return EchoMimicExample(*(tensor.to(device) for tensor in vars(self).values()))


def measure_head_speed(frames: Iterable[np.ndarray]) -> np.ndarray:
    """Return (N,) rad a second: how fast the head turns in each frame at 25 Hz; 0 where no face is seen. Source: EMO
    section
    3.2.
    """
    measures = measure_frames(frames)
    turns = np.radians(np.stack([measures.yaw_deg, measures.pitch_deg, measures.roll_deg], 1))
    speed = np.linalg.norm(np.diff(turns, axis=0, prepend=turns[:1]), axis=1) * float(MOTION_HZ)
    return median_filter(np.nan_to_num(speed), SPEED_MEDIAN_FRAMES, mode="nearest").astype(np.float32)


def encode_training_clip(
    video: Path, sound: Path, models: Any, detail: int, device: torch.device
) -> dict[str, np.ndarray] | None:
    """Return arrays of a talking clip for training: latents, states, mask, speed; None without a face.

    video, sound: paths.  models: EchoMimicModels.  detail: side of the square, px.  device: torch.device of the VAE.
    Source: EMO, 2402.17485 section 4.1: the region is the union of the face's boxes.
    """
    with VideoReader(video) as reader:
        frames = [pixels for pixels, _ in zip(resample_to_clock(reader), range(MAX_CLIP_FRAMES))]
    boxes = np.array([faces[0].box_xyxy for faces in map(find_faces_mtcnn, frames[::DETECT_EVERY_FRAMES]) if faces])
    if not len(boxes):
        return None
    union = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    crop = make_square_crop(union, frames[0].shape[1], frames[0].shape[0], detail)
    taken = np.stack([crop.extract(frame) for frame in frames])
    with torch.inference_mode():
        pixels = torch.from_numpy(taken).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = torch.cat([models.vae.encode(part.to(device)).cpu() for part in pixels.split(4)])
        features = AudioFeatures(models.audio_encoder, read_sound(sound, RATE_HZ, mono=True).samples[0])
        states = features.get_states(range(features.states)).cpu()
    mask = (255 * make_face_region_mask(union, crop)).round().astype(np.uint8)
    return {
        "latents": latents.half().numpy(),
        "states": states.half().numpy(),
        "mask": mask,
        "speed": measure_head_speed(frames),
    }


def write_training_clips(
    data: Path,
    out: Path,
    start: Path | None = None,
    detail: int = 512,
    device: str = "auto",
    progress: Callable[..., Any] | None = None,
) -> int:
    """Write OUT/echomimic-clips/NAME.npz for every talking clip; resumes. Returns the number of files there.

    data: folder with manifest.jsonl.  out: working folder.  start: folder with VAE and audio encoder; None is the
    cache.
    detail: side of the square, px, a multiple of 16.  device: one of DEVICE_CHOICES.  progress: called with (done,
    all).
    Raises MissingDependencyError for weights that are not there.
    """
    placement = choose_training_device(device)
    models = load_models(placement, "echomimic", start)
    rows, folder = read_rows(data, ("talk",)), Path(out) / "echomimic-clips"
    folder.mkdir(parents=True, exist_ok=True)
    for done, row in enumerate(rows, start=1):
        target = folder / f"{Path(row['path']).stem}.npz"
        if not target.exists():
            made = encode_training_clip(
                Path(data) / row["path"], Path(data) / row["audio"], models, detail, placement.device
            )
            if made is not None:
                with atomic_write(target) as part:
                    np.savez(part, **made)
        if progress:
            progress(done, len(rows))
    return len(list(folder.glob("[!.]*.npz")))


def sample_example(paths: list[Path], frames: int, rng: np.random.Generator) -> EchoMimicExample:
    """Draw an EchoMimicExample of so many frames from one of the files of `write_training_clips`.

    rng: decides everything.
    Source: EMO, 2402.17485 section 4.1.
    """
    saved = np.load(paths[rng.integers(len(paths))])
    count = len(saved["latents"])
    start = int(rng.integers(max(1, count - frames + 1)))
    at = np.minimum(np.arange(start, start + frames), count - 1)
    audio = gather_tokens(torch.from_numpy(saved["states"]).float(), count, MOTION_HZ)[:, at]
    latents, other = torch.from_numpy(saved["latents"]).float(), int(rng.integers(count))
    mask = torch.from_numpy(saved["mask"])[None, None].float() / 255
    return EchoMimicExample(
        latents[at], latents[other : other + 1], audio, mask, torch.from_numpy(saved["speed"][at])[None]
    )


class TrainableNetworks(torch.nn.Module):
    """Hold the networks that learn together. models: EchoMimicModels, whose VAE and audio encoder stay as they are."""

    def __init__(self, models: Any) -> None:
        super().__init__()
        self.reference, self.locator, self.denoiser = models.reference, models.locator, models.denoiser

    def select_parameters(self, stage: str) -> list[torch.nn.Parameter]:
        """Return parameters that a stage trains; all others are held. stage: one of STAGES. Source: EMO section 3.3."""
        self.requires_grad_(False)
        self.denoiser.use_motion = stage != "image"
        for name, parameter in self.named_parameters():
            motion, audio = (
                ".motion_modules." in name,
                ".attn2." in name or ".norm2." in name and "transformer_blocks" in name,
            )
            speed = "speed_" in name
            of = {
                "image": not (motion or audio or speed),
                "video": (motion or audio) and not speed,
                # audio attention is held on purpose: the head's speed must not steal the mouth's link to the sound
                "speed": motion or speed,
            }
            parameter.requires_grad_(of[stage])
        return [p for p in self.parameters() if p.requires_grad]

    def loss(self, example: EchoMimicExample, stage: str, generator: torch.Generator) -> torch.Tensor:
        """Return the mean squared error of v over the frames that are not shown clean.

        stage: one of STAGES.  generator: of the CPU, so that a run repeats.
        Source: v-prediction, 2202.00512; clean frames before the window: EMO's motion frames, shown to the network
        itself.
        """
        latents = example.latents.transpose(0, 1)[None]
        frames, device = latents.shape[2], latents.device
        time = int(torch.randint(TRAINING_STEPS, (), generator=generator))
        bar = float(torch.cumprod(1 - compute_betas(), 0)[time])
        noise = torch.randn(latents.shape, generator=generator).to(device)
        x, wanted = bar**0.5 * latents + (1 - bar) ** 0.5 * noise, bar**0.5 * noise - (1 - bar) ** 0.5 * latents
        times, kept = torch.full((1, frames), float(time), device=device), 0
        chance, dropped = torch.rand(2, generator=generator).tolist()
        if stage != "image" and frames > MOTION_FRAMES and chance < MOTION_FRAMES_SHARE:
            kept = MOTION_FRAMES
            x, times = (
                torch.cat([latents[:, :, :kept], x[:, :, kept:]], 2),
                torch.where(torch.arange(frames, device=device) < kept, 0.0, times),
            )
        known = dropped >= CONDITION_DROP_SHARE
        audio = example.audio if known and stage != "image" else torch.zeros_like(example.audio)
        condition = {"audio": audio, "face": self.locator(example.mask) * known, "known": torch.tensor([known])}
        if stage == "speed":
            condition["speed"] = example.speed
        made = self.denoiser(x, times, condition, self.reference(example.portrait) if known else {})
        return F.mse_loss(made[:, :, kept:].float(), wanted[:, :, kept:])


def add_speed_layers(models: Any, buckets: int = SPEED_BUCKETS) -> Any:
    """Add speed layers to models, which change nothing until they are trained; return the same models where they are
    there already.

    Source: EMO.
    """
    if models.shape.speed_buckets:
        return models
    shape = replace(models.shape, speed_buckets=buckets)
    denoiser = Denoiser(shape)
    fresh = {key: tensor for key, tensor in denoiser.state_dict().items() if "speed_" in key}
    load_state_into(denoiser, models.denoiser.state_dict() | fresh, "denoising with speed layers")
    return replace(models, denoiser=denoiser.to(models.denoiser.conv_in.weight.device), shape=shape)


def save_networks(networks: TrainableNetworks, shape: Any, start_files: dict[str, Path], folder: Path) -> None:
    """Write what `animate --weights FOLDER` takes: the networks as they are now, VAE and audio encoder
    as they were.

    shape: NetworkConfig.  start_files: of `locate_files`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = networks.denoiser.state_dict()
    motion = {key: tensor for key, tensor in state.items() if ".motion_modules." in key}
    parts = {
        "reference": networks.reference.state_dict(),
        "locator": networks.locator.state_dict(),
        "motion": motion,
        "denoising": {key: tensor for key, tensor in state.items() if key not in motion},
    }
    for name, tensors in parts.items():
        write_safetensors(folder / f"{name}.safetensors", tensors, shape.as_dict(), LICENCE)
    for name in ("vae", "ears"):
        if not (folder / f"{name}.safetensors").exists():
            with atomic_write(folder / f"{name}.safetensors") as part:
                shutil.copyfile(start_files[name], part)


def train(
    out: Path,
    stage: str,
    minutes: float = 60.0,
    seed: int = 0,
    report: Callable[..., Any] | None = None,
    *,
    start: Path | None = None,
    device: str = "auto",
    batch: int = 4,
    steps: int | None = None,
    peak: float = PEAK_RATE,
) -> dict[str, float]:
    """Train one of STAGES on OUT/echomimic-clips and write OUT/echomimic; return steps and mean loss of the last
    tenth.

    out: working folder.  stage: one of STAGES, in this order.  minutes: budget of the stage, earlier parts included.
    report: as for `TrainingRun.advance`.
    start: folder of weights to begin with; None continues OUT/echomimic where it is there, else the pulled ones.
    device: one of DEVICE_CHOICES.  batch: windows a step.  steps: stop after so many, None for the budget alone.
    peak: highest learning rate.
    Raises UsageError for another stage or when `clips` has not run, MissingDependencyError for weights or a GPU that is
    not there.
    Source: EMO, 2402.17485 section 3.3.
    """
    if stage not in STAGES:
        raise UsageError(f"train echomimic {stage}: no such stage.", hint=f"Choose one of {', '.join(STAGES)}.")
    paths = sorted(require_stage("echomimic-clips", Path(out) / "echomimic-clips").glob("[!.]*.npz"))
    if not paths:
        raise InvalidInputError(
            f"{out}: no clip with a face was found.", hint="Give --data talking clips of one person each."
        )
    torch.manual_seed(seed)
    placement, target = replace(choose_training_device(device), dtype=torch.float32), Path(out) / "echomimic"
    if start is None and (target / "motion.safetensors").exists():
        start = target
    models = load_models(placement, "echomimic", start)
    models = add_speed_layers(models) if stage == "speed" else models
    networks = TrainableNetworks(models)
    optimizer = torch.optim.AdamW(networks.select_parameters(stage), peak, weight_decay=0.01)
    run = TrainingRun(Path(out) / f"echomimic-{stage}.ckpt", dict(net=networks), dict(net=optimizer), minutes)
    rng, generator = np.random.default_rng([seed, run.step]), torch.Generator().manual_seed(seed + run.step)
    losses = []
    while run.done < 1 and (steps is None or run.step < steps):
        optimizer.zero_grad()
        total = 0.0
        for _ in range(batch):
            example = sample_example(paths, 1 if stage == "image" else WINDOW_FRAMES + MOTION_FRAMES, rng)
            loss = networks.loss(example.to(placement.device), stage, generator) / batch
            if loss.requires_grad:
                loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_([p for p in networks.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        losses.append(total)
        run.advance(dict(loss=total), peak, report, every=20, warmup=10)
    run.save()
    save_networks(networks, models.shape, locate_files("echomimic", start), target)
    last = losses[-max(1, len(losses) // 10) :]
    return {"steps": run.step, "loss": float(np.mean(last)) if last else float("nan")}

"""Training of the AV core: motion and articulation of talking clips, each stream given, generated or absent."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mouthpiece.engine.core import ABSENT, CODE_WIDTH, GENERATED, GIVEN, AVCore, StreamConditions, pack_streams
from mouthpiece.engine.encoders.motion import BLINK_INDEX, EXPRESSION_WIDTH
from mouthpiece.engine.encoders.phonetic import PhoneticEncoder, encode_articulation
from mouthpiece.engine.sampling import FlowAdapter, Guidance, draw_item_noise, make_flow_levels, sample
from mouthpiece.engine.weights.loading import load_state_into, read_state, save_state
from mouthpiece.face.measure import correlate_at_lag
from mouthpiece.training.core_batches import ITEM_TICKS, CoreBatches, compute_speaker_odds, normalize_code_opening
from mouthpiece.training.data.forced_alignment import load_labelled_clips, load_synthetic_voices
from mouthpiece.training.data.manifest import is_held_out, load_held_out, require_stage
from mouthpiece.training.lip_reading import (
    LipBatches,
    compute_lip_loss,
    load_encoded_clips,
    measure_phone_lengths,
    score_lips,
)
from mouthpiece.training.pseudo_labels import RidgeTeacher
from mouthpiece.training.training_run import (
    TrainingRun,
    WeightAverage,
    choose_training_device,
    fit,
    load_earlier_weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PEAK_RATE = 6e-4  # learning rate
LIP_LOSS_WEIGHT, LIP_LOSS_EVERY = 0.6, 3  # of the lips' cross entropy beside the flow, in one of so many steps


def load_codes(path: Path) -> dict[str, dict[str, dict]]:
    """Return {part: {name: dict(code (N, 32), opening (N,), mel (80, 4 N))}} of codes.npz. Source:
    training/data/motion_codes.py.
    """
    d = np.load(path)
    out: dict[str, dict[str, dict]] = {}
    for key in d.files:
        part, name, field = key.split("|")
        out.setdefault(part, {}).setdefault(name, {})[field] = d[key].astype(np.float32)
    return out


def make_loss_weights() -> torch.Tensor:
    """Return the weight of each number of the code (32,): mouth first."""
    w = torch.ones(CODE_WIDTH)
    w[:BLINK_INDEX] = 1 / (1 + 0.12 * torch.arange(BLINK_INDEX))
    w[:3] *= 2
    w[BLINK_INDEX:EXPRESSION_WIDTH] = 0.5
    w[EXPRESSION_WIDTH:] = 0.4
    return w


def compute_flow_loss(
    net: Callable | AVCore,
    packed: torch.Tensor,
    known: StreamConditions,
    generator: torch.Generator,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the flow-matching error of the generated streams, motion and articulation apart: mean over their ticks.

    packed: (B, T, 118) clean.  known: of the same ticks.  generator: on the CPU, wherever the rest lies.
    weights: (32,) or (B, 1, 32) of the motion's numbers.
    Source: 2210.02747 with times drawn as in 2403.03206 section 3.1.
    """
    time = torch.sigmoid(torch.randn(len(packed), generator=generator)).to(packed.device)
    noise = torch.randn(packed.shape, generator=generator).to(packed.device)
    x = (1 - time[:, None, None]) * noise + time[:, None, None] * packed
    made = net(x, time, known)
    error = (made - (packed - noise)) ** 2
    return _average_generated(error[..., :CODE_WIDTH] * weights, known.motion), _average_generated(
        error[..., CODE_WIDTH:], known.articulation
    )


def _average_generated(error: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Return the mean of an error (B, T, D) over the ticks that are generated; 0 when none is."""
    generated = (state == GENERATED)[..., None].float()
    return (error * generated).sum() / (generated.sum() * error.shape[-1]).clamp_min(1)


@torch.inference_mode()
def sample_motion(
    net: AVCore, articulation: torch.Tensor, seed: int = 0, steps: int = 8, guidance: float = 1.0, item: str = "0"
) -> torch.Tensor:
    """Return the motion (T, 32) sampled in one window.

    articulation: (2 T, 43).  steps: of the sampler.  guidance: 1 is as learned.  item: name the noise depends on beside
    the seed.
    """
    sound = torch.as_tensor(articulation)[None]
    ticks = sound.shape[1] // 2
    values = pack_streams(torch.zeros(1, ticks, CODE_WIDTH), sound)
    motion_state = torch.full((1, ticks), GENERATED)
    condition, null = (
        StreamConditions(values, motion_state, torch.full_like(motion_state, state)) for state in (GIVEN, ABSENT)
    )
    noise = draw_item_noise(values.shape[1:], seed, [item])
    if guidance == 1.0:
        out = sample(FlowAdapter(net), noise, make_flow_levels(steps), condition)
    else:
        out = sample(
            FlowAdapter(net), noise, make_flow_levels(steps), [condition], null=null, guidance=Guidance((guidance,))
        )
    return out[0, :, :CODE_WIDTH]


@torch.inference_mode()
def score_core(
    net: AVCore,
    encoder: PhoneticEncoder,
    lips: torch.Tensor,
    clips: dict[str, dict[str, np.ndarray]],
    guidance: float = 1.0,
    limit: int = 75,
) -> dict[str, float]:
    """Score the mouth opening of sampled motion against the teacher's: mean correlation, mean best lag in ticks
    (positive is late), amplitude ratio.

    lips: (26,) of the motion space.  clips: a part of `load_codes`.  limit: ticks of each clip.
    """
    rows = []
    for name, clip in sorted(clips.items()):
        n = min(len(clip["code"]), limit)
        articulation = encode_articulation(encoder, torch.from_numpy(clip["mel"])[None, :, : 4 * n])[0]
        made = (sample_motion(net, articulation, guidance=guidance)[:, :EXPRESSION_WIDTH] @ lips).numpy()
        real = clip["opening"][:n]
        lagged = [correlate_at_lag(real, made, lag) for lag in range(-3, 4)]
        rows.append((lagged[3], max(lagged), int(np.argmax(lagged)) - 3, made.std() / real.std()))
    r = np.array(rows)
    return dict(
        correlation=float(r[:, 0].mean()),
        at_best_lag=float(r[:, 1].mean()),
        lag_ticks=float(r[:, 2].mean()),
        amplitude=float(np.median(r[:, 3])),
    )


def load_earlier_core(path: Path, net: AVCore, average: AVCore) -> None:
    """Load earlier weights into both nets, if there are any; tensors they lack keep their initialization.

    Weights of a net without phone similarity are converted: the first layer is multiplied by the ridge-regularized
    inverse of the similarity matrix, so that it gives nearly the same activations.
    """
    load_earlier_weights(path, "core", net, average)
    similarity = net.phone_similarity
    if path.exists() and similarity is not None and not read_state(path, "core")[1].get("relatives"):
        unit = torch.eye(len(similarity))
        turn = torch.linalg.solve(similarity + 0.1 * unit, unit)
        for module in (net, average):
            with torch.no_grad():
                convolution: Any = module.sound_in[0]
                weight = convolution.weight[:, : len(turn)]
                weight.copy_(torch.einsum("okt,jk->ojt", weight, turn))


def load_lip_rows(out: Path, parts: dict[str, dict[str, dict]], lips: torch.Tensor) -> dict[str, list[tuple]]:
    """Return {part: rows of `load_encoded_clips`} of the clips in parts, which name them as crop files are named."""
    labels = {Path(n).stem: c for n, c in load_labelled_clips(out / "phones.npz").items()}
    folder = require_stage("reads", out / "reads")
    return {
        k: load_encoded_clips(folder, [Path(f"{name}.npz") for name in sorted(parts[k])], labels, lips.numpy())
        for k in ("clips", "held_clips", "known_clips")
        if k in parts
    }


def fit_teacher(encoder: PhoneticEncoder, clips: dict[str, dict[str, np.ndarray]]) -> RidgeTeacher:
    """Return the RidgeTeacher that clips, a part of `load_codes`, fit. encoder: on the CPU."""
    names = sorted(clips)
    rows = [
        (code := normalize_code_opening(clips[n]["code"], clips[n]["opening"]), clips[n]["mel"][:, : 4 * len(code)])
        for n in names
    ]
    return RidgeTeacher(encoder, rows, compute_speaker_odds(names))


def train(
    out: Path,
    minutes: float = 15.0,
    seed: int = 0,
    report: Callable[..., Any] | None = None,
    batch: int = 16,
    weights: Path | None = None,
    *,
    device: str = "auto",
) -> dict[str, Any]:
    """Train on OUT/codes.npz, OUT/phones.npz and what `train voices` made, if it is there, with
    OUT/phonetic.safetensors; returns scores by part.

    out: working folder.  minutes: whole budget, earlier parts included.
    report: as for `TrainingRun.advance`.  batch: items a step.  weights: file to write; None is OUT/core.safetensors.
    device: one of DEVICE_CHOICES; what is saved lies on the CPU.
    A core.safetensors that is there without a checkpoint is trained on.
    Raises UsageError when an earlier stage is missing or for another device, MissingDependencyError for a GPU that is
    not there.
    """
    torch.manual_seed(seed)
    out, placement = Path(out), choose_training_device(device)
    data = load_core_data(out)
    net = AVCore(relatives=True)
    average = WeightAverage(net)
    load_earlier_core(out / "core.safetensors", net, average.module)
    net, average.module = net.to(placement.device), average.module.to(placement.device)
    optimizer = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=0.1, betas=(0.9, 0.98))
    run = TrainingRun(out / "core.ckpt", dict(net=net, average=average.module), dict(net=optimizer), minutes)
    encoder, weight = deepcopy(data.encoder).to(placement.device), make_loss_weights().to(placement.device)
    clips, teacher = data.parts["clips"], fit_teacher(data.encoder, data.parts["clips"])
    batches = CoreBatches(clips, data.speech, encoder, seed + run.step, phones=data.phones, teacher=teacher)
    lip_batches = LipBatches(data.lip_rows["clips"], ITEM_TICKS, seed + run.step)

    def compute_step(step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        packed, known, counted = batches.draw(batch)
        lip_motion, ids = (x.to(placement.device) for x in lip_batches.draw(batch))
        phones = torch.zeros(())
        with placement.autocast():
            motion, sound = compute_flow_loss(net, packed, known, batches.generator, weight * counted)
            if step % LIP_LOSS_EVERY == 0:
                phones = compute_lip_loss(net, lip_motion, ids)
        loss = motion + 0.5 * sound + LIP_LOSS_WEIGHT * phones
        return loss, dict(motion=motion, sound=sound, phones=LIP_LOSS_EVERY * phones)

    core = fit(run, average, compute_step, PEAK_RATE, report)
    facts = score_parts(core, data)
    save_state(weights or out / "core.safetensors", core.state_dict(), dict(core.config, facts=facts, steps=run.step))
    return facts


@dataclass(frozen=True, eq=False)
class CoreData:
    """Hold what the core is trained and scored on.

    encoder: frozen phonetic encoder on the CPU.  parts: of `load_codes`.
    speech: labelled clips of training speakers, real and synthetic.
    phones: {clip name: phone ids (T,) at 100 Hz} of the talking clips that are labelled.
    lips: (26,) direction of the mouth opening in the motion space.  lip_rows: {part: rows of `load_encoded_clips`}.
    """

    encoder: PhoneticEncoder
    parts: dict[str, dict[str, dict]]
    speech: dict[str, dict[str, Any]]
    phones: dict[str, np.ndarray]
    lips: torch.Tensor
    lip_rows: dict[str, list[tuple]]


def load_core_data(out: Path) -> CoreData:
    """Load the CoreData of a working folder. Raises UsageError when an earlier stage is missing."""
    state, config = read_state(require_stage("phonetic", out / "phonetic.safetensors"), "phonetic")
    encoder = load_state_into(PhoneticEncoder(config["width"], config["dilations"]), state, "phonetic").eval()
    parts, split = load_codes(require_stage("codes", out / "codes.npz")), load_held_out()
    recordings = load_labelled_clips(require_stage("align", out / "phones.npz"))
    by_stem = {Path(n).stem: c["phones"] for n, c in recordings.items()}
    phones = {n: by_stem[n.split("__", 2)[2]] for n in parts["clips"] if n.split("__", 2)[2] in by_stem}
    speech = recordings | load_synthetic_voices(out)
    speech = {n: c for n, c in speech.items() if not is_held_out(n, c["speaker"], split)}
    lips = torch.from_numpy(np.load(out / "space.npz")["lips"])
    return CoreData(encoder, parts, speech, phones, lips, load_lip_rows(out, parts, lips))


def score_parts(core: AVCore, data: CoreData) -> dict[str, Any]:
    """Score a core on the parts it was not trained on: {part: scores of motion, "lips": {part: scores of reading}}."""
    scored = [k for k in ("held_clips", "known_clips", "eval") if k in data.parts]
    facts: dict[str, Any] = {k: score_core(core, data.encoder, data.lips, data.parts[k]) for k in scored}
    lengths = measure_phone_lengths(data.lip_rows["clips"])
    read = [k for k in ("held_clips", "known_clips") if k in data.lip_rows]
    facts["lips"] = {k: score_lips(core, data.lip_rows[k], lengths) for k in read}
    return facts

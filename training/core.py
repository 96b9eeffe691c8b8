"""Training of the AV core: motion and articulation of talking clips, each stream given, generated or absent."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mouthpiece.engine.core import ABSENT, CODE_WIDTH, GENERATED, GIVEN, AVCore, StreamConditions, pack_streams
from mouthpiece.engine.encoders.motion import BLINK_INDEX, EXPRESSION_WIDTH
from mouthpiece.engine.encoders.phonetic import PhoneticEncoder, encode_articulation
from mouthpiece.engine.sampling import FlowAdapter, Guidance, draw_item_noise, make_flow_levels, sample
from mouthpiece.engine.weights.loading import load_state_into, read_state, save_state
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
from mouthpiece.training.training_run import TrainingRun, WeightAverage, choose_training_device, load_earlier_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PEAK_RATE = 6e-4  # learning rate
LIP_LOSS_WEIGHT, LIP_LOSS_EVERY = 0.6, 3  # of the lips' cross entropy beside the flow, in one of so many steps


def load_codes(path: Path) -> dict[str, dict[str, dict]]:
    """Return {part: {name: dict(code (N, 32), opening (N,), mel (80, 4 N))}} of codes.npz. Source:
    training/data/motion_codes.py.
    """
    d, out = np.load(path), {}
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
    wanted = (state == GENERATED)[..., None].float()
    return (error * wanted).sum() / (wanted.sum() * error.shape[-1]).clamp_min(1)


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
    wanted = torch.full((1, ticks), GENERATED)
    told, untold = (StreamConditions(values, wanted, torch.full_like(wanted, state)) for state in (GIVEN, ABSENT))
    noise = draw_item_noise(values.shape[1:], seed, [item])
    if guidance == 1.0:
        out = sample(FlowAdapter(net), noise, make_flow_levels(steps), told)
    else:
        out = sample(
            FlowAdapter(net), noise, make_flow_levels(steps), [told], null=untold, guidance=Guidance((guidance,))
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
    """Return the mouth opening of sampled motion against the teacher's: mean correlation, mean best lag in ticks (late
    is
    positive), amplitude ratio.

    lips: (26,) of the motion space.  clips: a part of `load_codes`.  limit: ticks of each clip.
    """
    rows = []
    for name, clip in sorted(clips.items()):
        n = min(len(clip["code"]), limit)
        heard = encode_articulation(encoder, torch.from_numpy(clip["mel"])[None, :, : 4 * n])[0]
        made = (sample_motion(net, heard, guidance=guidance)[:, :EXPRESSION_WIDTH] @ lips).numpy()
        real = clip["opening"][:n]
        lagged = [correlate_at_lag(made, real, lag) for lag in range(-3, 4)]
        rows.append((lagged[3], max(lagged), int(np.argmax(lagged)) - 3, made.std() / real.std()))
    r = np.array(rows)
    return dict(
        correlation=float(r[:, 0].mean()),
        at_best_lag=float(r[:, 1].mean()),
        lag_ticks=float(r[:, 2].mean()),
        amplitude=float(np.median(r[:, 3])),
    )


def correlate_at_lag(made: np.ndarray, real: np.ndarray, lag_ticks: int) -> float:
    """Return the correlation of two tracks (T,) when the made one comes lag_ticks late. Source: Pearson."""
    late, early = max(0, lag_ticks), max(0, -lag_ticks)
    return np.corrcoef(made[late : len(made) - early], real[early : len(real) - late])[0, 1]


def load_earlier_core(path: Path, net: AVCore, average: AVCore) -> None:
    """Fill both nets from earlier weights, if there are any; what those lack stays as at birth.

    A net that hears likenesses takes over one that heard phones: its first layer then gives nearly what it gave.
    Source: ours; ridge inverse of the likenesses.
    """
    load_earlier_weights(path, "core", net, average)
    if path.exists() and net.config["relatives"] and not read_state(path, "core")[1].get("relatives"):
        turn = torch.linalg.solve(
            net.phone_similarity + 0.1 * torch.eye(len(net.phone_similarity)), torch.eye(len(net.phone_similarity))
        )
        for module in (net, average):
            with torch.no_grad():
                weight = module.sound_in[0].weight[:, : len(turn)]
                weight.copy_(torch.einsum("okt,jk->ojt", weight, turn))


def load_lip_rows(out: Path, parts: dict[str, dict[str, dict]], lips: torch.Tensor) -> dict[str, list[tuple]] | None:
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
) -> dict[str, Any] | None:
    """Train on OUT/codes.npz, OUT/phones.npz and what `train voices` made, if it is there, with
    OUT/phonetic.safetensors; returns scores by part.

    out: working folder.  minutes: whole budget, earlier parts included.
    report: as for `Run.advance`.  batch: items a step.  weights: file to write; None is OUT/core.safetensors.
    device: one of DEVICE_CHOICES; what is saved lies on the CPU.
    A core.safetensors that is there without a checkpoint is trained on.
    Raises UsageError when an earlier stage is missing or for another device, MissingDependencyError for a GPU that is
    not there.
    """
    torch.manual_seed(seed)
    out, placement = Path(out), choose_training_device(device)
    state, config = read_state(require_stage("phonetic", out / "phonetic.safetensors"), "phonetic")
    encoder = load_state_into(PhoneticEncoder(config["width"], config["dilations"]), state, "phonetic").eval()
    parts, split = load_codes(require_stage("codes", out / "codes.npz")), load_held_out()
    speech = load_labelled_clips(require_stage("align", out / "phones.npz"))
    said = {Path(n).stem: c["phones"] for n, c in speech.items()}
    said = {n: said[n.split("__", 2)[2]] for n in parts["clips"] if n.split("__", 2)[2] in said}
    speech = {n: c for n, c in (speech | load_synthetic_voices(out)).items() if not is_held_out(n, c["speaker"], split)}
    net = AVCore(relatives=True)
    average = WeightAverage(net)
    load_earlier_core(out / "core.safetensors", net, average.module)
    net, average.module = net.to(placement.device), average.module.to(placement.device)
    optimizer = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=0.1, betas=(0.9, 0.98))
    run = TrainingRun(out / "core.ckpt", dict(net=net, average=average.module), dict(net=optimizer), minutes)
    ears, weight = deepcopy(encoder).to(placement.device), make_loss_weights().to(placement.device)
    batches = CoreBatches(
        parts["clips"], speech, ears, seed + run.step, phones=said, teacher=fit_teacher(encoder, parts["clips"])
    )
    lips = torch.from_numpy(np.load(out / "space.npz")["lips"])
    read = load_lip_rows(out, parts, lips)
    faces = LipBatches(read["clips"], ITEM_TICKS, seed + run.step)
    while run.done < 1:
        packed, known, counted = batches.draw(batch)
        seen, ids = (x.to(placement.device) for x in faces.draw(batch))
        phones = torch.zeros(())
        with placement.autocast():
            motion, sound = compute_flow_loss(net, packed, known, batches.generator, weight * counted)
            if run.step % LIP_LOSS_EVERY == 0:
                phones = compute_lip_loss(net, seen, ids)
        optimizer.zero_grad()
        (motion + 0.5 * sound + LIP_LOSS_WEIGHT * phones).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update(net, run.step)
        run.advance(
            dict(motion=motion.item(), sound=sound.item(), phones=LIP_LOSS_EVERY * phones.item()), PEAK_RATE, report
        )
    run.save()
    core = average.module.cpu()
    facts = {k: score_core(core, encoder, lips, parts[k]) for k in ("held_clips", "known_clips", "eval") if k in parts}
    facts["lips"] = {
        k: score_lips(core, read[k], measure_phone_lengths(read["clips"]))
        for k in ("held_clips", "known_clips")
        if k in read
    }
    save_state(weights or out / "core.safetensors", core.state_dict(), dict(core.config, facts=facts, steps=run.step))
    return facts

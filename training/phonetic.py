"""Training of the phonetic encoder: log-mel to phones, voicing and F0."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from mouthpiece.engine.encoders.phonetic import F0_REFERENCE_HZ, PhoneticEncoder
from mouthpiece.engine.timeline import interpolate_track
from mouthpiece.engine.weights.loading import save_state
from mouthpiece.training.augment import augment, draw_uniform
from mouthpiece.training.data.forced_alignment import UNKNOWN_PHONE, load_labelled_clips, load_synthetic_voices
from mouthpiece.training.data.manifest import is_held_out, load_held_out, require_stage
from mouthpiece.training.time_warp import make_singing_warp, make_tempo_warp
from mouthpiece.training.training_run import (
    TrainingRun,
    WeightAverage,
    choose_training_device,
    fit,
    load_earlier_weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

ITEM_TICKS = 150  # 3 s a training item
SPEAKER_BALANCE = 0.35  # a speaker of n clips is drawn as often as n ** SPEAKER_BALANCE says
SINGING_SHARE = 0.12  # share of items whose vowels are held
PEAK_RATE = 1.5e-3  # learning rate


def compute_clip_odds(clips: dict[str, Any], names: list[str]) -> np.ndarray:
    """Compute how likely each clip is drawn (N,): speakers with many clips less than their number, others more."""
    count = Counter(clips[n]["speaker"] for n in names)
    odds = np.array([count[clips[n]["speaker"]] ** (SPEAKER_BALANCE - 1.0) for n in names])
    return odds / odds.sum()


def sample_batch(
    clips: dict[str, Any],
    names: list[str],
    count: int,
    generator: torch.Generator,
    plain: bool = False,
    odds: np.ndarray | None = None,
) -> tuple[torch.Tensor, ...]:
    """Return a batch: mel (B, 80, 300), phones (B, 150) with -1 unknown, F0 in octaves (B, 150), masks of voiced and
    known
    pitch (B, 150).

    clips: of `load_labelled_clips`.  names: which of them.  count: B.
    plain: True leaves out disguise, song and change of tempo.
    odds: (len(names),) of `compute_clip_odds`; None draws all alike.
    """
    weights = torch.ones(len(names)) if odds is None else torch.from_numpy(odds)
    drawn = [names[k] for k in torch.multinomial(weights, count + 4, replacement=True, generator=generator)]
    others = [torch.from_numpy(clips[n]["mel"]) for n in drawn[count:]]
    items = [_sample_item(clips[n], others, generator, plain) for n in drawn[:count]]
    mel, phones, f0 = (torch.stack(x) for x in zip(*items))
    voiced = f0 > 0
    octaves = torch.where(voiced, (f0.clamp_min(40) / F0_REFERENCE_HZ).log2(), 0)
    return mel, phones, octaves, voiced, f0 >= 0


def _sample_item(
    clip: dict[str, Any], others: list[torch.Tensor], generator: torch.Generator, plain: bool
) -> tuple[torch.Tensor, ...]:
    """Return (mel (80, 300), phones (150,) with -1 unknown, F0 (150,) Hz with -1 unknown) of a stretch of a clip."""
    tempo = 1.0 if plain else draw_uniform(0.75, 1.35, generator)
    need = int(2 * ITEM_TICKS * tempo) + 2
    start = 2 * (int(draw_uniform(0, max(1, clip["mel"].shape[1] - need), generator)) // 2)
    mel, phones = (
        clip["mel"][:, start : start + need].astype(np.float32),
        clip["phones"][start : start + need].astype(np.int64),
    )
    f0 = clip["f0"][start // 2 : (start + need) // 2].astype(np.float32)
    if not plain:
        mel = augment(torch.from_numpy(mel), others, generator).numpy()
        at = (
            make_singing_warp(phones, generator)
            if draw_uniform(0, 1, generator) < SINGING_SHARE
            else make_tempo_warp(len(phones), tempo)
        )
        at, nearest = at[: 2 * ITEM_TICKS], np.minimum(np.rint(at[: 2 * ITEM_TICKS]).astype(int), len(phones) - 1)
        mel, phones = interpolate_track(mel.T, at).T, phones[nearest]
        f0 = f0[np.minimum(nearest[::2] // 2, len(f0) - 1)] if len(f0) else f0
    mel, phones, f0 = (
        torch.from_numpy(np.ascontiguousarray(x))
        for x in (mel[:, : 2 * ITEM_TICKS], phones[: 2 * ITEM_TICKS], f0[:ITEM_TICKS])
    )
    phones = torch.where(phones == UNKNOWN_PHONE, -1, phones)
    return (
        F.pad(mel, (0, 2 * ITEM_TICKS - mel.shape[1]), value=float(mel.min())),
        F.pad(phones, (0, 2 * ITEM_TICKS - len(phones)), value=-1)[::2],
        F.pad(f0, (0, ITEM_TICKS - len(f0)), value=-1),
    )


def compute_losses(net: torch.nn.Module, batch: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the phone cross-entropy, voicing cross-entropy, F0 error in octaves on voiced ticks, by name.

    batch: of `sample_batch`.
    """
    mel, phones, octaves, voiced, known = batch
    logits, voicing, f0 = net(mel)
    return dict(
        phones=F.cross_entropy(logits.transpose(1, 2), phones, ignore_index=-1, label_smoothing=0.05),
        voicing=F.binary_cross_entropy_with_logits(voicing[known], voiced[known].float()),
        f0=(f0 - octaves)[voiced].abs().mean(),
    )


@torch.inference_mode()
def score_encoder(
    net: torch.nn.Module, clips: dict[str, Any], names: list[str], plain: bool = True
) -> dict[str, float]:
    """Return the share of frames right, of voicing right, median F0 error in semitones: on plain speech, or under
    disguise.
    """
    g = torch.Generator().manual_seed(1)
    mel, phones, octaves, voiced, known = sample_batch(clips, names, 96, g, plain=plain)
    logits, voicing, f0 = net(mel)
    return dict(
        frames_right=float((logits.argmax(-1) == phones)[phones >= 0].float().mean()),
        voicing_right=float(((voicing > 0) == voiced)[known].float().mean()),
        f0_semitones=float(12 * (f0 - octaves)[voiced].abs().median()),
    )


def train(
    out: Path,
    minutes: float = 12.0,
    seed: int = 0,
    report: Callable | None = None,
    batch: int = 16,
    weights: Path | None = None,
    *,
    device: str = "auto",
) -> dict[str, Any]:
    """Train on OUT/phones.npz, and OUT/voices.npz where there is one; writes the weights and returns their scores on
    readers kept out.

    out: working folder.  minutes: whole budget, earlier parts included.
    report: as for `TrainingRun.advance`.  batch: items a step.
    weights: file to write; None is OUT/phonetic.safetensors.
    device: one of DEVICE_CHOICES; what is saved lies on the CPU.
    A phonetic.safetensors that is there without a checkpoint is trained on.
    Raises UsageError when an earlier stage is missing or for another device, MissingDependencyError for a GPU that is
    not there.
    """
    torch.manual_seed(seed)
    placement, out = choose_training_device(device), Path(out)
    split, clips = (
        load_held_out(),
        load_labelled_clips(require_stage("align", out / "phones.npz")) | load_synthetic_voices(out),
    )
    kept = [n for n, c in clips.items() if is_held_out(n, c["speaker"], split)]
    names = [n for n in clips if n not in set(kept)]
    net = PhoneticEncoder().to(placement.device)
    optimizer = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=0.02)
    average, odds = WeightAverage(net), compute_clip_odds(clips, names)
    load_earlier_weights(out / "phonetic.safetensors", "phonetic", net, average.module)
    run = TrainingRun(out / "phonetic.ckpt", dict(net=net, average=average.module), dict(net=optimizer), minutes)
    generator = torch.Generator().manual_seed(seed + run.step)

    def compute_step(step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        drawn = [x.to(placement.device) for x in sample_batch(clips, names, batch, generator, odds=odds)]
        with placement.autocast():
            losses = compute_losses(net, drawn)
        return losses["phones"] + 0.3 * losses["voicing"] + losses["f0"], losses

    encoder = fit(run, average, compute_step, PEAK_RATE, report)
    readers = [n for n in kept if clips[n]["speaker"] in split["readers"]]
    facts: dict[str, Any] = {}
    if readers:
        facts |= score_encoder(encoder, clips, readers)
        facts["disguised"] = score_encoder(encoder, clips, readers, plain=False)
    save_state(
        weights or out / "phonetic.safetensors", encoder.state_dict(), dict(net.config, facts=facts, steps=run.step)
    )
    return facts

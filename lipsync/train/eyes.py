"""Training of the eye finder, taught by the mesh on portraits and clips."""
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from engine.train.manifest import is_common
from engine.train.schedule import Average, Run, begin_from, place
from engine.weights import save_state
from lipsync.eyes import CROP_PX, EYE_AT, EYE_HEIGHT_PX, EYE_WIDTH_PX, EyeFinder
from lipsync.train.mesh import LID_LOWER, LID_UPPER, aperture
from lipsync.train.motion import recolour
from lipsync.train.space import meshed, split_files

PEAK = 2e-3                            # learning rate
CORNERS = ((33, 133), (263, 362))      # outer and inner, of the eye at the left of the picture and the other
ALIKE_TICKS = 25                       # a clip shows its eye this often, and where it is most shut
CLIP_ODDS = 0.25                       # a clip's eye is drawn so much less often than a portrait's
HIDDEN = 0.04                          # share of eyes behind something dark
FINER = 4                              # the wanted share is drawn so much larger


def outline(marks, eye):
    """(16, 2) outline of an open eye on the unit square. marks: (468 or more, 2).  eye: 0 at the left of the picture, 1. Source: ours."""
    outer, inner = CORNERS[eye]
    return marks[[outer, *LID_UPPER[eye], inner, *LID_LOWER[eye][::-1]]]


class Examples:
    """Crops with both outlines. clips, puppets: paths of crop files, of talking clips and of portraits. Source: ours."""

    def __init__(self, clips, portraits):
        self.items, odds = [], []
        for path, marks in meshed(clips):
            wide = aperture(marks[..., :2])
            ticks = sorted({*range(0, len(marks), ALIKE_TICKS), int(wide.argmin())})
            frames = np.load(path)["frames"]
            for t in ticks:
                self._add(frames[t], marks[t, :, :2])
                odds += [CLIP_ODDS * (0.1 if is_common(path.name) else 1.0)] * 2
        for path in portraits:
            d = np.load(path)
            self._add(d["frames"], d["marks"][:, :2])
            odds += [1.0] * 2
        self.odds = torch.tensor(odds)

    def _add(self, frame, marks):
        mirrored = marks.astype(np.float32) * [-1, 1] + [1, 0]
        self.items.append((frame, outline(marks.astype(np.float32), 0)))
        self.items.append((np.ascontiguousarray(frame[:, ::-1]), outline(mirrored, 1)))

    def draw(self, count, generator, plain=False):
        """Pictures (B, 3, 64, 96) in [0, 1] and shares of open eye (B, 1, 64, 96). plain: neither moved nor changed. Source: ours."""
        drawn = torch.multinomial(self.odds, count, replacement=True, generator=generator).tolist()
        pictures, shares = zip(*(moved(*self.items[k], _place_of(generator, plain)) for k in drawn))
        x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        y = torch.from_numpy(np.stack(shares))[:, None]
        return (x, y) if plain else hidden(spoilt(recolour(x, generator), generator), y, generator)


def _place_of(generator, plain):
    """(scale, turn, right, down) of an eye's picture against where it is cut at inference, in units of the crop."""
    if plain:
        return 1.0, 0.0, 0.0, 0.0
    a, b, c, d = (2 * torch.rand(4, generator=generator) - 1).tolist()
    return 1.2**a, 0.25 * b, 0.02 * c, 0.015 * d


def moved(frame, points, how):
    """Picture uint8 (64, 96, 3) and share (64, 96) float32 of an eye.

    frame: (S, S, 3) crop.  points: (16, 2) outline.  how: (scale, turn, right, down).
    Source: ours.
    """
    scale, turn, right, down = how
    k = CROP_PX * scale
    m = k * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])     # picture from unit square
    t = np.array([EYE_WIDTH_PX, EYE_HEIGHT_PX]) / 2 - m @ (np.array(EYE_AT) + [right, down])
    side = len(frame)
    to_picture = np.c_[m / side, m @ np.full(2, 0.5 / side) + t - 0.5]
    picture = cv2.warpAffine(frame, to_picture, (EYE_WIDTH_PX, EYE_HEIGHT_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    large = np.zeros((EYE_HEIGHT_PX * FINER, EYE_WIDTH_PX * FINER), np.uint8)
    corners = np.round(((points @ m.T + t) * FINER - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(large, [corners], 255, shift=4)
    share = cv2.resize(large, (EYE_WIDTH_PX, EYE_HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return picture, share.astype(np.float32) / 255


def spoilt(x, generator):
    """Pictures (B, 3, 64, 96) in [0, 1] from worse cameras and by painters: blurred, small, flat in colour, noisy. Source: ours."""
    n = len(x)
    chance = torch.rand(n, 4, generator=generator)
    for k in range(n):
        if chance[k, 0] < 0.25:
            small = F.interpolate(x[k : k + 1], scale_factor=0.25 + 0.6 * float(chance[k, 1]), mode="area")
            x[k] = F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)[0]
        if chance[k, 2] < 0.08:
            levels = 4 + 6 * float(chance[k, 1])
            x[k] = (x[k] * levels).round() / levels
    noise = torch.randn(x.shape, generator=generator) * 0.05 * chance[:, 3, None, None, None] ** 2
    return (x + noise).clamp(0, 1)


def hidden(x, y, generator):
    """Pictures (B, 3, 64, 96) of which a few show dark glass and no eye. y: (B, 1, 64, 96). Source: ours."""
    covered = (torch.rand(len(x), generator=generator) < HIDDEN).view(-1, 1, 1, 1)
    glass = torch.rand(len(x), 3, 1, 1, generator=generator) * 0.25 + 0.1 * x.mean(1, keepdim=True)
    return torch.where(covered, glass, x), torch.where(covered, torch.zeros_like(y), y)


def loss_of(logits, wanted):
    """Cross entropy, with the overlap besides, for eyes are small. logits, wanted: (B, 1, 64, 96). Source: V-Net's dice, 1606.04797."""
    share = logits.sigmoid()
    dice = 1 - (2 * (share * wanted).sum((1, 2, 3)) + 8) / (share.sum((1, 2, 3)) + wanted.sum((1, 2, 3)) + 8)
    return 4 * F.binary_cross_entropy_with_logits(logits, wanted) + dice.mean()


@torch.inference_mode()
def score(net, examples):
    """Overlap over union of plain eyes, and the mean error of a column's height against the mesh in parts of the eye's height. Source: ours."""
    unions, errors = [], []
    for frame, points in examples.items:
        picture, wanted = moved(frame, points, (1.0, 0.0, 0.0, 0.0))
        share = net(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1).sigmoid()[0, 0].numpy()
        unions.append(np.minimum(share, wanted).sum() / max(1e-6, np.maximum(share, wanted).sum()))
        errors.append(abs(share.sum(0) - wanted.sum(0)).mean() / max(1.0, wanted.sum(0).max()))
    return dict(eyes=len(unions), overlap=float(np.mean(unions)), height_error=float(np.mean(errors)))


def train(out, minutes=12.0, seed=0, report=None, batch=32, weights=None, *, device="auto"):
    """Train on OUT/crops; writes the weights and returns their score on portraits kept out.

    out: working folder.  minutes: whole budget, earlier parts included.
    report: as for `Run.advance`.  batch: eyes a step.  weights: file to write; None is OUT/eyes.safetensors.
    device: one of DEVICE_CHOICES; what is saved lies on the CPU.
    An eyes.safetensors that is there without a checkpoint is trained on.
    Raises UsageProblem when an earlier stage is missing or for another device, Missing for a GPU that is not there.
    Source: ours.
    """
    torch.manual_seed(seed)
    placement, out = place(device), Path(out)
    parts = split_files(out)
    examples, kept = Examples(parts["clips"], parts["portraits"]), Examples([], parts["held_portraits"])
    net = EyeFinder().to(placement.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), PEAK, weight_decay=0.02)
    average = Average(net)
    begin_from(out / "eyes.safetensors", "eyes", net, average.module)
    run = Run(out / "eyes.ckpt", dict(net=net, average=average.module), dict(net=optimizer), minutes)
    generator = torch.Generator().manual_seed(seed + run.step)
    while run.done < 1:
        net.train()
        x, y = (v.to(placement.device) for v in examples.draw(batch, generator))
        with placement.autocast():
            logits = net(2 * x - 1)
        loss = loss_of(logits, y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update(net, run.step)
        run.advance(dict(loss=loss.item()), PEAK, report)
    run.save()
    found = average.module.cpu()
    facts = score(found, kept) if kept.items else {}
    save_state(weights or out / "eyes.safetensors", found.state_dict(), dict(net.config, facts=facts, steps=run.step))
    return facts

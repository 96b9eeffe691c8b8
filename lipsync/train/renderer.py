"""Training of the renderer on puppets (flow known) and on real talking clips (pixels only)."""
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from engine.device import choose_device
from engine.encoders.vision import POSE, codes_of, motion_parts
from engine.errors import UsageProblem
from engine.train.manifest import is_common, made_by
from engine.train.schedule import Average, Run, place
from engine.weights import read_state, save_state
from lipsync.renderer import FLOW_PX, WORK_PX, Renderer, compose, patch, warp
from lipsync.train.mesh import RING, motion_of
from lipsync.train.motion import flip_lattice, puppet_lattices, recolour
from lipsync.train.puppets import inner_mouth
from lipsync.train.space import meshed, split_files, teacher_lattices

REAL_SHARE = 0.25                      # of a batch
PEAK_RATE, FLOW_WEIGHT = 1e-3, 120.0
ADVERSARY_FROM = 0.30                  # share of the budget after which the adversary speaks


def load_motion(path):
    """(MotionEncoder in eval, MotionSpace) of a weights file. Source: `train motion`."""
    return motion_parts(*read_state(path, "motion"))


class Puppets:
    """Puppet files in memory; any pose of a portrait is a reference for any other, with the exact flow between them.

    paths: puppet files.  encoder, space: of `load_motion`.  matrix: of `space_of`.
    Source: ours.
    """

    def __init__(self, paths, encoder, space, matrix):
        self.people = []
        for path in paths:
            d = dict(np.load(path))
            teacher = space.code(torch.from_numpy(puppet_lattices(d, matrix)))
            seen = torch.from_numpy(seen_codes(path, d["images"], encoder, space))
            lattices = dict(teacher=space.lattice(F.pad(teacher, (0, POSE))), seen=space.lattice(F.pad(seen, (0, POSE))))
            self.people.append(lattices | {k: d[k] for k in ("images", "ids", "weights", "points", "mouths", "tris")})

    def draw(self, rng):
        """A pair: reference and target uint8 (192, 192, 3), their lattices (2, 32, 32); where the target reads the reference
        as flow (96, 96, 2) in units of the crop, where that is known (96, 96), inner mouth of the target (96, 96).
        """
        p = self.people[rng.integers(len(self.people))]
        count = len(p["images"])
        i, j = (0 if rng.random() < 0.6 else rng.integers(count)), rng.integers(count)
        ids, w = p["ids"][j], p["weights"][j].astype(np.float32)
        corners = p["points"][i][p["tris"]][ids]
        source = corners[..., 0, :] * w[..., :1] + corners[..., 1, :] * w[..., 1:] + corners[..., 2, :] * (1 - w.sum(-1, keepdims=True))
        y, x = np.mgrid[0:FLOW_PX, 0:FLOW_PX]
        flow = source - (np.stack([x, y], -1) + 0.5) / FLOW_PX
        mouth = p["mouths"][j].astype(np.float32) / 255
        known = (ids >= 0) * (mouth < 0.05) * (abs(flow).max(-1) < 0.2)
        is_ = p["seen" if rng.random() < 0.7 else "teacher"][i]
        return p["images"][i], p["images"][j], is_, p["teacher"][j], flow.astype(np.float32), known.astype(np.float32), mouth


def seen_codes(path, images, encoder, space):
    """What the encoder reads from the pictures of a puppet file, (P, 26); kept beside the file for the next run. Source: ours."""
    mark = float(sum(p.detach().double().abs().sum() for p in encoder.parameters()))
    kept = Path(path).with_suffix(".seen.npy")
    if kept.exists() and (saved := np.load(kept))[0, 0] == mark:
        return saved[1:].astype(np.float32)
    codes = codes_of(encoder, space, images)
    np.save(kept, np.concatenate([np.full((1, codes.shape[1]), mark), codes]))
    return codes


class Reals:
    """Talking clips held still: every frame brought to the rest pose of its head, with teacher lattices and inner mouths.

    paths: crop files.  space, matrix: of the motion.  step: frames from one to the next, of the speaker there is most of.
    Source: ours.
    """

    def __init__(self, paths, space, matrix, step=4):
        self.clips = []
        for path, marks in meshed(paths):
            displacement, closed, _, to_rest, rest = motion_of(marks)
            keep = range(0, len(marks), step if is_common(path.name) else 1)
            frames = np.load(path)["frames"]
            images = np.stack([stilled(frames[k], to_rest[k]) for k in keep])
            mouths = np.stack([inner_mouth(rest[RING, :2] + displacement[k][RING], FLOW_PX) for k in keep])
            z = torch.tensor(teacher_lattices(displacement, closed, matrix, rest[:, :2])[list(keep)], dtype=torch.float32)
            self.clips.append((images, space.lattice(F.pad(space.code(z), (0, POSE))), mouths))

    def draw(self, rng):
        """Same fields as `Puppets.draw`; the flow is not known."""
        images, z, mouths = self.clips[rng.integers(len(self.clips))]
        i, j = rng.integers(len(images), size=2)
        nothing = np.zeros((FLOW_PX, FLOW_PX), np.float32)
        return images[i], images[j], z[i], z[j], np.zeros((FLOW_PX, FLOW_PX, 2), np.float32), nothing, mouths[j]


def stilled(frame, to_rest):
    """A frame uint8 (S, S, 3) at the working size with its head brought to rest; to_rest (2, 3) in the unit square. Source: `rigid`."""
    grow = WORK_PX / len(frame)
    m = np.c_[to_rest[:, :2] * grow, to_rest[:, 2] * WORK_PX + to_rest[:, :2].sum(1) * (0.5 * grow) - 0.5]
    return cv2.warpAffine(frame, m, (WORK_PX,) * 2, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def batch_of(items, generator):
    """Tensors of drawn items, in the order of `Puppets.draw`, under the same mirror and light for reference and target. Source: ours."""
    ref, target = (torch.from_numpy(np.stack([i[k] for i in items])).permute(0, 3, 1, 2).float() / 255 for k in (0, 1))
    z = [torch.stack([i[k] for i in items]) for k in (2, 3)]
    flow, known, mouth = (torch.from_numpy(np.stack([i[k] for i in items])) for k in (4, 5, 6))
    flow, known, mouth = flow.permute(0, 3, 1, 2), known[:, None], mouth[:, None]
    both = recolour(torch.cat([ref, target], 1), generator) * 2 - 1
    mirror = torch.rand(len(items), 1, 1, 1, generator=generator) < 0.5
    both, known, mouth = (torch.where(mirror, x.flip(-1), x) for x in (both, known, mouth))
    *z, flow = (torch.where(mirror, flip_lattice(x), x) for x in (*z, flow))
    return both[:, :3], both[:, 3:], *z, flow, known, mouth


class Critic(nn.Module):
    """Real or painted, judged on overlapping pieces of the mouth patch (B, 3, 64, 112). Source: 1611.07004 (PatchGAN)."""

    def __init__(self, width=32):
        super().__init__()
        layers, sizes = [], [(3, width, 2), (width, 2 * width, 2), (2 * width, 3 * width, 1), (3 * width, 1, 1)]
        for a, b, stride in sizes:
            layers += [nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4, stride, 1)), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, x):
        """Scores (B, 1, h, w), higher for real, of patches (B, 3, 64, 112)."""
        return self.net(x)

    def seen(self, x):
        """What the layers before the last make of patches, a list of (B, C, h, w), and the scores. Source: 1711.11585 (feature matching)."""
        out = []
        for layer in self.net:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                out.append(x)
        return out, x


def weight_map():
    """Where pixels matter (1, 1, 192, 192): mouth most, eyes next. Source: ours."""
    w = torch.ones(1, 1, WORK_PX, WORK_PX)
    w[..., 106:150, 54:138] = 8
    w[..., 54:80, 44:148] = 3
    return w / w.mean()


def slopes(x):
    """Differences downward, then to the right, (B, 2 C, H - 1, W - 1). Source: first differences."""
    return torch.cat([x[..., 1:, :-1] - x[..., :-1, :-1], x[..., :-1, 1:] - x[..., :-1, :-1]], 1)


def errors(net, batch, weight, placement=None):
    """Loss parts of a batch by name, and the composed picture (B, 3, 192, 192).

    batch: of `batch_of`.  weight: of `weight_map`.  placement: where all of it lies; None is the CPU.
    Source: ours.
    """
    ref, target, z_is, z_wish, flow, known, mouth = batch
    with (placement or choose_device("cpu")).autocast():
        made = net(ref, z_is, z_wish)
    picture, warped = compose(ref, made), warp(ref, made.flow)
    focus = weight[..., ::2, ::2]
    inner = patch(F.interpolate(mouth, size=WORK_PX, mode="bilinear"))
    mask = made.mask.clamp(1e-4, 1 - 1e-4)
    parts = dict(
        flow=FLOW_WEIGHT * ((made.flow - flow).abs() * known * focus).sum() / (known.sum() + 1) / 2,
        pixel=((picture - target).abs() * weight).mean(),
        warped=((warped - target).abs() * weight * (1 - F.interpolate(mouth, size=WORK_PX, mode="bilinear"))).mean(),
        slope=2 * ((slopes(picture) - slopes(target)).abs() * weight[..., 1:, 1:]).mean(),
        inner=0.15 * ((patch(picture) - patch(target)).abs() * inner).sum() / (3 * inner.sum() + 100),
        mask=F.binary_cross_entropy(mask, (inner > 0.3).float(), weight=0.3 + inner))
    return parts, picture


def train(out, minutes=40.0, seed=0, report=None, batch=8, weights=None, *, device="auto", limit=None):
    """Train on OUT/puppets and OUT/crops with OUT/motion.safetensors; writes the weights, returns errors on people kept out.

    out: working folder.  minutes: whole budget, earlier parts included.
    report: as for `Run.advance`.  batch: items a step.  weights: file to write; None is OUT/renderer.safetensors.
    device: one of DEVICE_CHOICES; what is saved lies on the CPU.
    limit: portraits to use, and two clips; None uses all.
    Raises UsageProblem when an earlier stage is missing or for another device, Missing for a GPU that is not there.
    Source: ours.
    """
    torch.manual_seed(seed)
    out, placement = Path(out), place(device)
    puppets, held, reals = material(out, limit)
    net, critic = Renderer().to(placement.device, memory_format=torch.channels_last), Critic().to(placement.device)
    optimizers = dict(net=torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=0.01),
                      critic=torch.optim.Adam(critic.parameters(), 2e-4, betas=(0.5, 0.9)))
    average = Average(net)
    run = Run(out / "renderer.ckpt", dict(net=net, critic=critic, average=average.module), optimizers, minutes)
    rng, generator = np.random.default_rng(seed + run.step), torch.Generator().manual_seed(seed + run.step)
    weight = weight_map().to(placement.device)
    while run.done < 1:
        items = [(reals if rng.random() < REAL_SHARE else puppets).draw(rng) for _ in range(batch)]
        data = [x.to(placement.device) for x in batch_of(items, generator)]
        losses, picture = errors(net, data, weight, placement)
        if run.done > ADVERSARY_FROM:
            losses.update(adversary(critic, optimizers["critic"], patch(picture), patch(data[1]), placement))
        optimizers["net"].zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizers["net"].step()
        average.update(net, run.step)
        run.advance({k: v.item() for k, v in losses.items()}, dict(net=PEAK_RATE, critic=4e-4), report, every=50)
    run.save()
    painter = average.module.cpu()
    facts = score(painter, held, weight.cpu()) if held.people else {}
    save_state(weights or out / "renderer.safetensors", painter.state_dict(), dict(net.config, facts=facts, steps=run.step))
    return facts


def material(out, limit):
    """(Puppets to learn from, Puppets kept out, Reals) of a working folder. Source: ours; strangers count more than the common speaker."""
    encoder, space = load_motion(made_by("motion", out / "motion.safetensors"))
    matrix, parts, made = np.load(out / "space.npz")["matrix"], split_files(out), made_by("puppets", out / "puppets")
    puppets, held = (Puppets([made / p.name for p in parts[k][:limit] if (made / p.name).exists()], encoder, space, matrix)
                     for k in ("portraits", "held_portraits"))
    clips = [p for p in parts["clips"] if not is_common(p.name)] * 6 + [p for p in parts["clips"] if is_common(p.name)][::8]
    reals = Reals(clips if limit is None else clips[:2], space, matrix)
    if not puppets.people or not reals.clips:
        raise UsageProblem(f"{out}: {len(puppets.people)} puppets and {len(reals.clips)} talking clips are too few.",
                           hint="Run 'mouthpiece train puppets' with the same --out first.", code="stage_missing")
    return puppets, held, reals


def adversary(critic, optimizer, painted, real, placement=None):
    """One step of the critic on mouth patches, and what it costs the painter: {"adversary", "match"}; hinge loss, feature matching.

    painted, real: (B, 3, 64, 112) in [-1, 1].  placement: where all of it lies; None is the CPU.
    Source: 1802.05957.
    """
    placement = placement or choose_device("cpu")
    with placement.autocast():
        lesson = F.relu(1 - critic(real)).mean() + F.relu(1 + critic(painted.detach())).mean()
    optimizer.zero_grad()
    lesson.backward()
    optimizer.step()
    critic.requires_grad_(False)
    with placement.autocast():
        with torch.no_grad():
            wanted, _ = critic.seen(real)
        made, scores = critic.seen(painted)
    critic.requires_grad_(True)
    match = sum((a.float() - b.float()).abs().mean() for a, b in zip(made, wanted)) / len(wanted)
    return dict(adversary=-0.02 * scores.float().mean(), match=3.0 * match)


@torch.inference_mode()
def score(net, people, weight, count=160):
    """Weighted pixel error of the result, of the untouched reference, and flow error in units of the crop.

    people: Puppets kept out.  count: pairs.
    Source: ours.
    """
    rng, g, rows = np.random.default_rng(7), torch.Generator().manual_seed(7), []
    for _ in range(count // 8):
        data = batch_of([people.draw(rng) for _ in range(8)], g)
        parts, picture = errors(net, data, weight)
        rows.append((float(parts["pixel"]), float(((data[0] - data[1]).abs() * weight).mean()), float(parts["flow"]) / FLOW_WEIGHT))
    r = np.mean(rows, 0)
    return dict(error=float(r[0]), still=float(r[1]), flow=float(r[2]))

"""Training of the renderer on puppets (flow known) and on real talking clips (pixels only)."""
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from engine.encoders.vision import EXPRESSION, MotionEncoder, MotionSpace, codes_of, coordinates
from engine.train.schedule import Average, Run
from engine.weights import load_into, read_state, save_state
from lipsync.renderer import FLOW_PX, PATCH, WORK_PX, Renderer, compose, patch, warp
from lipsync.train.mesh import POINTS, RING, motion_of
from lipsync.train.motion import flip_lattice, puppet_lattices, recolour
from lipsync.train.space import lattices, load_marks, split_files, teacher_lattices

REAL_SHARE = 0.25                      # of a batch
ADVERSARY_FROM = 0.45                  # share of the budget after which the adversary speaks


def load_motion(path):
    """(MotionEncoder, MotionSpace) of a weights file."""
    state, config = read_state(path, "motion")
    space = MotionSpace(**{k: state.pop(f"space.{k}").float() for k in MotionSpace.__dataclass_fields__})
    return load_into(MotionEncoder(config["width"]), state, "motion").eval(), space


class Puppets:
    """Puppet files in memory; any pose of a portrait is a reference for any other, with the exact flow between them."""

    def __init__(self, out, paths, encoder, space, matrix):
        self.people = []
        for path in paths:
            d = dict(np.load(path))
            teacher = torch.from_numpy(puppet_lattices(d, matrix))
            self.people.append(dict(images=d["images"], ids=d["ids"], weights=d["weights"], points=d["points"], mouths=d["mouths"], tris=d["tris"],
                                    teacher=space.lattice(F.pad(space.code(teacher), (0, 6))),
                                    seen=space.lattice(F.pad(torch.from_numpy(codes_of(encoder, space, d["images"])), (0, 6)))))

    def draw(self, rng):
        """(reference, target uint8 (192, 192, 3), lattice of reference, lattice of target, flow (96, 96, 2), known (96, 96), inner mouth (96, 96))."""
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


class Reals:
    """Talking clips held still: every frame brought to the rest pose of its head, with teacher lattices and inner mouths."""

    def __init__(self, paths, encoder, space, matrix, step=4):
        self.clips = []
        for path in paths:
            marks = load_marks(path)
            if not np.isfinite(marks).all():
                continue
            displacement, closed, _, to_rest, rest = motion_of(marks)
            keep = range(0, len(marks), step if "grid_s1" in path.name else 1)
            frames, size = np.load(path)["frames"], np.load(path)["frames"].shape[1]
            images, mouths = [], []
            for k in keep:
                a = to_rest[k].copy()
                m = np.c_[a[:, :2] * (WORK_PX / size), a[:, 2] * WORK_PX + a[:, :2].sum(1) * (0.5 * WORK_PX / size) - 0.5]
                images.append(cv2.warpAffine(frames[k], m, (WORK_PX,) * 2, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
                mask = np.zeros((FLOW_PX, FLOW_PX), np.float32)
                ring = rest[RING, :2] + displacement[k][RING]
                cv2.fillPoly(mask, [np.round((ring * FLOW_PX - 0.5) * 16).astype(np.int32)], 1, lineType=cv2.LINE_AA, shift=4)
                mouths.append(mask)
            z = torch.tensor(teacher_lattices(displacement, closed, matrix, rest[:, :2])[list(keep)], dtype=torch.float32)
            teacher = space.lattice(F.pad(space.code(z), (0, 6)))
            self.clips.append((np.stack(images), teacher, np.stack(mouths)))

    def draw(self, rng):
        """Same fields as `Puppets.draw`; the flow is not known."""
        images, z, mouths = self.clips[rng.integers(len(self.clips))]
        i, j = rng.integers(len(images), size=2)
        nothing = np.zeros((FLOW_PX, FLOW_PX), np.float32)
        return images[i], images[j], z[i], z[j], np.zeros((FLOW_PX, FLOW_PX, 2), np.float32), nothing, mouths[j]


def batch_of(items, generator):
    """Tensors of drawn items under the same mirror and light for reference and target."""
    ref, target = (torch.from_numpy(np.stack([i[k] for i in items])).permute(0, 3, 1, 2).float() / 255 for k in (0, 1))
    z = [torch.stack([i[k] for i in items]) for k in (2, 3)]
    flow, known, mouth = (torch.from_numpy(np.stack([i[k] for i in items])) for k in (4, 5, 6))
    flow, known, mouth = flow.permute(0, 3, 1, 2), known[:, None], mouth[:, None]
    both = recolour(torch.cat([ref, target], 1), generator) * 2 - 1
    mirror = torch.rand(len(items), 1, 1, 1, generator=generator) < 0.5
    turn = lambda x: torch.where(mirror, x.flip(-1), x)
    both, known, mouth, z = turn(both), turn(known), turn(mouth), [torch.where(mirror, flip_lattice(a), a) for a in z]
    flow = torch.where(mirror, flow.flip(-1) * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1), flow)
    return both[:, :3], both[:, 3:], *z, flow, known, mouth


class Critic(nn.Module):
    """Real or painted, judged on overlapping pieces of the mouth patch (B, 3, 64, 112). Source: 1611.07004 (PatchGAN)."""

    def __init__(self, width=32):
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        conv = lambda a, b, s: norm(nn.Conv2d(a, b, 4, s, 1))
        self.net = nn.Sequential(conv(3, width, 2), nn.LeakyReLU(0.2), conv(width, 2 * width, 2), nn.LeakyReLU(0.2),
                                 conv(2 * width, 3 * width, 1), nn.LeakyReLU(0.2), conv(3 * width, 1, 1))

    def forward(self, x):
        return self.net(x)


def weight_map():
    """Where pixels matter (1, 1, 192, 192): mouth most, eyes next."""
    w = torch.ones(1, 1, WORK_PX, WORK_PX)
    w[..., 106:150, 54:138] = 8
    w[..., 54:80, 44:148] = 3
    return w / w.mean()


def slopes(x):
    return torch.cat([x[..., 1:, :-1] - x[..., :-1, :-1], x[..., :-1, 1:] - x[..., :-1, :-1]], 1)


def errors(net, batch, weight):
    """Loss parts of a batch, and the composed picture."""
    ref, target, z_is, z_wish, flow, known, mouth = batch
    with torch.autocast("cpu", torch.bfloat16):
        made = net(ref, z_is, z_wish)
    picture, warped = compose(ref, made), warp(ref, made.flow)
    focus = weight[..., ::2, ::2]
    inner = patch(F.interpolate(mouth, size=WORK_PX, mode="bilinear"))
    mask = made.mask.clamp(1e-4, 1 - 1e-4)
    parts = dict(
        flow=60 * ((made.flow - flow).abs() * known * focus).sum() / (known.sum() + 1) / 2,
        pixel=((picture - target).abs() * weight).mean(),
        warped=((warped - target).abs() * weight * (1 - F.interpolate(mouth, size=WORK_PX, mode="bilinear"))).mean(),
        slope=2 * ((slopes(picture) - slopes(target)).abs() * weight[..., 1:, 1:]).mean(),
        mask=F.binary_cross_entropy(mask, (inner > 0.3).float(), weight=0.3 + inner))
    return parts, picture


def train(out, minutes=40.0, seed=0, report=None, batch=8, weights=None, limit=None):
    """Train on OUT/puppets and OUT/crops with OUT/motion.safetensors; writes OUT/renderer.safetensors, returns errors on people kept out."""
    torch.manual_seed(seed)
    out = Path(out)
    encoder, space = load_motion(out / "motion.safetensors")
    matrix, parts = np.load(out / "space.npz")["matrix"], split_files(out)
    puppets = Puppets(out, [out / "puppets" / p.name for p in parts["portraits"][:limit]], encoder, space, matrix)
    clips = [p for p in parts["clips"] if "grid_s1" not in p.name] * 6 + [p for p in parts["clips"] if "grid_s1" in p.name][::8]
    reals = Reals(clips if limit is None else clips[:2], encoder, space, matrix)
    net, critic = Renderer().to(memory_format=torch.channels_last), Critic()
    optimizers = dict(net=torch.optim.AdamW(net.parameters(), 6e-4, weight_decay=0.01), critic=torch.optim.Adam(critic.parameters(), 2e-4, betas=(0.5, 0.9)))
    average = Average(net)
    run = Run(out / "renderer.ckpt", dict(net=net, critic=critic, average=average.module), optimizers, minutes)
    rng, generator, weight = np.random.default_rng(seed + run.step), torch.Generator().manual_seed(seed + run.step), weight_map()
    while run.done < 1:
        items = [(reals if rng.random() < REAL_SHARE else puppets).draw(rng) for _ in range(batch)]
        data = batch_of(items, generator)
        losses, picture = errors(net, data, weight)
        if run.done > ADVERSARY_FROM:
            losses.update(adversary(critic, optimizers["critic"], patch(picture), patch(data[1])))
        optimizers["net"].zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizers["net"].step()
        average.update(net, run.step)
        run.advance({k: v.item() for k, v in losses.items()}, dict(net=6e-4, critic=4e-4), report, every=50)
    run.save()
    held = Puppets(out, [out / "puppets" / p.name for p in parts["held_portraits"][:limit]], encoder, space, matrix)
    facts = score(average.module.eval(), held, weight)
    save_state(weights or out / "renderer.safetensors", average.module.state_dict(), dict(net.config, facts=facts, steps=run.step))
    return facts


def adversary(critic, optimizer, painted, real):
    """One step of the critic on mouth patches, and what it costs the painter: {"adversary"}; hinge loss. Source: 1802.05957."""
    with torch.autocast("cpu", torch.bfloat16):
        lesson = F.relu(1 - critic(real)).mean() + F.relu(1 + critic(painted.detach())).mean()
    optimizer.zero_grad()
    lesson.backward()
    optimizer.step()
    critic.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        cost = -critic(painted).mean()
    critic.requires_grad_(True)
    return dict(adversary=0.02 * cost.float())


@torch.inference_mode()
def score(net, people, weight, count=160):
    """On people kept out: weighted pixel error of the result, of the untouched reference, and flow error in units of the crop."""
    rng, g, rows = np.random.default_rng(7), torch.Generator().manual_seed(7), []
    for _ in range(count // 8):
        data = batch_of([people.draw(rng) for _ in range(8)], g)
        parts, picture = errors(net, data, weight)
        rows.append((float(parts["pixel"]), float(((data[0] - data[1]).abs() * weight).mean()), float(parts["flow"]) / 60))
    r = np.mean(rows, 0)
    return dict(error=float(r[0]), still=float(r[1]), flow=float(r[2]))


assert POINTS == 468 and EXPRESSION == 26 and PATCH[1] - PATCH[0] == 64 and coordinates(2, 2).shape == (1, 2, 2, 2)

"""Training of the phonetic encoder: log-mel to phones, voicing and F0."""
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from engine.encoders.audio import F0_REFERENCE_HZ, PhoneticEncoder
from engine.train.align import MISSING, clips_of
from engine.train.disguise import disguise, uniform
from engine.train.manifest import held_out, is_held, made_by
from engine.train.schedule import Average, Run, place
from engine.weights import save_state

TICKS = 150                            # 3 s a training item


def draw(clips, names, count, generator, plain=False):
    """A batch: mel (B, 80, 300), phones (B, 150) with -1 unknown, F0 in octaves (B, 150), masks of voiced and known pitch (B, 150).

    clips: of `clips_of`.  names: which of them.  count: B.
    plain: True leaves out disguise and change of tempo.
    Source: ours.
    """
    mels, phones, pitches = [], [], []
    others = [torch.from_numpy(clips[names[int(uniform(0, len(names) - 1e-6, generator))]]["mel"]) for _ in range(4)]
    for _ in range(count):
        c = clips[names[int(uniform(0, len(names) - 1e-6, generator))]]
        tempo = 1.0 if plain else uniform(0.8, 1.25, generator)
        need = int(TICKS * 2 * tempo) + 2
        start = 2 * (int(uniform(0, max(1, c["mel"].shape[1] - need), generator)) // 2)
        m = torch.from_numpy(c["mel"][:, start : start + need].astype(np.float32))
        p = torch.from_numpy(c["phones"][start : start + need].astype(np.int64))
        f = torch.from_numpy(c["f0"][start // 2 : (start + need) // 2].astype(np.float32))
        p = torch.where(p == MISSING, -1, p)
        if not plain:
            m = disguise(m, others, generator)
            m = F.interpolate(m[None], size=int(m.shape[1] / tempo), mode="linear")[0]
            p = F.interpolate(p[None, None].float(), size=m.shape[1], mode="nearest")[0, 0].long()
            f = F.interpolate(f[None, None], size=m.shape[1] // 2, mode="nearest")[0, 0]
        m, p, f = m[:, : 2 * TICKS], p[: 2 * TICKS], f[:TICKS]
        mels.append(F.pad(m, (0, 2 * TICKS - m.shape[1]), value=float(m.min())))
        phones.append(F.pad(p, (0, 2 * TICKS - len(p)), value=-1)[::2])
        pitches.append(F.pad(f, (0, TICKS - len(f)), value=-1))
    f0 = torch.stack(pitches)
    voiced = f0 > 0
    octaves = torch.where(voiced, (f0.clamp_min(40) / F0_REFERENCE_HZ).log2(), 0)
    return torch.stack(mels), torch.stack(phones), octaves, voiced, f0 >= 0


def losses(net, batch):
    """Phone cross-entropy, voicing cross-entropy, F0 error in octaves on voiced ticks, by name; batch as `draw` gives it. Source: ours."""
    mel, phones, octaves, voiced, known = batch
    logits, voicing, f0 = net(mel)
    return dict(phones=F.cross_entropy(logits.transpose(1, 2), phones, ignore_index=-1, label_smoothing=0.05),
                voicing=F.binary_cross_entropy_with_logits(voicing[known], voiced[known].float()),
                f0=(f0 - octaves)[voiced].abs().mean())


@torch.inference_mode()
def score(net, clips, names):
    """On plain speech: share of frames right, of voicing right, median F0 error in semitones. Source: ours."""
    g = torch.Generator().manual_seed(1)
    mel, phones, octaves, voiced, known = draw(clips, names, 96, g, plain=True)
    logits, voicing, f0 = net(mel)
    return dict(frames_right=float((logits.argmax(-1) == phones)[phones >= 0].float().mean()),
                voicing_right=float(((voicing > 0) == voiced)[known].float().mean()),
                f0_semitones=float(12 * (f0 - octaves)[voiced].abs().median()))


def train(out, minutes=12.0, seed=0, report=None, batch=16, weights=None, *, device="auto"):
    """Train on OUT/phones.npz; writes the weights and returns their scores on readers kept out.

    out: working folder.  minutes: whole budget, earlier parts included.
    report: as for `Run.advance`.  batch: items a step.  weights: file to write; None is OUT/phonetic.safetensors.
    device: one of DEVICE_CHOICES; what is saved lies on the CPU.
    Raises UsageProblem when an earlier stage is missing or for another device, Missing for a GPU that is not there.
    Source: ours.
    """
    torch.manual_seed(seed)
    placement = place(device)
    split, clips = held_out(), clips_of(made_by("align", Path(out) / "phones.npz"))
    kept = [n for n, c in clips.items() if is_held(n, c["speaker"], split)]
    names = [n for n in clips if n not in set(kept)]
    net = PhoneticEncoder().to(placement.device)
    optimizer = torch.optim.AdamW(net.parameters(), 1.5e-3, weight_decay=0.02)
    average = Average(net)
    run = Run(Path(out) / "phonetic.ckpt", dict(net=net, average=average.module), dict(net=optimizer), minutes)
    generator = torch.Generator().manual_seed(seed + run.step)
    while run.done < 1:
        net.train()
        drawn = [x.to(placement.device) for x in draw(clips, names, batch, generator)]
        with placement.autocast():
            parts = losses(net, drawn)
        loss = parts["phones"] + 0.3 * parts["voicing"] + parts["f0"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update(net, run.step)
        run.advance({k: v.item() for k, v in parts.items()}, 1.5e-3, report)
    run.save()
    readers = [n for n in kept if clips[n]["speaker"] in split["readers"]]
    heard = average.module.cpu()
    facts = score(heard, clips, readers) if readers else {}
    save_state(weights or Path(out) / "phonetic.safetensors", heard.state_dict(), dict(net.config, facts=facts, steps=run.step))
    return facts

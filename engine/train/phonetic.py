"""Training of the phonetic encoder: log-mel to phones, voicing and F0."""
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from engine.encoders.audio import F0_REFERENCE_HZ, PhoneticEncoder
from engine.timeline import read_at
from engine.train.align import MISSING, clips_of, made_voices
from engine.train.disguise import disguise, uniform
from engine.train.manifest import held_out, is_held, made_by
from engine.train.schedule import Average, Run, begin_from, place
from engine.train.song import paced, sung
from engine.weights import save_state

TICKS = 150                            # 3 s a training item
EVENNESS = 0.35                        # a speaker of n clips is drawn as often as n ** EVENNESS says
SUNG = 0.12                            # share of items whose vowels are held
PEAK = 1.5e-3                          # learning rate


def odds_of(clips, names):
    """How likely each clip is drawn (N,): speakers with many clips less than their number, those with few more. Source: ours."""
    count = Counter(clips[n]["speaker"] for n in names)
    odds = np.array([count[clips[n]["speaker"]] ** (EVENNESS - 1.0) for n in names])
    return odds / odds.sum()


def draw(clips, names, count, generator, plain=False, odds=None):
    """A batch: mel (B, 80, 300), phones (B, 150) with -1 unknown, F0 in octaves (B, 150), masks of voiced and known pitch (B, 150).

    clips: of `clips_of`.  names: which of them.  count: B.
    plain: True leaves out disguise, song and change of tempo.
    odds: (len(names),) of `odds_of`; None draws all alike.
    Source: ours.
    """
    odds = torch.ones(len(names)) if odds is None else torch.from_numpy(odds)
    drawn = [names[k] for k in torch.multinomial(odds, count + 4, replacement=True, generator=generator)]
    others = [torch.from_numpy(clips[n]["mel"]) for n in drawn[count:]]
    items = [_item(clips[n], others, generator, plain) for n in drawn[:count]]
    mel, phones, f0 = (torch.stack(x) for x in zip(*items))
    voiced = f0 > 0
    octaves = torch.where(voiced, (f0.clamp_min(40) / F0_REFERENCE_HZ).log2(), 0)
    return mel, phones, octaves, voiced, f0 >= 0


def _item(clip, others, generator, plain):
    """(mel (80, 300), phones (150,) with -1 unknown, F0 (150,) Hz with -1 unknown) of a stretch of a clip."""
    tempo = 1.0 if plain else uniform(0.75, 1.35, generator)
    need = int(2 * TICKS * tempo) + 2
    start = 2 * (int(uniform(0, max(1, clip["mel"].shape[1] - need), generator)) // 2)
    mel, phones = clip["mel"][:, start : start + need].astype(np.float32), clip["phones"][start : start + need].astype(np.int64)
    f0 = clip["f0"][start // 2 : (start + need) // 2].astype(np.float32)
    if not plain:
        mel = disguise(torch.from_numpy(mel), others, generator).numpy()
        at = sung(phones, generator) if uniform(0, 1, generator) < SUNG else paced(len(phones), tempo)
        at, nearest = at[: 2 * TICKS], np.minimum(np.rint(at[: 2 * TICKS]).astype(int), len(phones) - 1)
        mel, phones = read_at(mel.T, at).T, phones[nearest]
        f0 = f0[np.minimum(nearest[::2] // 2, len(f0) - 1)] if len(f0) else f0
    mel, phones, f0 = (torch.from_numpy(np.ascontiguousarray(x)) for x in (mel[:, : 2 * TICKS], phones[: 2 * TICKS], f0[:TICKS]))
    phones = torch.where(phones == MISSING, -1, phones)
    return (F.pad(mel, (0, 2 * TICKS - mel.shape[1]), value=float(mel.min())), F.pad(phones, (0, 2 * TICKS - len(phones)), value=-1)[::2],
            F.pad(f0, (0, TICKS - len(f0)), value=-1))


def losses(net, batch):
    """Phone cross-entropy, voicing cross-entropy, F0 error in octaves on voiced ticks, by name; batch as `draw` gives it. Source: ours."""
    mel, phones, octaves, voiced, known = batch
    logits, voicing, f0 = net(mel)
    return dict(phones=F.cross_entropy(logits.transpose(1, 2), phones, ignore_index=-1, label_smoothing=0.05),
                voicing=F.binary_cross_entropy_with_logits(voicing[known], voiced[known].float()),
                f0=(f0 - octaves)[voiced].abs().mean())


@torch.inference_mode()
def score(net, clips, names, plain=True):
    """Share of frames right, of voicing right, median F0 error in semitones: on plain speech, or under disguise. Source: ours."""
    g = torch.Generator().manual_seed(1)
    mel, phones, octaves, voiced, known = draw(clips, names, 96, g, plain=plain)
    logits, voicing, f0 = net(mel)
    return dict(frames_right=float((logits.argmax(-1) == phones)[phones >= 0].float().mean()),
                voicing_right=float(((voicing > 0) == voiced)[known].float().mean()),
                f0_semitones=float(12 * (f0 - octaves)[voiced].abs().median()))


def train(out, minutes=12.0, seed=0, report=None, batch=16, weights=None, *, device="auto"):
    """Train on OUT/phones.npz, and OUT/voices.npz where there is one; writes the weights and returns their scores on readers kept out.

    out: working folder.  minutes: whole budget, earlier parts included.
    report: as for `Run.advance`.  batch: items a step.  weights: file to write; None is OUT/phonetic.safetensors.
    device: one of DEVICE_CHOICES; what is saved lies on the CPU.
    A phonetic.safetensors that is there without a checkpoint is trained on.
    Raises UsageProblem when an earlier stage is missing or for another device, Missing for a GPU that is not there.
    Source: ours.
    """
    torch.manual_seed(seed)
    placement, out = place(device), Path(out)
    split, clips = held_out(), clips_of(made_by("align", out / "phones.npz")) | made_voices(out)
    kept = [n for n, c in clips.items() if is_held(n, c["speaker"], split)]
    names = [n for n in clips if n not in set(kept)]
    net = PhoneticEncoder().to(placement.device)
    optimizer = torch.optim.AdamW(net.parameters(), PEAK, weight_decay=0.02)
    average, odds = Average(net), odds_of(clips, names)
    begin_from(out / "phonetic.safetensors", "phonetic", net, average.module)
    run = Run(out / "phonetic.ckpt", dict(net=net, average=average.module), dict(net=optimizer), minutes)
    generator = torch.Generator().manual_seed(seed + run.step)
    while run.done < 1:
        net.train()
        drawn = [x.to(placement.device) for x in draw(clips, names, batch, generator, odds=odds)]
        with placement.autocast():
            parts = losses(net, drawn)
        loss = parts["phones"] + 0.3 * parts["voicing"] + parts["f0"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update(net, run.step)
        run.advance({k: v.item() for k, v in parts.items()}, PEAK, report)
    run.save()
    readers = [n for n in kept if clips[n]["speaker"] in split["readers"]]
    heard = average.module.cpu()
    facts = dict(score(heard, clips, readers), disguised=score(heard, clips, readers, plain=False)) if readers else {}
    save_state(weights or out / "phonetic.safetensors", heard.state_dict(), dict(net.config, facts=facts, steps=run.step))
    return facts

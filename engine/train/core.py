"""Training of the AV core: motion and articulation of talking clips, each stream given, generated or absent."""
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from engine.core import ABSENT, CODE_WIDTH, GENERATED, GIVEN, AVCore, Known, pack
from engine.encoders.audio import PhoneticEncoder, articulation_of
from engine.encoders.vision import BLINK, EXPRESSION
from engine.sampling import FlowAdapter, Guidance, flow_levels, item_noise, sample
from engine.train.align import clips_of, made_voices
from engine.train.batches import TICKS, Batches, evened, odds_of
from engine.train.lips import LipBatches, lip_loss, load_reads, score_lips, usual_lengths
from engine.train.manifest import held_out, is_held, made_by
from engine.train.schedule import Average, Run, begin_from, place
from engine.train.tutor import Tutor
from engine.weights import load_into, read_state, save_state

PEAK = 6e-4                            # learning rate
LIP_WEIGHT, LIP_EVERY = 0.6, 3         # of the lips' cross entropy beside the flow, in one of so many steps


def load_codes(path):
    """{part: {name: dict(code (N, 32), opening (N,), mel (80, 4 N))}} of codes.npz. Source: lipsync/train/codes.py."""
    d, out = np.load(path), {}
    for key in d.files:
        part, name, field = key.split("|")
        out.setdefault(part, {}).setdefault(name, {})[field] = d[key].astype(np.float32)
    return out


def loss_weights():
    """Weight of each number of the code (32,): mouth first. Source: ours."""
    w = torch.ones(CODE_WIDTH)
    w[:BLINK] = 1 / (1 + 0.12 * torch.arange(BLINK))
    w[:3] *= 2
    w[BLINK:EXPRESSION] = 0.5
    w[EXPRESSION:] = 0.4
    return w


def flow_loss(net, packed, known, generator, weights):
    """Flow-matching error of the generated streams, motion and articulation apart: mean over their ticks.

    packed: (B, T, 118) clean.  known: of the same ticks.  generator: on the CPU, wherever the rest lies.
    weights: (32,) or (B, 1, 32) of the motion's numbers.
    Source: 2210.02747 with times drawn as in 2403.03206 section 3.1.
    """
    time = torch.sigmoid(torch.randn(len(packed), generator=generator)).to(packed.device)
    noise = torch.randn(packed.shape, generator=generator).to(packed.device)
    x = (1 - time[:, None, None]) * noise + time[:, None, None] * packed
    made = net(x, time, known)
    error = (made - (packed - noise)) ** 2
    return _mean(error[..., :CODE_WIDTH] * weights, known.motion), _mean(error[..., CODE_WIDTH:], known.articulation)


def _mean(error, state):
    """Mean of an error (B, T, D) over the ticks that are generated; 0 when none is."""
    wanted = (state == GENERATED)[..., None].float()
    return (error * wanted).sum() / (wanted.sum() * error.shape[-1]).clamp_min(1)


@torch.inference_mode()
def motion_from(net, articulation, seed=0, steps=8, guidance=1.0, item="0"):
    """Motion (T, 32) sampled in one window.

    articulation: (2 T, 43).  steps: of the sampler.  guidance: 1 is as learned.  item: name the noise depends on beside the seed.
    Source: ours.
    """
    sound = torch.as_tensor(articulation)[None]
    ticks = sound.shape[1] // 2
    values = pack(torch.zeros(1, ticks, CODE_WIDTH), sound)
    wanted = torch.full((1, ticks), GENERATED)
    told, untold = (Known(values, wanted, torch.full_like(wanted, state)) for state in (GIVEN, ABSENT))
    noise = item_noise(values.shape[1:], seed, [item])
    if guidance == 1.0:
        out = sample(FlowAdapter(net), noise, flow_levels(steps), told)
    else:
        out = sample(FlowAdapter(net), noise, flow_levels(steps), [told], null=untold, guidance=Guidance((guidance,)))
    return out[0, :, :CODE_WIDTH]


@torch.inference_mode()
def score(net, encoder, lips, clips, guidance=1.0, limit=75):
    """Mouth opening of sampled motion against the teacher's: mean correlation, mean best lag in ticks (late is positive), amplitude ratio.

    lips: (26,) of the motion space.  clips: a part of `load_codes`.  limit: ticks of each clip.
    Source: ours.
    """
    rows = []
    for name, clip in sorted(clips.items()):
        n = min(len(clip["code"]), limit)
        heard = articulation_of(encoder, torch.from_numpy(clip["mel"])[None, :, : 4 * n])[0]
        made = (motion_from(net, heard, guidance=guidance)[:, :EXPRESSION] @ lips).numpy()
        real = clip["opening"][:n]
        lagged = [correlation_at(made, real, lag) for lag in range(-3, 4)]
        rows.append((lagged[3], max(lagged), int(np.argmax(lagged)) - 3, made.std() / real.std()))
    r = np.array(rows)
    return dict(correlation=float(r[:, 0].mean()), at_best_lag=float(r[:, 1].mean()), lag_ticks=float(r[:, 2].mean()),
                amplitude=float(np.median(r[:, 3])))


def correlation_at(made, real, lag_ticks):
    """Correlation of two tracks (T,) when the made one comes lag_ticks late. Source: Pearson."""
    late, early = max(0, lag_ticks), max(0, -lag_ticks)
    return np.corrcoef(made[late : len(made) - early], real[early : len(real) - late])[0, 1]


def begun_from(path, net, average):
    """Fills both nets from earlier weights, if there are any; what those lack stays as at birth.

    A net that hears likenesses takes over one that heard phones: its first layer then gives nearly what it gave.
    Source: ours; ridge inverse of the likenesses.
    """
    begin_from(path, "core", net, average)
    if path.exists() and net.config["relatives"] and not read_state(path, "core")[1].get("relatives"):
        turn = torch.linalg.solve(net.likeness + 0.1 * torch.eye(len(net.likeness)), torch.eye(len(net.likeness)))
        for module in (net, average):
            with torch.no_grad():
                weight = module.sound_in[0].weight[:, : len(turn)]
                weight.copy_(torch.einsum("okt,jk->ojt", weight, turn))


def lip_rows(out, parts, lips):
    """{part: rows of `load_reads`} of the clips in parts, which name them as crop files are named. Source: ours."""
    labels = {Path(n).stem: c for n, c in clips_of(out / "phones.npz").items()}
    folder = made_by("reads", out / "reads")
    return {k: load_reads(folder, [Path(f"{name}.npz") for name in sorted(parts[k])], labels, lips.numpy())
            for k in ("clips", "held_clips", "known_clips") if k in parts}


def tutor_of(encoder, clips):
    """The Tutor that clips, a part of `load_codes`, fit. encoder: on the CPU. Source: ours."""
    names = sorted(clips)
    rows = [(code := evened(clips[n]["code"], clips[n]["opening"]), clips[n]["mel"][:, : 4 * len(code)]) for n in names]
    return Tutor(encoder, rows, odds_of(names))


def train(out, minutes=15.0, seed=0, report=None, batch=16, weights=None, *, device="auto"):
    """Train on OUT/codes.npz, OUT/phones.npz and what `train voices` made, if it is there, with OUT/phonetic.safetensors; returns scores by part.

    out: working folder.  minutes: whole budget, earlier parts included.
    report: as for `Run.advance`.  batch: items a step.  weights: file to write; None is OUT/core.safetensors.
    device: one of DEVICE_CHOICES; what is saved lies on the CPU.
    A core.safetensors that is there without a checkpoint is trained on.
    Raises UsageProblem when an earlier stage is missing or for another device, Missing for a GPU that is not there.
    Source: ours.
    """
    torch.manual_seed(seed)
    out, placement = Path(out), place(device)
    state, config = read_state(made_by("phonetic", out / "phonetic.safetensors"), "phonetic")
    encoder = load_into(PhoneticEncoder(config["width"], config["dilations"]), state, "phonetic").eval()
    parts, split = load_codes(made_by("codes", out / "codes.npz")), held_out()
    speech = clips_of(made_by("align", out / "phones.npz"))
    said = {Path(n).stem: c["phones"] for n, c in speech.items()}
    said = {n: said[n.split("__", 2)[2]] for n in parts["clips"] if n.split("__", 2)[2] in said}
    speech = {n: c for n, c in (speech | made_voices(out)).items() if not is_held(n, c["speaker"], split)}
    net = AVCore(relatives=True)
    average = Average(net)
    begun_from(out / "core.safetensors", net, average.module)
    net, average.module = net.to(placement.device), average.module.to(placement.device)
    optimizer = torch.optim.AdamW(net.parameters(), PEAK, weight_decay=0.1, betas=(0.9, 0.98))
    run = Run(out / "core.ckpt", dict(net=net, average=average.module), dict(net=optimizer), minutes)
    ears, weight = deepcopy(encoder).to(placement.device), loss_weights().to(placement.device)
    batches = Batches(parts["clips"], speech, ears, seed + run.step, phones=said, tutor=tutor_of(encoder, parts["clips"]))
    lips = torch.from_numpy(np.load(out / "space.npz")["lips"])
    read = lip_rows(out, parts, lips)
    faces = LipBatches(read["clips"], TICKS, seed + run.step)
    while run.done < 1:
        packed, known, counted = batches.draw(batch)
        seen, ids = (x.to(placement.device) for x in faces.draw(batch))
        phones = torch.zeros(())
        with placement.autocast():
            motion, sound = flow_loss(net, packed, known, batches.generator, weight * counted)
            if run.step % LIP_EVERY == 0:
                phones = lip_loss(net, seen, ids)
        optimizer.zero_grad()
        (motion + 0.5 * sound + LIP_WEIGHT * phones).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update(net, run.step)
        run.advance(dict(motion=motion.item(), sound=sound.item(), phones=LIP_EVERY * phones.item()), PEAK, report)
    run.save()
    core = average.module.cpu()
    facts = {k: score(core, encoder, lips, parts[k]) for k in ("held_clips", "known_clips", "eval") if k in parts}
    facts["lips"] = {k: score_lips(core, read[k], usual_lengths(read["clips"])) for k in ("held_clips", "known_clips") if k in read}
    save_state(weights or out / "core.safetensors", core.state_dict(), dict(core.config, facts=facts, steps=run.step))
    return facts

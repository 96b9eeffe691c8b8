"""What the core learns from: stretches of talking clips put together anew, in strange voices, at other paces and as song; speech without picture."""
import numpy as np
import torch

from engine.core import ABSENT, CODE_WIDTH, GENERATED, GIVEN, Known, pack
from engine.encoders.audio import PHONES, articulation_of
from engine.encoders.vision import BLINK, EXPRESSION
from engine.timeline import read_at
from engine.train.disguise import FLOOR, disguise, uniform
from engine.train.manifest import is_common
from engine.train.song import paced, sung

TICKS = 75                             # 3 s a training item
STRANGER_ODDS = 6.0                    # how much oftener a clip of a rare speaker is drawn
USUAL_OPENING = 0.018                  # deviation of the inner-lip opening of a speaker, in units of the crop: the median of those there are
SCALES = (0.5, 2.0)                    # how far the opening of a clip is brought to the usual one
TAUGHT = 0.25                          # share of items that are speech without picture, moved by the teacher of engine/train/tutor.py
QUIET_ENERGY, KEPT_TICKS = -1.0, 12    # a joint lies in what is quieter than this, of which so much is kept at most
MELT_TICKS = 12                        # in which the end of one clip gives way to the beginning of the next
FASTEST, SLOWEST, SUNG = 1.3, 0.75, 0.1
BLUR, PHONE_NOISE = 0.3, 0.8           # share of items whose phones are less sure; deviation of their logarithms
ENERGY_SHIFT, ENERGY_GAIN, PITCH_SHIFT = 0.3, 0.25, 0.7   # louder, livelier, higher voices; the last in octaves


def draw_states(count, ticks, generator):
    """States (B, T) of motion and articulation for a batch: mostly sound given and motion wanted; the other ways often enough.

    A part of the items has its first ticks given (windows carry over) or all but a stretch of them (in-filling).
    Source: ours.
    """
    dice = torch.rand(count, generator=generator)
    motion = torch.where(dice < 0.84, GENERATED, torch.where(dice < 0.94, GIVEN, ABSENT))
    sound = torch.where(dice < 0.62, GIVEN, torch.where(dice < 0.74, ABSENT, GENERATED))
    motion, sound = motion[:, None].repeat(1, ticks), sound[:, None].repeat(1, ticks)
    for i in range(count):
        if motion[i, 0] == GENERATED and uniform(0, 1, generator) < 0.35:
            motion[i, : int(uniform(3, 26, generator))] = GIVEN
        if sound[i, 0] == GENERATED and uniform(0, 1, generator) < 0.35:
            start = int(uniform(0, ticks, generator))
            sound[i, :start], sound[i, start + int(uniform(5, 40, generator)):] = GIVEN, GIVEN
    return motion, sound


class Batches:
    """Items of talking clips under disguise, and of speech without picture.

    clips: a part of `load_codes`.  speech: of `clips_of`.  encoder: PhoneticEncoder in eval; batches come where it lies.
    phones: {clip name: ids (T,) at 100 Hz} of clips that can be sung.
    tutor: what moves the mouth to speech without picture: log-mel (80, 4 T) -> (T, 21); None leaves such speech without motion.
    Source: ours.
    """

    def __init__(self, clips, speech, encoder, seed, *, phones=None, tutor=None):
        self.clips, self.speech, self.encoder, self.phones, self.tutor = clips, speech, encoder, phones or {}, tutor
        self.names = sorted(clips)
        odds = odds_of(self.names)
        self.odds, self.rng = odds / odds.sum(), np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.level = {n: evened(c["code"], c["opening"]) for n, c in clips.items()}

    def take(self):
        """(code (T, 32), mel (80, 4 T)) of a clip in the usual opening, at another pace or as song; long silence at its ends left out."""
        name = self.names[self.rng.choice(len(self.names), p=self.odds)]
        code, mel = self.level[name], self.clips[name]["mel"]
        if name in self.phones and self.rng.random() < SUNG:
            at = sung(self.phones[name][: mel.shape[1]], self.generator)
        else:
            at = paced(mel.shape[1], np.exp(self.rng.uniform(np.log(SLOWEST), np.log(FASTEST))))
        at = at[: len(at) // 4 * 4]
        code, mel = read_at(code, at[::4] / 4), read_at(mel.T, at).T
        loud = np.flatnonzero(mel.mean(0) > QUIET_ENERGY)
        kept = self.rng.integers(1, KEPT_TICKS + 1, 2)
        first, last = (max(0, loud[0] // 4 - kept[0]), min(len(code), loud[-1] // 4 + 1 + kept[1])) if len(loud) else (0, len(code))
        return code[first:last], mel[:, 4 * first : 4 * last]

    def item(self):
        """(code (T, 32), mel (80, 4 T)): a stretch of clips one after the other, sentences in no order."""
        code, mel = self.take()
        while len(code) < TICKS + TICKS // 2:
            more, sound = self.take()
            if len(code) and len(more):
                fade = np.clip(1 - np.arange(len(more)) / MELT_TICKS, 0, 1)[:, None] ** 2
                slow = np.clip(1 - np.arange(len(more)) / (3 * MELT_TICKS), 0, 1)[:, None] ** 2
                step = code[-1] - more[0]
                more = np.c_[more[:, :EXPRESSION] + fade * step[:EXPRESSION], more[:, EXPRESSION:] + slow * step[EXPRESSION:]].astype(np.float32)
            code, mel = np.concatenate([code, more]), np.concatenate([mel, sound], 1)
        start = int(self.rng.integers(0, len(code) - TICKS + 1))
        return code[start : start + TICKS], mel[:, 4 * start : 4 * (start + TICKS)]

    def speech_item(self):
        """Log-mel (80, 4 T): a stretch of speech, continued in silence."""
        names = list(self.speech)
        mel = self.speech[names[int(self.rng.integers(len(names)))]]["mel"].astype(np.float32)
        start = int(self.rng.integers(0, max(1, mel.shape[1] - 4 * TICKS)))
        mel = mel[:, start : start + 4 * TICKS]
        return np.pad(mel, ((0, 0), (0, 4 * TICKS - mel.shape[1])), constant_values=FLOOR)

    @torch.no_grad()
    def draw(self, count):
        """(packed (B, T, 118), Known, (B, 1, 32) bool) with noise-free values; the last tells which numbers of the motion are to be learnt."""
        motion, sound = draw_states(count, TICKS, self.generator)
        others = [torch.from_numpy(self.speech_item()) for _ in range(4)]
        codes, mels, counted = [], [], torch.ones(count, 1, CODE_WIDTH, dtype=torch.bool)
        for i in range(count):
            code, mel = self.item()
            if motion[i, 0] == ABSENT:
                mel = self.speech_item()
            elif self.tutor and uniform(0, 1, self.generator) < TAUGHT:
                mel, code = self.speech_item(), code.copy()
                code[:, :BLINK], counted[i, 0, BLINK:] = self.tutor(mel), False
            mel = torch.from_numpy(np.ascontiguousarray(mel))
            codes.append(code)
            mels.append(disguise(mel, others, self.generator) if uniform(0, 1, self.generator) < 0.8 else mel)
        device = next(self.encoder.parameters()).device
        heard = varied(articulation_of(self.encoder, torch.stack(mels).to(device)), self.generator)
        packed = pack(torch.from_numpy(np.stack(codes)).to(device), heard)
        return packed, Known(packed, motion.to(device), sound.to(device)), counted.to(device)


def odds_of(names):
    """How much oftener each clip is drawn than one of the common speaker (N,). Source: ours."""
    return np.array([1.0 if is_common(n) else STRANGER_ODDS for n in names])


def evened(code, opening):
    """Code (T, 32) of a clip with mouth and jaw scaled so that its opening (T,) varies as usual: how wide is the speaker's, not the sound's. Source: ours."""
    scale = np.clip(USUAL_OPENING / max(float(opening.std()), 1e-6), *SCALES)
    out = code.astype(np.float32).copy()
    out[:, :BLINK] *= scale
    return out


def varied(heard, generator):
    """Articulation (B, T, 43) as other ears would hear it from other voices: phones less sure, louder, livelier, higher. Source: ours."""
    def draw(low, high):
        return (torch.rand((len(heard), 1, 1), generator=generator) * (high - low) + low).to(heard.device)

    count = len(PHONES)
    phones, voiced, pitch, energy = heard[..., :count], heard[..., count : count + 1], heard[..., count + 1 : count + 2], heard[..., count + 2 :]
    noise = torch.randn((len(heard), heard.shape[1] // 5 + 1, count), generator=generator).to(heard.device).repeat_interleave(5, 1)[:, : heard.shape[1]]
    unsure = (phones.clamp_min(1e-4).log() + PHONE_NOISE * noise).softmax(-1)
    phones = torch.where(draw(0, 1) < BLUR, unsure, phones)
    energy = ((energy + 1.5) * (1 + draw(-ENERGY_GAIN, ENERGY_GAIN)) - 1.5 + draw(-ENERGY_SHIFT, ENERGY_SHIFT)).clamp_min(-1.5)
    return torch.cat([phones, voiced, pitch + voiced * draw(-PITCH_SHIFT, PITCH_SHIFT), energy], -1)

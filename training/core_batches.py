"""What the core learns from: stretches of talking clips put together anew, in strange voices, at other paces and as
song; speech without picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mouthpiece.engine.core import ABSENT, CODE_WIDTH, GENERATED, GIVEN, StreamConditions, pack_streams
from mouthpiece.engine.encoders.motion import BLINK_INDEX, EXPRESSION_WIDTH
from mouthpiece.engine.encoders.phonetic import PHONES, encode_articulation
from mouthpiece.engine.timeline import interpolate_track
from mouthpiece.training.augment import SILENCE_LOG_MEL, augment, draw_uniform
from mouthpiece.training.data.manifest import is_common_speaker
from mouthpiece.training.time_warp import make_singing_warp, make_tempo_warp

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.engine.encoders.phonetic import PhoneticEncoder
    from mouthpiece.training.pseudo_labels import RidgeTeacher

ITEM_TICKS = 75  # 3 s a training item
RARE_SPEAKER_ODDS = 6.0  # how much oftener a clip of a rare speaker is drawn
# deviation of the inner-lip opening of a speaker, in units of the crop: the median of those there are
TYPICAL_OPENING_STD = 0.018
OPENING_GAIN_RANGE = (0.5, 2.0)  # how far the opening of a clip is brought to the usual one
# share of items that are speech without picture, moved by the teacher of training/pseudo_labels.py
PSEUDO_LABEL_SHARE = 0.25
# a joint lies in what is quieter than this, of which so much is kept at most
SILENCE_LEVEL, MAX_SILENCE_TICKS = -1.0, 12
CROSSFADE_TICKS = 12  # in which the end of one clip gives way to the beginning of the next
MAX_TEMPO, MIN_TEMPO, SINGING_SHARE = 1.3, 0.75, 0.1
# share of items whose phones are less sure; deviation of their logarithms
PHONE_NOISE_SHARE, PHONE_NOISE_STD = 0.3, 0.8
# louder, livelier, higher voices; the last in octaves
MAX_ENERGY_SHIFT, MAX_ENERGY_GAIN, MAX_PITCH_SHIFT_OCTAVES = 0.3, 0.25, 0.7


def draw_states(count: int, ticks: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return states (B, T) of motion and articulation for a batch: mostly sound given and motion wanted; the other ways
    often
    enough.

    A part of the items has its first ticks given (windows carry over) or all but a stretch of them (in-filling).
    """
    dice = torch.rand(count, generator=generator)
    motion = torch.where(dice < 0.84, GENERATED, torch.where(dice < 0.94, GIVEN, ABSENT))
    sound = torch.where(dice < 0.62, GIVEN, torch.where(dice < 0.74, ABSENT, GENERATED))
    motion, sound = motion[:, None].repeat(1, ticks), sound[:, None].repeat(1, ticks)
    for i in range(count):
        if motion[i, 0] == GENERATED and draw_uniform(0, 1, generator) < 0.35:
            motion[i, : int(draw_uniform(3, 26, generator))] = GIVEN
        if sound[i, 0] == GENERATED and draw_uniform(0, 1, generator) < 0.35:
            start = int(draw_uniform(0, ticks, generator))
            sound[i, :start], sound[i, start + int(draw_uniform(5, 40, generator)) :] = GIVEN, GIVEN
    return motion, sound


class CoreBatches:
    """Items of talking clips under disguise, and of speech without picture.

    clips: a part of `load_codes`.  speech: of `load_labelled_clips`.  encoder: PhoneticEncoder in eval; batches come
    where it
    lies.
    phones: {clip name: ids (T,) at 100 Hz} of clips that can be sung.
    teacher: what moves the mouth to speech without picture: log-mel (80, 4 T) -> (T, 21); None leaves it without
    motion.
    """

    def __init__(
        self,
        clips: dict[str, dict[str, np.ndarray]],
        speech: dict[str, Any],
        encoder: PhoneticEncoder,
        seed: int,
        *,
        phones: dict[str, np.ndarray] | None = None,
        teacher: RidgeTeacher | None = None,
    ) -> None:
        self.clips, self.speech, self.encoder, self.phones, self.teacher = clips, speech, encoder, phones or {}, teacher
        self.names = sorted(clips)
        odds = compute_speaker_odds(self.names)
        self.odds, self.rng = odds / odds.sum(), np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.level = {n: normalize_code_opening(c["code"], c["opening"]) for n, c in clips.items()}

    def take(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (code (T, 32), mel (80, 4 T)) of a clip in the usual opening, at another pace or as song; long silence
        at its
        ends left out.
        """
        name = self.names[self.rng.choice(len(self.names), p=self.odds)]
        code, mel = self.level[name], self.clips[name]["mel"]
        if name in self.phones and self.rng.random() < SINGING_SHARE:
            at = make_singing_warp(self.phones[name][: mel.shape[1]], self.generator)
        else:
            at = make_tempo_warp(mel.shape[1], np.exp(self.rng.uniform(np.log(MIN_TEMPO), np.log(MAX_TEMPO))))
        at = at[: len(at) // 4 * 4]
        code, mel = interpolate_track(code, at[::4] / 4), interpolate_track(mel.T, at).T
        loud = np.flatnonzero(mel.mean(0) > SILENCE_LEVEL)
        kept = self.rng.integers(1, MAX_SILENCE_TICKS + 1, 2)
        first, last = (
            (max(0, loud[0] // 4 - kept[0]), min(len(code), loud[-1] // 4 + 1 + kept[1]))
            if len(loud)
            else (0, len(code))
        )
        return code[first:last], mel[:, 4 * first : 4 * last]

    def item(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (code (T, 32), mel (80, 4 T)): a stretch of clips one after the other, sentences in no order."""
        code, mel = self.take()
        while len(code) < ITEM_TICKS + ITEM_TICKS // 2:
            more, sound = self.take()
            if len(code) and len(more):
                fade = np.clip(1 - np.arange(len(more)) / CROSSFADE_TICKS, 0, 1)[:, None] ** 2
                slow = np.clip(1 - np.arange(len(more)) / (3 * CROSSFADE_TICKS), 0, 1)[:, None] ** 2
                step = code[-1] - more[0]
                more = np.c_[
                    more[:, :EXPRESSION_WIDTH] + fade * step[:EXPRESSION_WIDTH],
                    more[:, EXPRESSION_WIDTH:] + slow * step[EXPRESSION_WIDTH:],
                ].astype(np.float32)
            code, mel = np.concatenate([code, more]), np.concatenate([mel, sound], 1)
        start = int(self.rng.integers(0, len(code) - ITEM_TICKS + 1))
        return code[start : start + ITEM_TICKS], mel[:, 4 * start : 4 * (start + ITEM_TICKS)]

    def sample_speech(self) -> np.ndarray:
        """Return the log-mel (80, 4 T): a stretch of speech, continued in silence."""
        names = list(self.speech)
        mel = self.speech[names[int(self.rng.integers(len(names)))]]["mel"].astype(np.float32)
        start = int(self.rng.integers(0, max(1, mel.shape[1] - 4 * ITEM_TICKS)))
        mel = mel[:, start : start + 4 * ITEM_TICKS]
        return np.pad(mel, ((0, 0), (0, 4 * ITEM_TICKS - mel.shape[1])), constant_values=SILENCE_LOG_MEL)

    @torch.no_grad()
    def draw(self, count: int) -> tuple[torch.Tensor, StreamConditions, torch.Tensor]:
        """Return (packed (B, T, 118), Known, (B, 1, 32) bool) with noise-free values; the last tells which numbers of
        the
        motion are to be learnt.
        """
        motion, sound = draw_states(count, ITEM_TICKS, self.generator)
        others = [torch.from_numpy(self.sample_speech()) for _ in range(4)]
        codes, mels, counted = [], [], torch.ones(count, 1, CODE_WIDTH, dtype=torch.bool)
        for i in range(count):
            code, mel = self.item()
            if motion[i, 0] == ABSENT:
                mel = self.sample_speech()
            elif self.teacher and draw_uniform(0, 1, self.generator) < PSEUDO_LABEL_SHARE:
                mel, code = self.sample_speech(), code.copy()
                code[:, :BLINK_INDEX], counted[i, 0, BLINK_INDEX:] = self.teacher(mel), False
            clean = torch.from_numpy(np.ascontiguousarray(mel))
            codes.append(code)
            mels.append(augment(clean, others, self.generator) if draw_uniform(0, 1, self.generator) < 0.8 else clean)
        device = next(self.encoder.parameters()).device
        articulation = augment_articulation(
            encode_articulation(self.encoder, torch.stack(mels).to(device)), self.generator
        )
        packed = pack_streams(torch.from_numpy(np.stack(codes)).to(device), articulation)
        return packed, StreamConditions(packed, motion.to(device), sound.to(device)), counted.to(device)


def compute_speaker_odds(names: list[str]) -> np.ndarray:
    """Return how much oftener each clip is drawn than one of the common speaker (N,)."""
    return np.array([1.0 if is_common_speaker(n) else RARE_SPEAKER_ODDS for n in names])


def normalize_code_opening(code: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Return the code (T, 32) of a clip with mouth and jaw scaled so that its opening (T,) varies as usual: how wide is
    the
    speaker's, not the sound's.
    """
    scale = np.clip(TYPICAL_OPENING_STD / max(float(opening.std()), 1e-6), *OPENING_GAIN_RANGE)
    out = code.astype(np.float32).copy()
    out[:, :BLINK_INDEX] *= scale
    return out


def augment_articulation(articulation: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Augment an articulation (B, T, 43): phones less certain; louder, livelier and higher voices."""

    def draw(low: float, high: float) -> torch.Tensor:
        return (torch.rand((len(articulation), 1, 1), generator=generator) * (high - low) + low).to(articulation.device)

    count = len(PHONES)
    phones, voiced, pitch, energy = (
        articulation[..., :count],
        articulation[..., count : count + 1],
        articulation[..., count + 1 : count + 2],
        articulation[..., count + 2 :],
    )
    noise = (
        torch.randn((len(articulation), articulation.shape[1] // 5 + 1, count), generator=generator)
        .to(articulation.device)
        .repeat_interleave(5, 1)[:, : articulation.shape[1]]
    )
    unsure = (phones.clamp_min(1e-4).log() + PHONE_NOISE_STD * noise).softmax(-1)
    phones = torch.where(draw(0, 1) < PHONE_NOISE_SHARE, unsure, phones)
    energy = (
        (energy + 1.5) * (1 + draw(-MAX_ENERGY_GAIN, MAX_ENERGY_GAIN)) - 1.5 + draw(-MAX_ENERGY_SHIFT, MAX_ENERGY_SHIFT)
    ).clamp_min(-1.5)
    return torch.cat(
        [phones, voiced, pitch + voiced * draw(-MAX_PITCH_SHIFT_OCTAVES, MAX_PITCH_SHIFT_OCTAVES), energy], -1
    )

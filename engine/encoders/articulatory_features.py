"""What lips, jaw and tongue do for each phone: phones that a training hardly has share what it learns of their
relatives.
"""

from __future__ import annotations

import numpy as np
import torch

from mouthpiece.engine.encoders.phonetic import PHONES

OPENNESS = (
    "SIL .05  AA 1  AE .95  AH .6  AO .8  AW .9  AY .95  EH .7  ER .45  EY .6  IH .45  IY .35  OW .55  OY .6  UH .4  UW .25  B 0  P 0  M 0  F .1  V .1  "
    "W .15  R .3  L .45  N .35  T .3  D .3  S .2  Z .2  SH .25  ZH .25  CH .25  JH .25  TH .3  DH .3  K .4  G .4  NG .4  HH .55  Y .35"
)
GRADED_FEATURES = dict(
    open=OPENNESS,
    round="AO .6  OW .8  OY .7  UH .6  UW 1  W 1  AW .4  R .4  SH .6  ZH .6  CH .6  JH .6  ER .4",
    spread="IY 1  EY .8  IH .6  EH .5  AE .6  Y .7  S .5  Z .5  AY .5",
    high="IY 1  IH .8  UW 1  UH .8  EY .6  OW .5  Y 1  W 1",
    low="AA 1  AE 1  AY .8  AW .8  AO .7  AH .4  EH .4",
    front="IY 1  IH .8  EY .9  EH .8  AE .8  Y 1",
    back="UW 1  UH .8  OW .9  AO .9  AA .7  OY .8  AW .5  W 1",
    gliding="AW 1  AY 1  OY 1  EY .5  OW .5",
)
BINARY_FEATURES = dict(
    lips="B P M",
    lip_and_teeth="F V",
    tongue_tip="T D N L S Z TH DH",
    hissing="S Z SH ZH CH JH",
    between_teeth="TH DH",
    tongue_back="K G NG",
    glide="W Y R L HH",
    nose="M N NG",
    vowel="AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW",
    silence="SIL",
)
VOWEL_INDICES = tuple(PHONES.index(p) for p in BINARY_FEATURES["vowel"].split())


def make_articulatory_features() -> np.ndarray:
    """Features of the phones (40, 18) float32 in [0, 1]: opening, rounding, spreading, ... as named above.

    Source: ours, after the IPA chart and the mouth shapes of animators (Edwards, Landreth, Fiume, Singh 2016, JALI).
    """
    out = np.zeros((len(PHONES), len(GRADED_FEATURES) + len(BINARY_FEATURES)), np.float32)
    for k, text in enumerate(GRADED_FEATURES.values()):
        words = text.split()
        for phone, value in zip(words[::2], words[1::2]):
            out[PHONES.index(phone), k] = float(value)
    for k, text in enumerate(BINARY_FEATURES.values(), len(GRADED_FEATURES)):
        out[[PHONES.index(phone) for phone in text.split()], k] = 1
    return out


def phone_similarity() -> torch.Tensor:
    """How alike each two phones are made (40, 40) float32, symmetric: mean product of their standardised features.

    Source: linear kernel of `articulators`.
    """
    features = make_articulatory_features()
    features = (features - features.mean(0)) / features.std(0)
    return torch.from_numpy(features @ features.T / features.shape[1])

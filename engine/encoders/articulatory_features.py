"""Describe phones by articulatory features (lips, jaw, tongue), so that rare phones share what is learned of others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from mouthpiece.engine.encoders.phonetic import PHONES


class MouthShape(NamedTuple):
    """The mouth of a phone.

    openness: in [0, 1], set by hand for the features below, with which the core was trained: a change needs a training.
    measured_opening: in [0, 1], mean opening of the phone in one speaker's clips, 1 as in "father"; what evaluation
    expects of a mouth.
    viseme: name of the class of phones that look alike; what lip reading can tell apart.
    """

    openness: float
    measured_opening: float
    viseme: str


# The one table of mouths. Both openings are kept: the first is an input of trained weights, the second a measurement.
MOUTH_SHAPES = {
    "SIL": MouthShape(0.05, 0.0, "rest"),
    "P": MouthShape(0.0, 0.0, "lips together"),
    "B": MouthShape(0.0, 0.0, "lips together"),
    "M": MouthShape(0.0, 0.0, "lips together"),
    "F": MouthShape(0.1, 0.05, "lip to teeth"),
    "V": MouthShape(0.1, 0.05, "lip to teeth"),
    "TH": MouthShape(0.3, 0.3, "tongue between teeth"),
    "DH": MouthShape(0.3, 0.3, "tongue between teeth"),
    "T": MouthShape(0.3, 0.4, "tongue to ridge"),
    "D": MouthShape(0.3, 0.4, "tongue to ridge"),
    "S": MouthShape(0.2, 0.35, "tongue to ridge"),
    "Z": MouthShape(0.2, 0.35, "tongue to ridge"),
    "N": MouthShape(0.35, 0.4, "tongue to ridge"),
    "L": MouthShape(0.45, 0.5, "tongue to ridge"),
    "CH": MouthShape(0.25, 0.25, "lips pushed out"),
    "JH": MouthShape(0.25, 0.3, "lips pushed out"),
    "SH": MouthShape(0.25, 0.25, "lips pushed out"),
    "ZH": MouthShape(0.25, 0.25, "lips pushed out"),
    "R": MouthShape(0.3, 0.2, "lips pushed out"),
    "ER": MouthShape(0.45, 0.4, "lips pushed out"),
    "K": MouthShape(0.4, 0.5, "tongue back"),
    "G": MouthShape(0.4, 0.4, "tongue back"),
    "NG": MouthShape(0.4, 0.4, "tongue back"),
    "HH": MouthShape(0.55, 0.45, "tongue back"),
    "Y": MouthShape(0.35, 0.35, "tongue back"),
    "W": MouthShape(0.15, 0.15, "lips rounded"),
    "UW": MouthShape(0.25, 0.25, "lips rounded"),
    "OW": MouthShape(0.55, 0.5, "lips rounded"),
    "OY": MouthShape(0.6, 0.6, "lips rounded"),
    "UH": MouthShape(0.4, 0.35, "lips rounded"),
    "AO": MouthShape(0.8, 0.7, "lips rounded"),
    "AA": MouthShape(1.0, 1.0, "jaw low"),
    "AW": MouthShape(0.9, 0.8, "jaw low"),
    "AY": MouthShape(0.95, 0.95, "jaw low"),
    "AH": MouthShape(0.6, 0.65, "jaw low"),
    "AE": MouthShape(0.95, 0.9, "jaw mid"),
    "EH": MouthShape(0.7, 0.9, "jaw mid"),
    "EY": MouthShape(0.6, 0.85, "jaw mid"),
    "IH": MouthShape(0.45, 0.5, "jaw mid"),
    "IY": MouthShape(0.35, 0.6, "jaw mid"),
}
# classes of phones that look alike
VISEMES = tuple(dict.fromkeys(shape.viseme for shape in MOUTH_SHAPES.values()))
# feature -> phones with its value in [0, 1]; 0 for all others
GRADED_FEATURES = dict(
    round="AO .6  OW .8  OY .7  UH .6  UW 1  W 1  AW .4  R .4  SH .6  ZH .6  CH .6  JH .6  ER .4",
    spread="IY 1  EY .8  IH .6  EH .5  AE .6  Y .7  S .5  Z .5  AY .5",
    high="IY 1  IH .8  UW 1  UH .8  EY .6  OW .5  Y 1  W 1",
    low="AA 1  AE 1  AY .8  AW .8  AO .7  AH .4  EH .4",
    front="IY 1  IH .8  EY .9  EH .8  AE .8  Y 1",
    back="UW 1  UH .8  OW .9  AO .9  AA .7  OY .8  AW .5  W 1",
    gliding="AW 1  AY 1  OY 1  EY .5  OW .5",
)
# feature -> phones that have it
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
    """Make the features of the phones, (40, 18) float32 in [0, 1]: openness, then graded and binary ones as above.

    Source: after the IPA chart and the mouth shapes of animators (Edwards, Landreth, Fiume, Singh 2016, JALI).
    """
    out = np.zeros((len(PHONES), 1 + len(GRADED_FEATURES) + len(BINARY_FEATURES)), np.float32)
    out[:, 0] = [MOUTH_SHAPES[phone].openness for phone in PHONES]
    for k, text in enumerate(GRADED_FEATURES.values(), 1):
        words = text.split()
        for phone, value in zip(words[::2], words[1::2]):
            out[PHONES.index(phone), k] = float(value)
    for k, text in enumerate(BINARY_FEATURES.values(), 1 + len(GRADED_FEATURES)):
        out[[PHONES.index(phone) for phone in text.split()], k] = 1
    return out


def phone_similarity() -> torch.Tensor:
    """Compute how alike each two phones are articulated, (40, 40) float32, symmetric: the linear kernel of their
    standardised features.
    """
    features = make_articulatory_features()
    features = (features - features.mean(0)) / features.std(0)
    return torch.from_numpy(features @ features.T / features.shape[1])

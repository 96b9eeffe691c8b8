import numpy as np
import torch

from mouthpiece.engine.encoders.articulatory_features import (
    MOUTH_SHAPES,
    VISEMES,
    VOWEL_INDICES,
    make_articulatory_features,
    phone_similarity,
)
from mouthpiece.engine.encoders.phonetic import PHONES


def alike(one, other):
    return float(phone_similarity()[PHONES.index(one), PHONES.index(other)])


def test_every_phone_has_features_between_none_and_full_and_no_two_columns_are_the_same():
    table = make_articulatory_features()
    assert table.shape == (40, 18) and table.min() == 0 and table.max() == 1
    assert (table.std(0) > 0).all() and len(np.unique(table.T, axis=0)) == 18
    assert (table[:, 0] > 0).sum() == 37  # all but p, b and m open the mouth a little


def test_relatives_are_alike_and_strangers_are_not():
    for phone, relative, stranger in (
        ("P", "B", "AA"),
        ("F", "V", "OW"),
        ("OY", "OW", "S"),
        ("ZH", "SH", "AE"),
        ("IY", "IH", "M"),
        ("AA", "AO", "T"),
    ):
        assert alike(phone, relative) > 0.4 > alike(phone, stranger) + 0.3
        assert alike(phone, phone) > alike(phone, stranger)
    assert torch.equal(phone_similarity(), phone_similarity().T)


def test_vowels_are_the_fifteen_of_the_alphabet():
    assert sorted(PHONES[k] for k in VOWEL_INDICES) == sorted(p for p in PHONES if p[0] in "AEIOU")


def test_every_phone_has_one_mouth_and_lips_that_meet_are_a_viseme_of_their_own():
    assert sorted(MOUTH_SHAPES) == sorted(PHONES) and len(VISEMES) == 10
    assert all(0 <= s.openness <= 1 and 0 <= s.measured_opening <= 1 for s in MOUTH_SHAPES.values())
    assert {p for p, shape in MOUTH_SHAPES.items() if shape.viseme == "lips together"} == {"P", "B", "M"}
    openness = dict(zip(PHONES, make_articulatory_features()[:, 0]))
    assert openness["AA"] == 1 and openness["P"] == openness["M"] == 0 < openness["F"] < openness["IY"]

import numpy as np
import torch

from mouthpiece.engine.encoders.phonetic import PHONES
from mouthpiece.training.time_warp import VOWEL_STRETCH_RANGE, make_singing_warp, make_tempo_warp

AA, T = PHONES.index("AA"), PHONES.index("T")


def test_song_holds_vowels_and_nothing_else():
    phones = np.repeat([T, AA, T, AA, 0], 20)
    at = make_singing_warp(phones, torch.Generator().manual_seed(0))
    heard = phones[np.rint(at).astype(int).clip(0, 99)]
    counts = {p: int((heard == p).sum()) for p in (T, AA, 0)}
    assert (
        abs(counts[T] - 40) <= 3
        and abs(counts[0] - 20) <= 2
        and 40 * VOWEL_STRETCH_RANGE[0] - 2 < counts[AA] < 40 * VOWEL_STRETCH_RANGE[1] + 2
    )
    assert (np.diff(at) >= 0).all() and at[0] == 0 and at[-1] <= 99


def test_a_slower_pace_reads_the_same_sound_in_more_frames():
    assert (
        len(make_tempo_warp(100, 0.5)) == 200
        and len(make_tempo_warp(100, 2.0)) == 50
        and make_tempo_warp(100, 2.0)[10] == 20
    )

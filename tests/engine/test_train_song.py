import numpy as np
import torch

from engine.encoders.audio import PHONES
from engine.train.song import HELD, laid, paced, sung

AA, T = PHONES.index("AA"), PHONES.index("T")


def test_song_holds_vowels_and_nothing_else():
    phones = np.repeat([T, AA, T, AA, 0], 20)
    at = sung(phones, torch.Generator().manual_seed(0))
    heard = phones[np.rint(at).astype(int).clip(0, 99)]
    counts = {p: int((heard == p).sum()) for p in (T, AA, 0)}
    assert abs(counts[T] - 40) <= 3 and abs(counts[0] - 20) <= 2 and 40 * HELD[0] - 2 < counts[AA] < 40 * HELD[1] + 2
    assert (np.diff(at) >= 0).all() and at[0] == 0 and at[-1] <= 99


def test_a_slower_pace_reads_the_same_sound_in_more_frames():
    assert len(paced(100, 0.5)) == 200 and len(paced(100, 2.0)) == 50 and paced(100, 2.0)[10] == 20


def test_a_track_is_read_between_its_values_and_never_beyond_its_ends():
    track = np.arange(12, dtype=np.float32).reshape(6, 2)
    assert np.allclose(laid(track, np.array([0.0, 2.25, 99.0])), [[0, 1], [4.5, 5.5], [10, 11]])
    assert laid(track[:1], np.array([0.0, 3.0])).tolist() == [[0, 1], [0, 1]]

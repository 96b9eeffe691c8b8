"""Lips into phones: what is constant in a face is no speech, windows change nothing, and known phones land where they
were read.
"""

import numpy as np
import pytest
import torch

from mouthpiece.engine.core import AVCore
from mouthpiece.engine.encoders.lip_reading import SILENCE_INDEX, align_phones_to_scores, normalize_motion, read_lips
from mouthpiece.engine.encoders.phonetic import PHONES

LIPS = np.eye(26, dtype=np.float32)[0]


def grown_core():
    torch.manual_seed(0)
    core = AVCore(24, 1, 2)
    for p in core.parameters():
        p.data += torch.randn(p.shape) * 0.1
    return core.eval()


def test_a_face_that_is_wider_or_rests_elsewhere_reads_the_same():
    codes = np.random.default_rng(0).normal(size=(60, 26)).astype(np.float32) * 0.01
    assert np.allclose(normalize_motion(codes, LIPS), normalize_motion(codes * 1.3 + 0.4, LIPS), atol=1e-5)
    assert not normalize_motion(codes, LIPS)[:, 26:].any() and normalize_motion(codes, LIPS).shape == (60, 32)


def test_reading_in_windows_gives_what_one_pass_gives_away_from_the_edges():
    motion = np.random.default_rng(1).normal(size=(120, 32)).astype(np.float32)
    whole, parts = read_lips(grown_core(), motion), read_lips(grown_core(), motion, window=60, margin=60)
    assert whole.shape == (240, len(PHONES)) and np.allclose(np.exp(whole).sum(1), 1, atol=1e-5)
    assert np.allclose(whole, parts, atol=1e-4)


def scores_of(phones, lengths, sure=6.0):
    """Scores that name the phones for their lengths."""
    ids = np.repeat(phones, lengths)
    return np.log(np.eye(len(PHONES))[ids] * np.exp(sure) + 1)


def test_phones_land_where_the_scores_say():
    phones, lengths = [SILENCE_INDEX, 5, 9, 5, SILENCE_INDEX], [10, 4, 9, 3, 7]
    edges = align_phones_to_scores(scores_of(phones, lengths), phones, [0, 5, 5, 5, 0], [0.5] * 5, [99] * 5)
    assert np.array_equal(edges, np.concatenate([[0], np.cumsum(lengths)]))


def test_a_pause_that_nobody_made_takes_no_time_and_without_evidence_phones_share_as_they_are_usual():
    phones = [SILENCE_INDEX, 5, SILENCE_INDEX, 9, SILENCE_INDEX]
    edges = align_phones_to_scores(scores_of([5, 9], [6, 6]), phones, [0, 5, 0, 5, 0], [0.4] * 5, [99] * 5)
    assert list(np.diff(edges)) == [0, 6, 0, 6, 0]
    flat = align_phones_to_scores(np.zeros((30, len(PHONES))), [3, 4, 6], [6, 6, 6], [0.4] * 3, [30] * 3)
    assert list(np.diff(flat)) == [10, 10, 10]


@pytest.mark.parametrize("ticks, longest", [(2, 9), (40, 9)])
def test_too_little_or_too_much_time_is_said(ticks, longest):
    assert (
        align_phones_to_scores(np.zeros((ticks, len(PHONES))), [1, 2, 3], [3, 3, 3], [0.3] * 3, [longest] * 3) is None
    )

import numpy as np
import pytest
import torch

from mouthpiece.engine.encoders.articulatory_features import make_articulatory_features
from mouthpiece.engine.encoders.phonetic import PHONES
from mouthpiece.training import pseudo_labels as stage
from mouthpiece.training.pseudo_labels import CONTEXT_TICKS, RidgeTeacher, stack_context

OPENING = make_articulatory_features()[:, 0]
RARE = PHONES.index("OY")


def said(seed, without=(), ticks=120):
    """(articulation (2 T, 43), code (T, 32)): phones in turn, a mouth that opens as they do."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(rng.choice([k for k in range(40) if k not in without], ticks // 4), 8)[: 2 * ticks]
    heard = np.zeros((2 * ticks, 43), np.float32)
    heard[np.arange(2 * ticks), ids] = 1
    code = np.zeros((ticks, 32), np.float32)
    code[:, :21] = OPENING[ids[::2], None] * np.linspace(1, -1, 21) + 0.5
    return heard, code


@pytest.fixture
def teacher(monkeypatch):
    monkeypatch.setattr(stage, "compute_articulation", lambda encoder, mel: mel)
    clips = [said(k, without=(RARE,)) for k in range(20)]
    return RidgeTeacher(None, [(code, heard) for heard, code in clips], np.ones(20))


def test_the_teacher_sees_the_ticks_around_and_no_further():
    heard = np.zeros((80, 43), np.float32)
    heard[40, 42] = 1.0
    there = np.abs(stack_context(heard) - stack_context(np.zeros((80, 43), np.float32))).max(1) > 0
    assert stack_context(heard).shape == (40, 43 * (2 * CONTEXT_TICKS + 1)) and np.flatnonzero(there).tolist() == list(
        range(20 - CONTEXT_TICKS, 21 + CONTEXT_TICKS)
    )


def test_the_teacher_follows_speech_it_never_heard_about_the_same_middle_and_as_lively(teacher):
    heard, code = said(99, without=(RARE,))
    made = teacher(heard)
    assert made.shape == (120, 21) and made.dtype == np.float32
    assert np.corrcoef(made[:, 0], code[:, 0])[0, 1] > 0.9 and abs(made[:, 0].mean() - code[:, 0].mean()) < 0.15
    assert 0.75 < made[:, 0].std() / code[:, 0].std() < 1.3


def test_a_phone_that_no_clip_has_opens_the_mouth_as_its_relatives_do(teacher):
    heard = np.zeros((120, 43), np.float32)
    heard[:, PHONES.index("M")] = 1
    heard[50:70, PHONES.index("M")], heard[50:70, RARE] = 0, 1
    made = teacher(heard)[:, 0]
    assert made[28:32].mean() > made[:20].mean() + 0.2


def test_clips_that_weigh_nothing_teach_nothing(monkeypatch):
    monkeypatch.setattr(stage, "compute_articulation", lambda encoder, mel: mel)
    clips = [said(k) for k in range(12)]
    other = [(-code, heard) for heard, code in (said(50), said(51))]
    one = RidgeTeacher(None, [(code, heard) for heard, code in clips], np.ones(12))
    two = RidgeTeacher(None, [(code, heard) for heard, code in clips] + other, np.r_[np.ones(12), np.zeros(2)])
    assert torch.allclose(torch.from_numpy(one(said(7)[0])), torch.from_numpy(two(said(7)[0])), atol=1e-4)

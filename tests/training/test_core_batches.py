import numpy as np
import pytest
import torch
from synthetic_clips import CLIPS, SPEECH, make_clip

from mouthpiece.engine.core import ABSENT, CODE_WIDTH, GENERATED, GIVEN, PACKED_WIDTH, unpack_streams
from mouthpiece.engine.encoders.phonetic import PhoneticEncoder
from mouthpiece.training.core_batches import (
    CROSSFADE_TICKS,
    ITEM_TICKS,
    TYPICAL_OPENING_STD,
    CoreBatches,
    augment_articulation,
    draw_states,
    normalize_code_opening,
)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return PhoneticEncoder(16, (1, 1)).eval()


def test_states_are_mostly_sound_to_motion_and_every_other_way_comes_up():
    motion, sound = draw_states(2000, 40, torch.Generator().manual_seed(0))
    usual = ((motion[:, -1] == GENERATED) & (sound[:, -1] == GIVEN)).float().mean()
    assert 0.55 < usual < 0.7
    last = {(int(m), int(s)) for m, s in zip(motion[:, -1], sound[:, -1])}
    assert last >= {
        (GENERATED, GIVEN),
        (GENERATED, ABSENT),
        (GENERATED, GENERATED),
        (GIVEN, GENERATED),
        (ABSENT, GENERATED),
    }
    # something is to be learnt of each
    assert ((motion == GENERATED) | (sound == GENERATED)).any(1).all()
    carried = (motion[:, 0] == GIVEN) & (motion[:, -1] == GENERATED)
    lengths = (motion[carried] == GIVEN).sum(1)
    assert 0.2 < carried.float().mean() < 0.4 and 3 <= lengths.min() and 20 < lengths.max() <= 25
    holes = [s for s in sound if GIVEN in s and GENERATED in s]
    assert holes and all((s == GENERATED).nonzero().diff(dim=0).eq(1).all() for s in holes)


def test_batches_are_whole_paired_and_repeatable(encoder):
    packed, known, counted = CoreBatches(CLIPS, SPEECH, encoder, 3).draw(24)
    again, *_ = CoreBatches(CLIPS, SPEECH, encoder, 3).draw(24)
    assert (
        packed.shape == (24, ITEM_TICKS, PACKED_WIDTH) and torch.equal(packed, again) and torch.isfinite(packed).all()
    )
    assert known.motion.shape == known.articulation.shape == (24, ITEM_TICKS) and torch.equal(known.values, packed)
    assert counted.shape == (24, 1, CODE_WIDTH) and counted[..., :21].all()
    mouth, energy = packed[..., 0], unpack_streams(packed)[1][..., -1].reshape(24, ITEM_TICKS, 2).mean(-1)
    paired = [np.corrcoef(m, e)[0, 1] for m, e, s in zip(mouth, energy, known.motion) if s[0] != ABSENT]
    assert np.median(paired) > 0.7


def test_speakers_with_few_clips_are_drawn_oftener(encoder):
    odds = dict(zip(CoreBatches(CLIPS, SPEECH, encoder, 0).names, CoreBatches(CLIPS, SPEECH, encoder, 0).odds))
    assert odds["talk__ann__2"] > 5 * odds["talk__grid_s1__0"] and sum(odds.values()) == pytest.approx(1)


def test_short_clips_follow_each_other_without_a_jump(encoder):
    batches = CoreBatches({"talk__x__s": make_clip(0, ticks=30)}, SPEECH, encoder, 0)
    code, mel = batches.item()
    assert code.shape == (ITEM_TICKS, CODE_WIDTH) and mel.shape == (80, 4 * ITEM_TICKS)
    jumps = np.abs(np.diff(code[:, 0]))
    assert jumps.max() < 2.2 * np.abs(np.diff(batches.level["talk__x__s"][:, 0])).max() and CROSSFADE_TICKS > 1


def test_every_clip_opens_as_wide_as_usual_and_a_still_one_is_not_blown_up():
    wide = make_clip(1)
    wide["opening"] *= 1.5
    for c in (make_clip(1), wide):
        made, scale = (
            normalize_code_opening(c["code"], c["opening"]),
            min(2.0, TYPICAL_OPENING_STD / c["opening"].std()),
        )
        assert (
            1.2 < scale
            and np.allclose(made[:, :21], c["code"][:, :21] * scale, atol=1e-6)
            and np.array_equal(made[:, 21:], c["code"][:, 21:])
        )
    still = normalize_code_opening(np.ones((50, CODE_WIDTH), np.float32), np.zeros(50))
    assert still.max() == 2.0


def test_held_vowels_stretch_sound_and_motion_together(encoder, monkeypatch):
    talker = make_clip(3)
    phones = np.repeat(np.tile([1, 31], 18), 10)  # AA and T in turn
    monkeypatch.setattr("mouthpiece.training.core_batches.SINGING_SHARE", 1.0)
    code, mel = CoreBatches({"talk__x__s": talker}, SPEECH, encoder, 0, phones={"talk__x__s": phones}).take()
    assert 1.2 * len(talker["code"]) < len(code) == mel.shape[1] / 4 < 2.4 * len(talker["code"])
    loud = mel.mean(0).reshape(-1, 4).mean(1)
    assert np.corrcoef(code[:, 0], loud)[0, 1] > 0.9


def test_other_ears_hear_the_same_phones_less_surely_and_silence_stays_silent():
    heard = torch.zeros(200, 20, 43)
    heard[..., 5], heard[..., 40], heard[..., 42] = 1, 1, 0.5
    heard[:, :4, 5], heard[:, :4, 0], heard[:, :4, 40], heard[:, :4, 42] = 0, 1, 0, -1.5
    made = augment_articulation(heard, torch.Generator().manual_seed(0))
    assert torch.equal(made, augment_articulation(heard, torch.Generator().manual_seed(0)))
    assert (
        torch.allclose(made[..., :40].sum(-1), torch.ones(200, 20), atol=1e-4)
        and (made[..., :40].argmax(-1) == heard[..., :40].argmax(-1)).float().mean() > 0.95
    )
    assert not made[:, :4, 41].any() and made[:, 5, 41].std() > 0.2 and 0.1 < made[:, 5, 42].std() < 0.6
    assert made[:, 0, 42].max() < -1.1


def test_speech_without_picture_is_moved_by_the_teacher_and_its_lids_brows_and_head_do_not_count(encoder, monkeypatch):
    monkeypatch.setattr("mouthpiece.training.core_batches.PSEUDO_LABEL_SHARE", 1.0)
    batches = CoreBatches(
        CLIPS, SPEECH, encoder, 1, teacher=lambda mel: np.full((mel.shape[1] // 4, 21), 7, np.float32)
    )
    packed, known, counted = batches.draw(16)
    taught = known.motion[:, 0] != ABSENT
    assert (
        taught.sum() > 8
        and (packed[taught][..., :21] == 7).all()
        and not (packed[taught][..., 21:CODE_WIDTH] == 7).all()
    )
    assert (
        torch.equal(counted[:, 0, -1], ~taught) and torch.equal(counted[:, 0, 21], ~taught) and counted[:, 0, 20].all()
    )

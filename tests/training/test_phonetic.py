import itertools
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mouthpiece.engine.encoders.phonetic import PHONES, PhoneticEncoder
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.weights.loading import load_state_into, read_state
from mouthpiece.training import phonetic, training_run
from mouthpiece.training.data.forced_alignment import UNKNOWN_PHONE, save_labels
from mouthpiece.training.data.manifest import load_held_out
from mouthpiece.training.phonetic import (
    ITEM_TICKS,
    compute_clip_odds,
    compute_losses,
    sample_batch,
    score_encoder,
    train,
)

HELD = load_held_out()["readers"][0]


def spoken(seed, frames=420):
    """A toy voice: each of six phones lights its own bands; vowels are voiced, higher bands for a higher pitch."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(rng.integers(0, 6, frames // 20), 20).astype(np.uint8)
    mel = rng.normal(size=(80, frames)).astype(np.float32) * 0.1 - 1
    for k, phone in enumerate(ids):
        mel[10 * phone + 5 : 10 * phone + 15, k] += 2
    f0 = np.where(ids[::2] % 2, 100 + 20.0 * ids[::2], 0)
    return mel.astype(np.float16), ids, f0.astype(np.float16)


def labels(count=6):
    return [(f"{i}.ogg", HELD if i == 0 else f"reader {i}", *spoken(i)) for i in range(count)]


def clips(count=6):
    return {name: dict(mel=mel, phones=ids, f0=f0, speaker=who) for name, who, mel, ids, f0 in labels(count)}


@pytest.fixture
def small(monkeypatch):
    # a budget is a number of steps
    monkeypatch.setattr(training_run, "time", SimpleNamespace(monotonic=itertools.count(0, 0.2).__next__))
    monkeypatch.setattr(phonetic, "PhoneticEncoder", partial(PhoneticEncoder, 16, (1, 1)))


@pytest.mark.parametrize("plain", [True, False])
def test_a_batch_has_its_labels_beside_its_sound_and_nothing_made_up(plain):
    mel, phones, octaves, voiced, known = sample_batch(
        clips(), list(clips()), 12, torch.Generator().manual_seed(0), plain
    )
    assert mel.shape == (12, 80, 2 * ITEM_TICKS) and phones.shape == octaves.shape == voiced.shape == known.shape == (
        12,
        ITEM_TICKS,
    )
    assert set(phones.unique().tolist()) <= {-1, *range(6)} and torch.isfinite(mel).all()
    assert not octaves[~voiced].any() and known[voiced].all()
    assert torch.equal(voiced[phones >= 0], phones[phones >= 0] % 2 == 1) or not plain
    if plain:
        bands = mel.float().unfold(1, 10, 10)[:, :, ::2].mean(-1)
        heard = torch.stack([bands[:, b : b + 2].mean(1) for b in range(6)], 1).argmax(1)
        assert (heard == phones).float().mean() > 0.95


def test_a_batch_depends_on_its_generator_alone():
    one, same = (sample_batch(clips(), list(clips()), 3, torch.Generator().manual_seed(7)) for _ in range(2))
    other = sample_batch(clips(), list(clips()), 3, torch.Generator().manual_seed(8))
    assert all(torch.equal(a, b) for a, b in zip(one, same)) and not torch.equal(one[0], other[0])


def test_ticks_that_nobody_knows_and_ticks_beyond_the_end_do_not_count():
    short = clips(1)
    short["0.ogg"]["phones"][:100] = UNKNOWN_PHONE
    short["0.ogg"] = {k: v if k == "speaker" else v[..., : 200 // (1 + (k == "f0"))] for k, v in short["0.ogg"].items()}
    mel, phones, _, voiced, known = sample_batch(short, ["0.ogg"], 2, torch.Generator().manual_seed(0), plain=True)
    assert (phones[:, :50] == -1).all() and (phones[:, 50:100] >= 0).all() and (phones[:, 100:] == -1).all()
    assert known[:, :100].all() and not known[:, 100:].any() and not voiced[:, 100:].any()


def test_a_speaker_of_many_clips_is_drawn_oftener_than_one_of_few_but_not_as_often_as_he_spoke():
    voices = {str(k): dict(speaker="much") for k in range(90)} | {"rare": dict(speaker="rare")}
    odds = compute_clip_odds(voices, list(voices))
    assert odds.sum() == pytest.approx(1) and 2 < odds[:90].sum() / odds[90] < 10


def test_synthetic_voices_beside_the_recordings_are_learnt_too(tmp_path, small, monkeypatch):
    save_labels(tmp_path / "phones.npz", labels(3))
    save_labels(tmp_path / "voices.npz", [("spoken/af_1", "af", *spoken(9))])
    seen = []
    monkeypatch.setattr(
        phonetic,
        "sample_batch",
        lambda clips, names, *rest, **how: seen.append(set(names)) or sample_batch(clips, names, *rest, **how),
    )
    train(tmp_path, minutes=0.03, batch=2)
    assert seen[0] == {"1.ogg", "2.ogg", "spoken/af_1"}


def test_training_steps_make_every_loss_fall():
    torch.manual_seed(0)
    net, generator = PhoneticEncoder(16, (1, 1), dropout=0.0), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(net.parameters(), 5e-3)
    voices = clips()
    names, test = list(voices), sample_batch(voices, list(voices), 16, torch.Generator().manual_seed(99), plain=True)
    before = {k: v.item() for k, v in compute_losses(net.eval(), test).items()}
    for _ in range(60):
        parts = compute_losses(net.train(), sample_batch(voices, names, 8, generator))
        optimizer.zero_grad()
        sum(parts.values()).backward()
        optimizer.step()
    after = {k: v.item() for k, v in compute_losses(net.eval(), test).items()}
    assert set(before) == {"phones", "voicing", "f0"} and all(after[k] < 0.75 * before[k] for k in before), (
        before,
        after,
    )


def test_the_score_of_a_net_that_knows_is_perfect():
    class Oracle:
        def __call__(self, mel):
            bands = mel.unfold(1, 10, 10)[:, :, ::2].mean(-1)
            phone = torch.stack([bands[:, b : b + 2].mean(1) for b in range(6)], 1).argmax(1)
            hz = (100 + 20.0 * phone) * 2 ** (1 / 12)  # one semitone sharp
            return torch.nn.functional.one_hot(phone, len(PHONES)).float(), phone % 2 - 0.5, (hz / 150).log2()

    facts = score_encoder(Oracle(), clips(), list(clips()))
    assert facts["frames_right"] > 0.93 and facts["voicing_right"] > 0.93
    assert facts["f0_semitones"] == pytest.approx(1.0, abs=0.01)


def test_the_whole_stage_writes_weights_that_load_and_goes_on_where_it_stopped(tmp_path, small):
    save_labels(tmp_path / "phones.npz", labels())
    told = []
    facts = train(tmp_path, minutes=0.05, batch=2, report=lambda *facts: told.append(facts))
    state, config = read_state(tmp_path / "phonetic.safetensors", "phonetic")
    net = load_state_into(PhoneticEncoder(config["width"], config["dilations"], config["dropout"]), state, "phonetic")
    assert (
        set(facts) == {"frames_right", "voicing_right", "f0_semitones", "disguised"} == set(config["facts"])
        and net.config["width"] == 16
    )
    first = config["steps"]
    train(tmp_path, minutes=0.1, batch=2, device="cpu")
    assert first > 3 and read_state(tmp_path / "phonetic.safetensors", "phonetic")[1]["steps"] > first
    assert read_state(tmp_path / "phonetic.safetensors", "phonetic")[1]["steps"] < 3 * first


def test_net_and_batches_go_where_the_training_is_placed(tmp_path, small, monkeypatch, elsewhere):
    # masks of the real ones need numbers, which are not there
    def far_losses(net, batch):
        assert all(x.is_meta for x in batch) and all(p.is_meta for p in net.parameters())
        return dict.fromkeys(("phones", "voicing", "f0"), sum(out.mean() for out in net(batch[0])))

    monkeypatch.setattr(phonetic, "compute_losses", far_losses)
    save_labels(tmp_path / "phones.npz", labels())
    elsewhere(phonetic, tmp_path, minutes=0.05, batch=2)
    assert torch.load(tmp_path / "phonetic.ckpt")["step"] > 3


def test_a_device_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--device gpu: need auto, cpu"):
        train(tmp_path, device="gpu")


def test_without_labels_the_stage_says_which_stage_makes_them(tmp_path):
    with pytest.raises(UsageError, match="phones.npz") as caught:
        train(tmp_path)
    assert "train align" in caught.value.hint

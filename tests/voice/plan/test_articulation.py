import json
from pathlib import Path

import numpy as np
import pytest
from debug_plans import make_kokoro_plan, make_plan

from mouthpiece.engine.contracts import ARTICULATION_WIDTH, PHONES, SILENT_ENERGY
from mouthpiece.engine.errors import UsageError
from mouthpiece.voice.plan.articulation import PHONE_LEAD_S, articulate_plan, convert_to_arpabet
from mouthpiece.voice.plan.speech_plan import MARKS


def heard(values):
    """Phones in order, runs joined."""
    best = [PHONES[i] for i in values[:, : len(PHONES)].argmax(1)]
    return [p for k, p in enumerate(best) if k == 0 or best[k - 1] != p]


def names(phones):
    return [" ".join(PHONES[i] for i in sounds) for sounds in convert_to_arpabet(tuple(phones))]


def test_a_plan_becomes_its_phones_in_order_with_silence_where_it_is_silent():
    got = articulate_plan(make_kokoro_plan())
    assert got.values.dtype == np.float32 and got.values.shape == (
        int(np.ceil(float(make_kokoro_plan().duration) * 50)),
        ARTICULATION_WIDTH,
    )
    assert heard(got.values) == "SIL OW P AH N DH AH D AO R SIL P L IY Z W EY T N AW SIL".split()


def test_posteriors_sum_to_one_and_edges_are_soft():
    posteriors = articulate_plan(make_kokoro_plan()).phone_posteriors
    assert np.allclose(posteriors.sum(1), 1, atol=1e-5) and posteriors.min() >= 0
    assert np.sum((posteriors.max(1) > 0.3) & (posteriors.max(1) < 0.9)) > 10


def test_a_phone_lies_where_it_is_heard():
    plan = make_plan("lllllaaaaa", 4)
    change = np.argmax(articulate_plan(plan).values[:, PHONES.index("AE")] > 0.5) / 50
    assert change == pytest.approx(float(plan.edges[6]) * 0.025 - PHONE_LEAD_S, abs=0.02)


def test_pitch_is_in_octaves_above_150_hz_and_silence_has_none():
    values = articulate_plan(make_plan("aaaa", 10, hz=300.0)).values
    middle = values[len(values) // 2]
    assert middle[40] == pytest.approx(1, abs=0.02) and middle[41] == pytest.approx(1, abs=0.02) and middle[42] > 0.5
    assert values[0, 40] == values[0, 41] == 0 and values[0, 42] == SILENT_ENERGY and values[0, 0] == 1


def test_a_voiceless_sound_is_voiceless_though_the_melody_runs_through_it():
    values = articulate_plan(make_plan("aaassssaaa", 4)).values
    s = values[:, PHONES.index("S")] > 0.9
    assert values[s, 40].max() < 0.35 and values[values[:, PHONES.index("AE")] > 0.9, 40][3:-3].min() > 0.8


def test_a_later_start_moves_everything_by_whole_ticks_and_the_rest_is_silent():
    plain, later = articulate_plan(make_kokoro_plan()).values, articulate_plan(make_kokoro_plan(), offset_s=0.2).values
    assert np.allclose(later[10:], plain[: len(later) - 10], atol=1e-4)
    longer = articulate_plan(make_kokoro_plan(), ticks=400).values
    assert len(longer) == 400 and longer[300:, 0].min() == 1 and np.all(longer[300:, 42] == SILENT_ENERGY)
    earlier = articulate_plan(make_kokoro_plan(), offset_s=-0.2, ticks=100).values
    assert np.allclose(earlier[3:90], plain[13:100], atol=1e-4)


def test_stress_is_the_next_vowel_length_the_last_and_an_r_colours_its_vowel():
    assert names("ˈA") == ["EY", "EY"] and names("iː") == ["IY", "IY"]
    assert (
        names("bˈɜɹd") == ["B", "ER", "ER", "ER", "D"]
        and names("əɹˈW") == ["AH", "R", "AW", "AW"]
        and names("əɹ i") == ["ER", "ER", "", "IY"]
    )


def test_affricates_and_palatals_of_other_languages_change_on_their_way():
    assert names("ʦɲʧ") == ["T S", "N Y", "CH"]
    assert heard(articulate_plan(make_plan("aʦa", 8)).values) == ["SIL", "AE", "T", "S", "AE", "SIL"]


def test_every_sound_of_the_alphabet_has_a_mouth():
    hibari = pytest.importorskip("hibari")
    alphabet = json.loads((Path(hibari.__file__).parent / "assets" / "vocab.json").read_text(encoding="utf-8"))
    alphabet = set(alphabet.get("vocab", alphabet)) - MARKS - set("→↗↘↓ˈˌːʰʲᵝ̃")
    assert [p for p in sorted(alphabet) if not convert_to_arpabet((p,))[0]] == []


def test_no_ticks_are_refused():
    with pytest.raises(UsageError, match="ticks"):
        articulate_plan(make_kokoro_plan(), ticks=0)

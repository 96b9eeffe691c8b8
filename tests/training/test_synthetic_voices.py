import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.contracts import Articulation
from mouthpiece.engine.encoders.phonetic import PHONES
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.training.data import synthetic_voices as stage
from mouthpiece.training.data.forced_alignment import label_sentence, load_labelled_clips, save_labels, track_pitch
from mouthpiece.training.data.manifest import load_held_out
from mouthpiece.training.data.synthetic_voices import synthesize_child_voice, synthesize_singing, synthesize_whisper

LINE = "The small boat sailed past the old stone bridge."


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def spoken():
    """(wave at 16 kHz, row of labels) of a spoken line."""
    from hibari import Hibari
    from pocketsphinx import Decoder

    wave = np.pad(resample_poly(Hibari(threads=1)(LINE), 2, 3), 4000).astype(np.float32)
    return wave, label_sentence(wave, LINE, Decoder(lm=None, loglevel="FATAL"))


def loudness(wave):
    return np.sqrt((wave[: len(wave) // 320 * 320].reshape(-1, 320) ** 2).mean(1))


def test_a_whisper_is_as_loud_as_speech_where_speech_is_and_has_no_pitch(spoken):
    wave, _ = spoken
    made = synthesize_whisper(wave, seeded())
    assert made.shape == wave.shape and np.corrcoef(loudness(made), loudness(wave))[0, 1] > 0.5
    voiced = [(track_pitch(w, len(w) // 320) > 0).mean() for w in (wave, made)]
    assert voiced[1] < 0.15 < 0.3 < voiced[0]


def test_song_holds_its_vowels_on_steady_notes_and_knows_where_each_phone_went(spoken):
    wave, (_, ids, _) = spoken
    made, at = synthesize_singing(wave, ids, seeded())
    assert len(made) > 1.3 * len(wave) and abs(len(made) / 160 - len(at)) < 6
    level = np.interp(np.arange(len(at)), np.arange(0, 2 * len(loudness(made)), 2), loudness(made))
    was = np.interp(at, np.arange(0, 2 * len(loudness(wave)), 2), loudness(wave))
    assert np.corrcoef(level, was)[0, 1] > 0.8  # sound and map run together
    phones, f0 = ids[np.rint(at).astype(int).clip(0, len(ids) - 1)], track_pitch(made, len(at) // 2)
    edges = np.flatnonzero(np.diff(phones.astype(int), prepend=-1))
    held = [
        f0[a // 2 + 2 : b // 2 - 2] for a, b in zip(edges, edges[1:]) if phones[a] in stage.VOWEL_INDICES and b - a > 14
    ]
    spans = [12 * np.log2(f[f > 0].max() / f[f > 0].min()) for f in held if (f > 0).sum() > 4]
    assert len(spans) >= 3 and np.median(spans) < 1.5


def test_a_child_speaks_higher_in_the_same_time(spoken):
    wave, _ = spoken
    made = synthesize_child_voice(wave, seeded())
    pitch = [np.median(f[f > 0]) for f in (track_pitch(w, len(w) // 320) for w in (wave, made))]
    assert pitch[1] > 1.1 * pitch[0] and abs(len(made) - len(wave)) < 800


@pytest.fixture
def words(monkeypatch):
    """A list of words in place of wordfreq's."""
    known = {"ja": ["の", "人", "2"], "zh": ["中国", "的", "3"]}
    monkeypatch.setitem(
        sys.modules,
        "wordfreq",
        SimpleNamespace(
            top_n_list=lambda language, count: known.get(language, ["x", "casa", "12", "mundo", "agua"])[:count]
        ),
    )


def test_lines_of_other_languages_are_words_without_digits_or_single_letters(words):
    lines = stage.sample_lines("es", 8, np.random.default_rng(0))
    assert len(set(lines)) > 1 and all(5 <= len(line.split()) <= 9 for line in lines)
    assert {w.strip(",.") for line in lines for w in line.split()} == {"casa", "mundo", "agua"}
    assert ["," in line for line in lines] == [False, True] * 4
    assert set("".join(stage.sample_lines("ja", 8, np.random.default_rng(0)))) == set("の人、.")


def test_speakers_abroad_are_themselves_first_then_mixed_with_others_and_heard_as_planned(words, monkeypatch, spoken):
    monkeypatch.setattr(stage, "LINES_PER_LANGUAGE", 4)
    asked, planned = [], np.zeros((30, 43), np.float32)
    planned[:10, PHONES.index("M")] = planned[10:, PHONES.index("AA")] = 1

    def speak(text, voice, seed):
        asked.append(voice)
        return Sound(np.stack([spoken[0][:14400]] * 2), 24000), Articulation(planned), {}

    rows = stage.speak_foreign_lines(speak, np.random.default_rng(0))
    assert (
        len(rows) == 4 * len(stage.FOREIGN_VOICES)
        and asked[:2] == ["ef_dora", "em_alex"]
        and asked[2].startswith("ef_dora:0.65+")
    )
    held = set(load_held_out()["voices"])
    assert (
        held < {v for names in stage.FOREIGN_VOICES.values() for v in names.split()}
        and not {v.split(":")[0] for v in asked} & held
    )
    name, speaker, mel, phones, f0 = rows[2]
    assert (name, speaker) == ("abroad/es_2", "es 2") and mel.shape == (80, len(phones)) == (80, 60)
    assert [PHONES[k] for k in phones[[0, 19, 20, 59]]] == ["M", "M", "AA", "AA"]


def test_without_wordfreq_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(MissingDependencyError, match="wordfreq") as found:
        stage.sample_lines("es", 1, np.random.default_rng(0))
    assert "mouthpiece[train]" in found.value.hint


def test_the_stage_writes_every_kind_with_labels_as_long_as_its_sound(spoken, words, tmp_path, monkeypatch):
    wave, labels = spoken
    for name, value in (
        ("WHISPER_COUNT", 1),
        ("SONG_COUNT", 1),
        ("CHILD_COUNT", 1),
        ("LINES_PER_VOICE", 1),
        ("ENGLISH_VOICES", ["af_heart"]),
        ("LINES_PER_LANGUAGE", 2),
    ):
        monkeypatch.setattr(stage, name, value)
    names = [f"{k}.wav" for k in range(4)]
    rows = [
        dict(path=n, kind="speech", speaker=f"reader {n}", language="en", text=LINE, licence="CC0-1.0", source="here")
        for n in names
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    for n in names:
        write_sound(tmp_path / n, Sound(wave[None], 16000))
    save_labels(tmp_path / "phones.npz", [(n, f"reader {n}", *labels) for n in names])
    planned = np.eye(40, 43, dtype=np.float32)[labels[1][::2] % 40]
    counts = stage.write_synthetic_voices(
        tmp_path, tmp_path, lambda text, voice, seed: (Sound(wave[None], 16000), Articulation(planned), {})
    )
    assert counts == dict(abroad=2 * len(stage.FOREIGN_VOICES), spoken=1, sung=1, whispered=1, young=1)
    for name, clip in load_labelled_clips(tmp_path / "voices.npz").items():
        assert clip["mel"].shape == (80, len(clip["phones"])) and set(clip["phones"][clip["phones"] != 255]) <= set(
            range(40)
        ), name
        assert {PHONES[k] for k in clip["phones"]} >= {"B", "OW", "T", "S", "EY"}


def test_without_speech_that_aligned_it_says_what_to_run(tmp_path, spoken):
    (tmp_path / "manifest.jsonl").write_text(
        json.dumps(dict(path="x.wav", kind="speech", licence="CC0-1.0", source="here"))
    )
    save_labels(tmp_path / "phones.npz", [("talk/y.flac", "", *spoken[1])])
    with pytest.raises(InvalidInputError, match="phones.npz") as found:
        stage.write_synthetic_voices(tmp_path, tmp_path, lambda *_: SimpleNamespace())
    assert "train align" in found.value.hint

"""Voices that recordings lack: synthetic speakers, of other languages too, whisper, song and children, with the phones
of what they were made from.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import istft, stft

from mouthpiece.engine.audio.resample import resample
from mouthpiece.engine.encoders.articulatory_features import VOWEL_INDICES
from mouthpiece.engine.encoders.phonetic import RATE_HZ, TICK_HOPS, compute_log_mel, normalize_level
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.training.augment import draw_uniform
from mouthpiece.training.data.forced_alignment import label_sentence, load_labelled_clips, save_labels, track_pitch
from mouthpiece.training.data.manifest import is_held_out, load_held_out, read_rows, require_stage
from mouthpiece.training.time_warp import VOWEL_STRETCH_RANGE

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import torch

    from mouthpiece.engine.audio.sound import Sound

ENGLISH_VOICES = (
    "af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_nova af_river af_sarah "
    "af_sky am_adam am_echo am_eric am_fenrir am_liam "
    "am_michael am_onyx am_puck am_santa bf_alice bf_emma bf_isabella bf_lily bm_daniel bm_fable bm_george bm_lewis"
).split()
FOREIGN_VOICES = dict(
    es="ef_dora em_alex em_santa",
    fr="ff_siwis",
    hi="hf_alpha hf_beta hm_omega hm_psi",
    it="if_sara im_nicola",
    ja="jf_alpha jf_gongitsune jf_nezumi jf_tebukuro jm_kumo",
    pt="pf_dora pm_alex pm_santa",
    zh="zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunjian zm_yunxi zm_yunxia zm_yunyang",
)
LINES_PER_LANGUAGE = 60  # of each language
# speakers of each language, when it is decided how often each is drawn
SPEAKERS_PER_LANGUAGE = 5
BLEND_SHARE = 0.35  # share of another voice in the speakers of other languages, which are few
FREQUENT_WORDS, WORDS_PER_LINE = 4000, (5, 9)  # of a language's most frequent words, so many make a line
UNSPACED_LANGUAGES = ("ja", "zh")
LINES_PER_VOICE = 2  # of each synthetic speaker
LINE_CHARACTERS = (30, 60)
WHISPER_COUNT, SONG_COUNT, CHILD_COUNT = 90, 110, 60  # recordings made anew in each way
FIRST_NOTE_RANGE_HZ = (110.0, 520.0)
SCALE_SEMITONES = (0, 2, 4, 5, 7, 9, 11, 12)  # semitones above the first note
LIFTER_COEFFICIENTS = 30  # cepstral coefficients that are throat and mouth, not voice
FRAME_SAMPLES, STEP_SAMPLES = 512, 128


def synthesize_whisper(wave: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Return the speech with breath in place of voice (S,) float32: the spectral envelope filled with noise.

    wave: (S,) float32 at 16 kHz.  generator: torch Generator.
    Source: cepstral smoothing (Oppenheim and Schafer 1968).
    """
    how = dict(nperseg=FRAME_SAMPLES, noverlap=FRAME_SAMPLES - STEP_SAMPLES)
    magnitude = np.log(np.abs(stft(wave, RATE_HZ, **how)[2]) + 1e-5)
    cepstrum = np.fft.irfft(magnitude, axis=0)
    cepstrum[LIFTER_COEFFICIENTS:-LIFTER_COEFFICIENTS] = 0
    envelope = np.exp(np.fft.rfft(cepstrum, axis=0).real)
    breath = np.random.default_rng(int(draw_uniform(0, 2**31, generator))).normal(size=len(wave))
    spectrum = stft(breath, RATE_HZ, **how)[2]
    tilt = np.linspace(0.4, 1.6, len(envelope))[:, None]
    return istft(spectrum / np.abs(spectrum).mean() * envelope * tilt, RATE_HZ, **how)[1][: len(wave)].astype(
        np.float32
    )


def synthesize_singing(
    wave: np.ndarray, phones: np.ndarray, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the speech sung: (wave (S',) float32, where it was read (T',) in frames of phones): vowels held, each on a
    note of
    its own.

    wave: (S,) float32 at 16 kHz.  phones: (T,) ids at 100 Hz.  generator: torch Generator.
    Source: overlap-add of Praat (Moulines and Charpentier 1990).
    """
    import parselmouth
    from parselmouth.praat import call

    work = call(parselmouth.Sound(wave.astype(np.float64), RATE_HZ), "To Manipulation", 0.01, 65, 600)
    pitch, lengths = (
        call("Create PitchTier", "notes", 0, len(wave) / RATE_HZ),
        call("Create DurationTier", "held", 0, len(wave) / RATE_HZ),
    )
    edges = np.flatnonzero(np.diff(phones.astype(np.int64), prepend=-1))
    lowest, highest = np.log2(FIRST_NOTE_RANGE_HZ)
    first, slow = draw_uniform(lowest, highest, generator) - 0.5, np.ones(len(phones))
    for start, stop in zip(edges, [*edges[1:], len(phones)]):
        held = draw_uniform(*VOWEL_STRETCH_RANGE, generator) if phones[start] in VOWEL_INDICES else 1.0
        slow[start:stop] = held
        if held > 1:
            note = 2 ** (first + SCALE_SEMITONES[int(draw_uniform(0, len(SCALE_SEMITONES), generator))] / 12)
            for at in np.linspace(start + 1, stop - 1, 6):
                call(pitch, "Add point", at / 100, note * 2 ** (np.sin(at * 0.36) * 0.25 / 12))
        for at in (start + 0.1, stop - 0.1):
            call(lengths, "Add point", at / 100, held)
    call([work, pitch], "Replace pitch tier")
    call([work, lengths], "Replace duration tier")
    made = call(work, "Get resynthesis (overlap-add)").values[0].astype(np.float32)
    ends = np.cumsum(slow)
    return made, np.interp(np.arange(int(ends[-1])), np.concatenate([[0], ends[:-1]]), np.arange(len(phones)))


def synthesize_child_voice(wave: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Return a child's voice saying the same (S,) float32: shorter throat, higher pitch. Source: Praat's change of
    gender.
    """
    import parselmouth
    from parselmouth.praat import call

    throat, pitch_hz = draw_uniform(1.15, 1.35, generator), draw_uniform(230, 370, generator)
    return (
        call(parselmouth.Sound(wave.astype(np.float64), RATE_HZ), "Change gender", 65, 500, throat, pitch_hz, 1.0, 1.0)
        .values[0]
        .astype(np.float32)
    )


def make_label_row(name: str, speaker: str, wave: np.ndarray, phones: np.ndarray) -> tuple:
    """Return the row of `save_labels` of a wave (S,) and its phones (T,) at 100 Hz, cut or continued to its length."""
    mel = compute_log_mel(normalize_level(wave)).numpy()
    phones = np.pad(phones[: mel.shape[1]], (0, max(0, mel.shape[1] - len(phones))), mode="edge").astype(np.uint8)
    return name, speaker, mel.astype(np.float16), phones, track_pitch(wave, mel.shape[1] // 2).astype(np.float16)


def transform_recordings(
    rows: list[dict[str, Any]], clips: dict[str, Any], data: Path, generator: torch.Generator
) -> list[tuple]:
    """Return rows of recordings whispered, sung and spoken young. rows: of the manifest, aligned in clips."""
    done = []
    for k, row in enumerate(rows[: WHISPER_COUNT + SONG_COUNT + CHILD_COUNT]):
        name, ids = row["path"], np.asarray(clips[row["path"]]["phones"])
        wave = read_sound(Path(data) / name, RATE_HZ, mono=True).samples[0]
        if k < WHISPER_COUNT:
            done.append(
                make_label_row(
                    f"whispered/{name}", f"whispered {row['speaker']}", synthesize_whisper(wave, generator), ids
                )
            )
        elif k < WHISPER_COUNT + SONG_COUNT:
            made, at = synthesize_singing(wave, ids, generator)
            done.append(
                make_label_row(
                    f"sung/{name}",
                    f"sung {row['speaker']}",
                    made,
                    ids[np.minimum(np.rint(at).astype(int), len(ids) - 1)],
                )
            )
        else:
            done.append(
                make_label_row(f"young/{name}", f"young {row['speaker']}", synthesize_child_voice(wave, generator), ids)
            )
    return done


def resample_mono(sound: Sound) -> np.ndarray:
    """Resample a Sound to one channel at 16 kHz, (S,) float32."""
    return resample(sound.to_mono().samples[0], sound.rate_hz, RATE_HZ)


def sample_lines(language: str, count: int, rng: np.random.Generator) -> list[str]:
    """Return lines (count,) of frequent words in no order, a comma in every second one: what they say does not matter,
    how it
    sounds does.

    language: a key of ABROAD.  rng: numpy Generator.
    Raises MissingDependencyError without the package that knows the words.
    Source: wordfreq (Speer 2022).
    """
    try:
        from wordfreq import top_n_list
    except ImportError as error:
        raise MissingDependencyError(
            "wordfreq, which knows the words of other languages, is not installed.",
            hint="Run: pip install 'mouthpiece[train]'",
            code="no_package",
        ) from error
    words = [
        w
        for w in top_n_list(language, FREQUENT_WORDS)
        if not any(c.isdigit() for c in w) and (len(w) > 1 or language in UNSPACED_LANGUAGES)
    ]
    space, comma = ("", "、") if language in UNSPACED_LANGUAGES else (" ", ", ")
    out = []
    for k in range(count):
        drawn = rng.choice(words, int(rng.integers(*WORDS_PER_LINE, endpoint=True)))
        middle = len(drawn) // 2
        parts = [drawn[:middle], drawn[middle:]] if k % 2 else [drawn]
        out.append(comma.join(space.join(part) for part in parts) + ".")
    return out


def speak_foreign_lines(
    speak: Callable[..., Any], rng: np.random.Generator, report: Callable[..., Any] | None = None
) -> list[tuple]:
    """Return rows of synthetic speakers of other languages who are not kept out, with the phones that were planned, in
    the
    nearest English ones.

    speak: (text, voice, seed) -> (Sound, Articulation, ...), which the voices lend.  rng: numpy
    Generator.  report: called with (lines, lines).
    """
    held, done = load_held_out()["voices"], []
    for language, names in FOREIGN_VOICES.items():
        voices = [name for name in names.split() if name not in held]
        for k, text in enumerate(sample_lines(language, LINES_PER_LANGUAGE, rng)):
            voice = voices[k % len(voices)]
            spec = (
                voice
                if k < len(voices)
                else f"{voice}:{1 - BLEND_SHARE:.2f}+{rng.choice(ENGLISH_VOICES)}:{BLEND_SHARE:.2f}"
            )
            sound, articulation, *_ = speak(text, spec, k)
            phones = articulation.phone_posteriors.argmax(1).astype(np.uint8)
            done.append(
                make_label_row(
                    f"abroad/{language}_{k}",
                    f"{language} {k % SPEAKERS_PER_LANGUAGE}",
                    resample_mono(sound),
                    np.repeat(phones, TICK_HOPS),
                )
            )
        if report:
            report(len(done), len(done))
    return done


def speak_english_lines(
    texts: list[str], speak: Callable[..., Any], report: Callable[..., Any] | None = None
) -> list[tuple]:
    """Return rows of synthetic speakers.

    texts: to be spoken in turn.  speak: (text, voice, seed) -> (Sound, ...) of a voice backend.
    """
    from pocketsphinx import Decoder

    decoder, done = Decoder(lm=None, loglevel="FATAL"), []
    for k in range(LINES_PER_VOICE * len(ENGLISH_VOICES)):
        speaker, text = ENGLISH_VOICES[k % len(ENGLISH_VOICES)], texts[k % len(texts)]
        wave = resample_mono(speak(text, speaker, k)[0])
        labels = label_sentence(wave, text, decoder)
        if labels is not None:
            done.append((f"spoken/{speaker}_{k}", speaker, *labels))
        if report and k % len(ENGLISH_VOICES) == 0:
            report(k, len(done))
    return done


def write_synthetic_voices(
    data: Path, out: Path, speak: Callable[..., Any], seed: int = 0, report: Callable[..., Any] | None = None
) -> dict[str, int]:
    """Write OUT/voices.npz beside phones.npz; returns counts by kind.

    data: folder with manifest.jsonl.  out: working folder with phones.npz.
    speak: as for `spoken`.  report: called with (lines tried, aligned).
    Raises what `read_rows`, `sample_lines` and speak raise; InvalidInputError when no speech aligned.
    """
    import torch

    clips, split = load_labelled_clips(require_stage("align", Path(out) / "phones.npz")), load_held_out()
    rows = [
        r
        for r in read_rows(data, ("speech",))
        if r["path"] in clips and not is_held_out(r["path"], r.get("speaker", ""), split)
    ]
    if not rows:
        raise InvalidInputError(
            f"{out}: no speech in phones.npz is in the manifest.",
            hint="Run 'mouthpiece train align' with the same --data first.",
        )
    rng = np.random.default_rng(seed)
    texts = [r["text"] for r in rows if LINE_CHARACTERS[0] <= len(r.get("text") or "") <= LINE_CHARACTERS[1]] or [
        r["text"] for r in rows
    ]
    by_speaker: dict[str, list[dict[str, str]]] = {}
    for k in rng.permutation(len(rows)):
        by_speaker.setdefault(rows[k].get("speaker") or "", []).append(rows[k])
    turns = [
        part[k] for k in range(max(map(len, by_speaker.values()))) for part in by_speaker.values() if k < len(part)
    ]
    # first: it needs packages that may be missing
    done = speak_foreign_lines(speak, np.random.default_rng(seed), report)
    done += transform_recordings(
        [dict(r, speaker=r.get("speaker") or "") for r in turns], clips, data, torch.Generator().manual_seed(seed)
    )
    done += speak_english_lines([texts[k] for k in rng.permutation(len(texts))], speak, report)
    save_labels(Path(out) / "voices.npz", done)
    kinds = [d[0].partition("/")[0] for d in done]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

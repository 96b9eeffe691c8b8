"""Voices that recordings lack: synthetic speakers, of other languages too, whisper, song and children, with the phones of what they were made from."""
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.signal import istft, resample_poly, stft

from engine.encoders.articulators import VOWELS
from engine.encoders.audio import PHONES, RATE_HZ, TICK_HOPS, level, log_mel
from engine.errors import Missing, Refused
from engine.media import read_sound
from engine.train.align import clips_of, labels_of, pitch_track, save_labels
from engine.train.disguise import uniform
from engine.train.manifest import held_out, is_held, made_by, read_rows
from engine.train.song import HELD

SPEAKERS = ("af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_nova af_river af_sarah af_sky am_adam am_echo am_eric am_fenrir am_liam "
            "am_michael am_onyx am_puck am_santa bf_alice bf_emma bf_isabella bf_lily bm_daniel bm_fable bm_george bm_lewis").split()
ABROAD = dict(es="ef_dora em_alex em_santa", fr="ff_siwis", hi="hf_alpha hf_beta hm_omega hm_psi", it="if_sara im_nicola",
              ja="jf_alpha jf_gongitsune jf_nezumi jf_tebukuro jm_kumo", pt="pf_dora pm_alex pm_santa",
              zh="zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunjian zm_yunxi zm_yunxia zm_yunyang")
LINES_ABROAD = 60                      # of each language
COUNTED_AS = 5                         # speakers of each language, when it is decided how often each is drawn
OTHER_HALF = 0.35                      # share of another voice in the speakers of other languages, which are few
FREQUENT, WORDS = 4000, (5, 9)         # of a language's most frequent words, so many make a line
UNSPACED = ("ja", "zh")
LINES = 2                              # of each synthetic speaker
LINE_CHARACTERS = (30, 60)
WHISPERED, SUNG, YOUNG = 90, 110, 60   # recordings made anew in each way
NOTES_HZ = (110.0, 520.0)
SCALE = (0, 2, 4, 5, 7, 9, 11, 12)     # semitones above the first note
LIFTER = 30                            # cepstral coefficients that are throat and mouth, not voice
FRAME_SAMPLES, STEP_SAMPLES = 512, 128


def whispered(wave, generator):
    """Speech with breath in place of voice (S,) float32: the spectral envelope filled with noise.

    wave: (S,) float32 at 16 kHz.  generator: torch Generator.
    Source: cepstral smoothing (Oppenheim and Schafer 1968); ours.
    """
    how = dict(nperseg=FRAME_SAMPLES, noverlap=FRAME_SAMPLES - STEP_SAMPLES)
    magnitude = np.log(np.abs(stft(wave, RATE_HZ, **how)[2]) + 1e-5)
    cepstrum = np.fft.irfft(magnitude, axis=0)
    cepstrum[LIFTER:-LIFTER] = 0
    envelope = np.exp(np.fft.rfft(cepstrum, axis=0).real)
    breath = np.random.default_rng(int(uniform(0, 2**31, generator))).normal(size=len(wave))
    spectrum = stft(breath, RATE_HZ, **how)[2]
    tilt = np.linspace(0.4, 1.6, len(envelope))[:, None]
    return istft(spectrum / np.abs(spectrum).mean() * envelope * tilt, RATE_HZ, **how)[1][: len(wave)].astype(np.float32)


def melodic(wave, phones, generator):
    """Speech sung: (wave (S',) float32, where it was read (T',) in frames of phones): vowels held, each on a note of its own.

    wave: (S,) float32 at 16 kHz.  phones: (T,) ids at 100 Hz.  generator: torch Generator.
    Source: overlap-add of Praat (Moulines and Charpentier 1990).
    """
    import parselmouth
    from parselmouth.praat import call
    work = call(parselmouth.Sound(wave.astype(np.float64), RATE_HZ), "To Manipulation", 0.01, 65, 600)
    pitch, lengths = call("Create PitchTier", "notes", 0, len(wave) / RATE_HZ), call("Create DurationTier", "held", 0, len(wave) / RATE_HZ)
    edges = np.flatnonzero(np.diff(phones.astype(np.int64), prepend=-1))
    first, slow = uniform(*np.log2(NOTES_HZ), generator) - 0.5, np.ones(len(phones))
    for start, stop in zip(edges, [*edges[1:], len(phones)]):
        held = uniform(*HELD, generator) if phones[start] in VOWELS else 1.0
        slow[start:stop] = held
        if held > 1:
            note = 2 ** (first + SCALE[int(uniform(0, len(SCALE), generator))] / 12)
            for at in np.linspace(start + 1, stop - 1, 6):
                call(pitch, "Add point", at / 100, note * 2 ** (np.sin(at * 0.36) * 0.25 / 12))
        for at in (start + 0.1, stop - 0.1):
            call(lengths, "Add point", at / 100, held)
    call([work, pitch], "Replace pitch tier")
    call([work, lengths], "Replace duration tier")
    made = call(work, "Get resynthesis (overlap-add)").values[0].astype(np.float32)
    ends = np.cumsum(slow)
    return made, np.interp(np.arange(int(ends[-1])), np.concatenate([[0], ends[:-1]]), np.arange(len(phones)))


def young(wave, generator):
    """A child's voice saying the same (S,) float32: shorter throat, higher pitch. Source: Praat's change of gender."""
    import parselmouth
    from parselmouth.praat import call
    throat, pitch_hz = uniform(1.15, 1.35, generator), uniform(230, 370, generator)
    return call(parselmouth.Sound(wave.astype(np.float64), RATE_HZ), "Change gender", 65, 500, throat, pitch_hz, 1.0, 1.0).values[0].astype(np.float32)


def row_of(name, speaker, wave, phones):
    """Row of `save_labels` of a wave (S,) and its phones (T,) at 100 Hz, cut or continued to its length. Source: ours."""
    mel = log_mel(level(wave)).numpy()
    phones = np.pad(phones[: mel.shape[1]], (0, max(0, mel.shape[1] - len(phones))), mode="edge").astype(np.uint8)
    return name, speaker, mel.astype(np.float16), phones, pitch_track(wave, mel.shape[1] // 2).astype(np.float16)


def remade(rows, clips, data, generator):
    """Rows of recordings whispered, sung and spoken young. rows: of the manifest, aligned in clips. Source: ours."""
    done = []
    for k, row in enumerate(rows[: WHISPERED + SUNG + YOUNG]):
        name, ids = row["path"], np.asarray(clips[row["path"]]["phones"])
        wave = read_sound(Path(data) / name, RATE_HZ, mono=True).samples[0]
        if k < WHISPERED:
            done.append(row_of(f"whispered/{name}", f"whispered {row['speaker']}", whispered(wave, generator), ids))
        elif k < WHISPERED + SUNG:
            made, at = melodic(wave, ids, generator)
            done.append(row_of(f"sung/{name}", f"sung {row['speaker']}", made, ids[np.minimum(np.rint(at).astype(int), len(ids) - 1)]))
        else:
            done.append(row_of(f"young/{name}", f"young {row['speaker']}", young(wave, generator), ids))
    return done


def at_rate(sound):
    """The mean of a Sound's channels (S,) float32, at 16 kHz. Source: scipy's polyphase filter."""
    up = Fraction(RATE_HZ, sound.rate_hz)
    return resample_poly(sound.mono().samples[0], up.numerator, up.denominator).astype(np.float32)


def lines_of(language, count, rng):
    """Lines (count,) of frequent words in no order, a comma in every second one: what they say does not matter, how it sounds does.

    language: a key of ABROAD.  rng: numpy Generator.
    Raises Missing without the package that knows the words.
    Source: wordfreq (Speer 2022).
    """
    try:
        from wordfreq import top_n_list
    except ImportError as error:
        raise Missing("wordfreq, which knows the words of other languages, is not installed.", hint="Run: pip install 'mouthpiece[train]'", code="no_package") from error
    words = [w for w in top_n_list(language, FREQUENT) if not any(c.isdigit() for c in w) and (len(w) > 1 or language in UNSPACED)]
    space, comma = ("", "、") if language in UNSPACED else (" ", ", ")
    out = []
    for k in range(count):
        drawn = rng.choice(words, int(rng.integers(*WORDS, endpoint=True)))
        middle = len(drawn) // 2
        parts = [drawn[:middle], drawn[middle:]] if k % 2 else [drawn]
        out.append(comma.join(space.join(part) for part in parts) + ".")
    return out


def abroad(speak, rng, report=None):
    """Rows of synthetic speakers of other languages who are not kept out, with the phones that were planned, in the nearest English ones.

    speak: (text, voice, seed) -> (Sound, articulation (T, 43) at 50 Hz, ...), which the voices lend.  rng: numpy Generator.  report: called with (lines, lines).
    Source: ours.
    """
    held, done = held_out()["voices"], []
    for language, names in ABROAD.items():
        voices = [name for name in names.split() if name not in held]
        for k, text in enumerate(lines_of(language, LINES_ABROAD, rng)):
            voice = voices[k % len(voices)]
            spec = voice if k < len(voices) else f"{voice}:{1 - OTHER_HALF:.2f}+{rng.choice(SPEAKERS)}:{OTHER_HALF:.2f}"
            sound, articulation, *_ = speak(text, spec, k)
            phones = articulation[:, : len(PHONES)].argmax(1).astype(np.uint8)
            done.append(row_of(f"abroad/{language}_{k}", f"{language} {k % COUNTED_AS}", at_rate(sound), np.repeat(phones, TICK_HOPS)))
        if report:
            report(len(done), len(done))
    return done


def spoken(texts, speak, report=None):
    """Rows of synthetic speakers. texts: to be said in turn.  speak: (text, voice, seed) -> (Sound, ...), which the voices lend. Source: ours."""
    from pocketsphinx import Decoder
    decoder, done = Decoder(lm=None, loglevel="FATAL"), []
    for k in range(LINES * len(SPEAKERS)):
        speaker, text = SPEAKERS[k % len(SPEAKERS)], texts[k % len(texts)]
        wave = at_rate(speak(text, speaker, k)[0])
        labels = labels_of(wave, text, decoder)
        if labels is not None:
            done.append((f"spoken/{speaker}_{k}", speaker, *labels))
        if report and k % len(SPEAKERS) == 0:
            report(k, len(done))
    return done


def voices(data, out, speak, seed=0, report=None):
    """Write OUT/voices.npz beside phones.npz; returns counts by kind.

    data: folder with manifest.jsonl.  out: working folder with phones.npz.
    speak: as for `spoken`.  report: called with (lines tried, aligned).
    Raises what `read_rows`, `lines_of` and speak raise; Refused when no speech aligned.
    Source: ours.
    """
    import torch
    clips, split = clips_of(made_by("align", Path(out) / "phones.npz")), held_out()
    rows = [r for r in read_rows(data, ("speech",)) if r["path"] in clips and not is_held(r["path"], r.get("speaker", ""), split)]
    if not rows:
        raise Refused(f"{out}: no speech in phones.npz is in the manifest.", hint="Run 'mouthpiece train align' with the same --data first.")
    rng = np.random.default_rng(seed)
    texts = [r["text"] for r in rows if LINE_CHARACTERS[0] <= len(r.get("text") or "") <= LINE_CHARACTERS[1]] or [r["text"] for r in rows]
    by_speaker = {}
    for k in rng.permutation(len(rows)):
        by_speaker.setdefault(rows[k].get("speaker") or "", []).append(rows[k])
    turns = [part[k] for k in range(max(map(len, by_speaker.values()))) for part in by_speaker.values() if k < len(part)]
    done = abroad(speak, np.random.default_rng(seed), report)   # first: it needs packages that may be missing
    done += remade([dict(r, speaker=r.get("speaker") or "") for r in turns], clips, data, torch.Generator().manual_seed(seed))
    done += spoken([texts[k] for k in rng.permutation(len(texts))], speak, report)
    save_labels(Path(out) / "voices.npz", done)
    kinds = [d[0].partition("/")[0] for d in done]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

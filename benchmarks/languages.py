"""How well the phonetic encoder hears other languages, where phones and times are known: synthetic voices kept out of
its training.

Lines of frequent words in no order (wordfreq) are spoken by Kokoro on our clock; the plan says which phone when, in the
nearest English ones.
For each language: share of spoken ticks with the right phone, correlation of the mouth's opening and rounding that the
phones ask for,
share of p, b, m that were heard, share of heard ones where none is. English voices, which it knows, stand beside for
comparison.
Prints one JSON document.

  python benchmarks/languages.py [--lines 6]

MOUTHPIECE_WEIGHTS_DIR measures other weights.

Needs the extras voices, japanese and train, and Kokoro (`mouthpiece models pull kokoro`).
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mouthpiece.engine.audio.voice_activity import find_runs
from mouthpiece.engine.encoders.articulatory_features import make_articulatory_features
from mouthpiece.engine.encoders.phonetic import PHONES, extract_articulation, load_phonetic_encoder
from mouthpiece.training.data.manifest import load_held_out
from mouthpiece.training.data.synthetic_voices import FOREIGN_VOICES, resample_mono, sample_lines
from mouthpiece.voice.text_to_speech import synthesize_for_face

ENGLISH = dict(en=["af_heart", "am_michael", "bf_emma", "bm_george"])
CLOSURE_THRESHOLD, NEAR_TICKS = 0.5, 3  # of a closure; how far from its place it may be heard
CLOSURE_IDS = [PHONES.index(p) for p in "PBM"]
FACTS = ("phones_right", "opening_correlation", "rounding_correlation")


def compare_line(heard, planned):
    """Numbers of one line. heard, planned: Articulation."""
    length, features = min(len(heard), len(planned)), make_articulatory_features()
    heard, planned = heard.phone_posteriors[:length], planned.phone_posteriors[:length]
    true = planned.argmax(1)
    spoken = true != PHONES.index("SIL")
    alike = [np.corrcoef(heard @ features[:, k], planned @ features[:, k])[0, 1] for k in (0, 1)]  # open, round
    asked, sure = np.isin(true, CLOSURE_IDS), heard[:, CLOSURE_IDS].sum(1) > CLOSURE_THRESHOLD
    near = [slice(max(0, a - NEAR_TICKS), b + NEAR_TICKS) for a, b in find_runs(asked)]
    false = [not asked[max(0, a - NEAR_TICKS) : b + NEAR_TICKS].any() for a, b in find_runs(sure)]
    return dict(zip(FACTS, ((heard.argmax(1) == true)[spoken].mean(), *alike))), [sure[s].any() for s in near], false


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=6, help="of each voice")
    args = parser.parse_args()
    encoder, kept, out = load_phonetic_encoder(), load_held_out()["voices"], {}
    abroad = {
        language: held
        for language, names in FOREIGN_VOICES.items()
        if (held := [name for name in names.split() if name in kept])
    }
    for language, voices in (ENGLISH | abroad).items():
        rows, closed, false, lines = [], [], [], sample_lines(language, args.lines, np.random.default_rng(7))
        for voice in voices:
            for k, text in enumerate(lines):
                sound, planned, *_ = synthesize_for_face(text, voice, k)
                facts, hits, wrong = compare_line(extract_articulation(encoder, resample_mono(sound)), planned)
                rows.append(facts)
                closed += hits
                false += wrong
        out[language] = {name: round(float(np.nanmean([r[name] for r in rows])), 3) for name in FACTS} | dict(
            lines=len(rows),
            p_b_m=len(closed),
            p_b_m_heard=round(float(np.mean(closed)), 3),
            heard_where_none_is=round(float(np.mean(false)), 3),
        )
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()

"""How well lines sit in their slots: edges, words lost and DNSMOS of plans re-timed, beside finished speech stretched
to the same slots.

Needs a timed voice; with --hear also whisper's weights and the package speechmos. Prints one JSON document.

  python benchmarks/slot_fit.py --voices af_heart,am_michael --lines 200 [--hear] [--seed 0]
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.timeline import round_half_up
from mouthpiece.voice.backends.registry import load_voice
from mouthpiece.voice.plan.pauses import find_audible_edges, move_silence_to_marks, trim_plan_silence
from mouthpiece.voice.plan.slot_fitting import TimeSlot, compute_spoken_duration, speak_into_slot
from mouthpiece.voice.plan.speech_plan import VOICE_RATE_HZ
from mouthpiece.voice.plan.time_stretch import stretch_wave
from mouthpiece.voice.text.phones import make_utterance

RATIOS = (0.75, 1.35)
FIXED_RATIOS = (0.8, 1.3)  # beside a ratio drawn from RATIOS, where words and quality are heard
MOS_HZ, MOS_SAMPLES = 16000, 144160  # what DNSMOS hears at once, 9.01 s
MOS_CURVE = np.poly1d([-0.06766283, 1.11546468, 0.04602535])  # of its authors, for the overall score
SENTENCES = """Please call the office before noon, because the meeting has been moved.
I never said she stole the money; somebody else did.
What time does the last train leave for Boston?
Put the big box by the door, Peter.
No, I don't think so.
We should have told him the truth a long time ago, but nobody had the courage.
The weather in the mountains changes quickly, so bring a warm jacket.
Are you coming with us, or are you staying home tonight?
Stop! You're going to break it.
My father bought three old books at the market.
She walked slowly through the empty street, thinking about the letter.
It was Bob who painted the picture above the piano.
Thank you very much for your help, I really appreciate it.
Every evening, the children play football in the park behind the school.
Look, there's a bird on the roof.
Open the window, please; it's getting hot in here.
I would rather wait until tomorrow morning.
The judge asked the witness to repeat the question.
Nothing happens by chance in this town.
Our ship sailed at dawn, and nobody ever saw it again.
Five hundred people were waiting outside the theatre.
Oh, you must be joking!""".splitlines()


class SpeechScorer:
    """Counts words lost (whisper) and scores sound (DNSMOS overall) of waves at RATE_HZ."""

    def __init__(self):
        import onnxruntime

        from mouthpiece.voice.asr.transcription import open_transcriber

        self._recognizer = open_transcriber("whisper")
        folder = Path(importlib.util.find_spec("speechmos").submodule_search_locations[0])
        self._net = onnxruntime.InferenceSession(
            str(folder / "dnsmos_models" / "sig_bak_ovr.onnx"), providers=["CPUExecutionProvider"]
        )

    def __call__(self, wave, text):
        import soxr

        from mouthpiece.voice.asr.transcription import check_intelligibility

        error = check_intelligibility(self._recognizer, Sound(wave[None], VOICE_RATE_HZ), text).error
        wave = soxr.resample(wave, VOICE_RATE_HZ, MOS_HZ)
        wave = np.tile(wave, -(-MOS_SAMPLES // len(wave)))
        parts = [wave[a : a + MOS_SAMPLES] for a in range(0, len(wave) - MOS_SAMPLES + 1, MOS_HZ)]
        raw = [self._net.run(None, {self._net.get_inputs()[0].name: part[None]})[0][0][2] for part in parts]
        return dict(errors=error.errors, words=len(text.split()), mos=float(MOS_CURVE(np.mean(raw))))


def fit_lines(voices, count, seed, judge):
    """One row a fitted line: ratio, kind, errors in ms, times spoken, what was judged."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        name, text = voices[i % len(voices)], SENTENCES[i // len(voices) % len(SENTENCES)]
        voice = load_voice(name)
        plan = voice.predict_plan(make_utterance(text, voice.language))
        natural_s = compute_spoken_duration(trim_plan_silence(move_silence_to_marks(plan)))
        for ratio in (float(rng.uniform(*RATIOS)), *(FIXED_RATIOS if judge else ())):
            calls, slot = [], TimeSlot(0, ratio * natural_s)
            fitted, sound = speak_into_slot(
                lambda p, calls=calls, voice=voice: calls.append(p) or voice.speak(p), plan, slot
            )
            onset, offset = find_audible_edges(sound[0], VOICE_RATE_HZ)
            row = dict(
                kind="fitted",
                ratio=ratio,
                start_ms=1000 * onset,
                end_ms=1000 * (offset - ratio * natural_s),
                spoken=len(calls),
                exact=sound.shape[1] == round_half_up(slot.length_s * VOICE_RATE_HZ),
                rungs=[r.name for r in fitted.rungs],
            )
            yield row | (judge(sound[0], text) if judge and ratio in FIXED_RATIOS else {})
        if judge:
            natural = voice.speak(plan)[0]
            yield dict(kind="natural", ratio=1.0) | judge(natural, text)
            onset, offset = (round(t * VOICE_RATE_HZ) for t in find_audible_edges(natural, VOICE_RATE_HZ))
            for ratio in FIXED_RATIOS:
                yield dict(kind="stretched", ratio=ratio) | judge(
                    stretch_wave(natural[onset:offset], VOICE_RATE_HZ, ratio), text
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voices", default="af_heart,am_michael,bf_emma,bm_george,af_bella,am_puck")
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hear", action="store_true", help="count words and score quality too")
    args = parser.parse_args()
    rows = list(fit_lines(args.voices.split(","), args.lines, args.seed, SpeechScorer() if args.hear else None))
    fitted = [r for r in rows if r["kind"] == "fitted"]
    edges = {
        key: [round(float(q), 1) for q in np.quantile(np.abs([r[key] for r in fitted]), (0.5, 0.95, 1))]
        for key in ("start_ms", "end_ms")
    }
    heard = {}
    for kind, ratio in (("natural", 1.0), *((k, r) for k in ("fitted", "stretched") for r in FIXED_RATIOS)):
        part = [r for r in rows if r["kind"] == kind and r["ratio"] == ratio and "mos" in r]
        if part:
            rate = sum(r["errors"] for r in part) / sum(r["words"] for r in part)
            heard[f"{kind} x {ratio}"] = dict(
                lines=len(part), word_error=round(rate, 4), dnsmos=round(float(np.mean([r["mos"] for r in part])), 2)
            )
    print(
        json.dumps(
            dict(
                lines=len(fitted),
                exact=all(r["exact"] for r in fitted),
                p50_p95_max=edges,
                heard=heard,
                spoken_mean=round(float(np.mean([r["spoken"] for r in fitted])), 2),
                stretched=sum("stretch" in r["rungs"] for r in fitted),
            ),
            indent=1,
        )
    )


if __name__ == "__main__":
    main()

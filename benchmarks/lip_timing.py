"""How well lips time a line: phone boundaries of plans laid on silent clips against the alignment of their real sound.

Beside it the same plan squeezed between the line's true start and end, which no mouth tells. Needs the training data.
Prints one JSON document.

  python benchmarks/lip_timing.py --data DIR [--voice hibari] [--parts known_clips held_clips eval] [--limit 30]
  [--rows]
"""

import argparse
import json
import sys
from difflib import SequenceMatcher
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from mouthpiece.engine.encoders.phonetic import PHONES, RATE_HZ
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.training.data.manifest import COMMON_SPEAKER, load_held_out, read_rows
from mouthpiece.voice.asr.transcription import open_transcriber
from mouthpiece.voice.backends.registry import load_voice
from mouthpiece.voice.plan.articulation import convert_to_arpabet
from mouthpiece.voice.plan.pauses import move_silence_to_marks
from mouthpiece.voice.plan.slot_fitting import TimeSlot
from mouthpiece.voice.plan.speech_plan import UNIT_S
from mouthpiece.voice.text.phones import make_utterance
from mouthpiece.voice.timing.align import align
from mouthpiece.voice.timing.lip_timing import read_lip_spans, retime_to_lips

# a plan's phone is heard before its place in the plan (voice/plan/articulation.py)
PHONE_LEAD_S = 0.05


def split_clips(data):
    """{part: rows of the manifest}: the common speaker's clips kept out, other people's kept out, and those for
    evaluation. Source: configs/held_out.toml.
    """
    split, parts, known = load_held_out(), {"known_clips": [], "held_clips": [], "eval": []}, 0
    for row in sorted(
        read_rows(data, ("talk", "talk-eval")), key=lambda r: (r["kind"], r.get("speaker") or "", Path(r["path"]).stem)
    ):
        name = Path(row["path"]).stem
        if row["kind"] == "talk-eval":
            parts["eval"].append(row)
        elif name in split["talk"]:
            parts["held_clips"].append(row)
        elif (
            f"grid_{row.get('speaker')}" == COMMON_SPEAKER
            or row.get("speaker") == COMMON_SPEAKER
            or "grid_s1/" in row["path"]
        ):
            if known % split["known_every"] == 0:
                parts["known_clips"].append(row)
            known += 1
    return parts


def list_phone_starts(plan):
    """[(ARPABET name, start_s on the plan's clock, as heard)] of a plan."""
    out, edges = [], plan.edges * float(UNIT_S) - PHONE_LEAD_S
    for k, (phone, found) in enumerate(zip(plan.phones, convert_to_arpabet(plan.phones))):
        if found and phone not in "ˈˌːʰ":
            begin = edges[k - 1] if k and plan.phones[k - 1] in "ˈˌ" else edges[k]
            out.append((PHONES[found[0]], begin))
    return out


def measure_boundary_errors(found, reference):
    """|seconds| between beginnings of phones that two lists share, the first of all left out."""
    pairs = []
    matcher = SequenceMatcher(None, [p[0] for p in found], [p[0] for p in reference], autojunk=False)
    for a, b, size in matcher.get_matching_blocks():
        pairs += [abs(found[a + k][1] - reference[b + k][1]) for k in range(size) if a + k and b + k]
    return pairs


def measure_clip(row, data, voice, transcriber):
    """Facts of one clip, or None where its own sound does not align."""
    wave = read_sound(Path(data) / row["audio"], RATE_HZ, mono=True).samples[0]
    text = row.get("text") or " ".join(p.text for p in transcriber.transcribe(Path(data) / row["audio"], "en"))
    if not text.strip():
        return None
    found = align(wave, text, "en-us")
    if not found.ok or len(found.phones) < 5:
        return None
    plan = move_silence_to_marks(voice.predict_plan(make_utterance(text, voice.language)))
    real, start, end = [(n, a) for n, a, _ in found.phones], found.phones[0][1], found.phones[-1][2]
    length = float(len(wave)) / RATE_HZ
    lips = read_lip_spans(Path(data) / row["path"], [(0.0, length)])[0]
    own = list_phone_starts(plan)
    last = plan.edges[-2] * float(UNIT_S) - PHONE_LEAD_S
    squeezed = [(n, start + (t - own[0][1]) / (last - own[0][1]) * (end - start)) for n, t in own]
    facts = dict(
        clip=Path(row["path"]).stem, text=text, squeezed_s=float(np.median(measure_boundary_errors(squeezed, real)))
    )
    if lips is None:
        return facts | dict(note="no face")
    timed = retime_to_lips(plan, lips, TimeSlot(0.0, length))
    facts |= timed.facts
    if timed.plan is not None:
        mine = list_phone_starts(timed.plan)
        shift = float(timed.start_s) - mine[0][1]
        facts |= dict(
            boundary_s=float(np.median(measure_boundary_errors([(n, t + shift) for n, t in mine], real))),
            onset_error_s=float(timed.start_s) - start,
            offset_error_s=float(timed.end_s) - end,
        )
    return facts


def summarize(rows):
    """Medians and shares over the clips of a part."""
    read = [r for r in rows if "boundary_s" in r]
    if not read:
        return dict(clips=len(rows), read=0)
    used = [r.get("boundary_s", r["squeezed_s"]) for r in rows]
    onset, offset = (np.array([r[k] for r in read]) for k in ("onset_error_s", "offset_error_s"))
    return dict(
        clips=len(rows),
        read=len(read),
        boundary_s=float(np.median([r["boundary_s"] for r in read])),
        squeezed_of_read_s=float(np.median([r["squeezed_s"] for r in read])),
        with_fallback_s=float(np.median(used)),
        squeezed_s=float(np.median([r["squeezed_s"] for r in rows])),
        onset_bias_s=float(np.median(onset)),
        offset_bias_s=float(np.median(offset)),
        onset_within_80_ms=float((abs(onset) <= 0.08).mean()),
        offset_within_80_ms=float((abs(offset) <= 0.08).mean()),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--voice", default="hibari")
    parser.add_argument("--parts", nargs="+", default=["known_clips", "held_clips", "eval"])
    parser.add_argument("--limit", type=int, default=30)
    parser.add_argument("--rows", action="store_true", help="every clip too")
    args = parser.parse_args()
    voice, transcriber, parts, out = load_voice(args.voice), open_transcriber("auto", "en"), split_clips(args.data), {}
    for part in args.parts:
        rows = [m for m in (measure_clip(row, args.data, voice, transcriber) for row in parts[part][: args.limit]) if m]
        out[part] = summarize(rows) | (dict(rows=rows) if args.rows else {})
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()

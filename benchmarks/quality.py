"""How good `animate` is on people kept out of training: sync, closed lips, sharpness, identity, drift; contact sheets
to look at.

Needs the training data (manifest format of docs/training.md) for what is kept out of it; the package itself does not.
Parts:
  held       held-out GRID speakers, each on the first frame of a real clip of his
  other      the talk-eval clips, likewise
  portraits  the portraits kept out, speaking sentences kept out; sheets of five
  paintings  every fourth of them made to look drawn
  long       one of them through a minute of reading
Every video and its numbers stay in --out, named after the weights; a run that was cut off goes on from there. The code
is not part of that
name: take a new folder for new code. Identity is a cosine of embeddings where SFace is available (MOUTHPIECE_SFACE),
else structural similarity.
Prints one JSON document: for each part a summary and its rows, and under "bars" what is asked for beside what was
measured.

  python benchmarks/quality.py --data DATA --out quality-out [--only held,other,portraits,paintings,long] [--most N]
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from contact_sheet import ROWS_PER_PAGE, find_moments, write_contact_pages
from held_out import PARTS, HeldOutMaterial
from sample_speech import find_phone_spans

from mouthpiece.engine.audio.voice_activity import detect_speech_activity
from mouthpiece.engine.device import choose_device
from mouthpiece.engine.encoders.phonetic import RATE_HZ
from mouthpiece.engine.errors import MouthpieceError
from mouthpiece.engine.media.images import read_image
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.progress import Progress
from mouthpiece.engine.weights.manifest import get_embedded_path
from mouthpiece.evaluation.background_stability import find_background, measure_background_motion
from mouthpiece.evaluation.contact_sheet import write_contact_sheet
from mouthpiece.evaluation.talking_head import evaluate_video, find_silent_frames
from mouthpiece.evaluation.video_metrics import measure_portrait, measure_video
from mouthpiece.face.crop import make_crop
from mouthpiece.face.identity import compare_structure
from mouthpiece.face.matte import compute_matte
from mouthpiece.face.measure import CLOSED_BELOW, find_blinks, measure_closures, measure_stillness
from mouthpiece.lipsync.models import load_models
from mouthpiece.lipsync.options import AnimateOptions
from mouthpiece.lipsync.portrait.animation_job import prepare_animation
from mouthpiece.lipsync.portrait.pipeline import animate

WEIGHTS = ("core", "finder", "motion", "phonetic", "renderer")
SYNC = ("sync_correlation", "sync_near_correlation", "sync_best_correlation", "sync_lag_frames", "amplitude_ratio")
FACE = (
    "stillness_ratio",
    "opening_std_heights",
    "jitter_heights_per_frame2",
    "jitter_silent_heights_per_frame2",
    "blink_openness",
    "blink_unevenness",
    "head_travel_heights",
    "face_share",
)
APPEARANCE = (
    "sharpness_mouth_ratio",
    "sharpness_upper_ratio",
    "identity_median",
    "identity_lowest",
    "structure_median",
)
DRIFT = ("sharpness_mouth_drift", "sharpness_upper_drift", "colour_drift", "identity_drift")
BACKGROUND = ("background_median_px", "background_p95_px")
KEYS = (*SYNC, *FACE, *APPEARANCE, *DRIFT, *BACKGROUND, "real_stillness_ratio")
REST_PERCENT = 5  # of a clip's frames count as rest
# beyond where the head was seen to go, in which no corner is taken for background
MARGIN_PX = 8
# frames a video whose structure is compared, in which the background is looked for
SIMILARITY_FRAMES, BACKGROUND_FRAMES = 12, 25

# part, number, which of its statistics, its target: (least, most)
TARGETS = (
    ("held", "sync_correlation", "mean", (0.75, None)),
    ("held", "sync_correlation", "p10", (0.5, None)),
    ("held", "sync_lag_frames", "mean", (-1, 1)),
    ("held", "amplitude_ratio", "median", (0.8, 1.25)),
    ("held", "closed_share", "pooled", (0.8, None)),
    ("held", "closed_share_above_rest", "pooled", (0.8, None)),
    ("held", "stillness_ratio", "mean", (None, 0.1)),
    ("other", "sync_near_correlation", "mean", (0.5, None)),
    ("portraits", "sharpness_mouth_ratio", "mean", (0.8, None)),
    ("portraits", "identity_median", "mean", (0.95, None)),
    ("portraits", "closed_share", "pooled", (0.8, None)),
    ("portraits", "closed_share_above_rest", "pooled", (0.8, None)),
    ("portraits", "background_p95_px", "mean", (None, 0.3)),
    ("paintings", "sharpness_mouth_ratio", "mean", (0.8, None)),
    ("paintings", "identity_median", "mean", (0.95, None)),
    ("long", "sharpness_mouth_drift", "mean", (-0.03, 0.03)),
    ("long", "sharpness_upper_drift", "mean", (-0.03, 0.03)),
    ("long", "colour_drift", "mean", (None, 0.03)),
    ("long", "identity_drift", "mean", (-0.03, 0.03)),
    ("long", "blinks_per_minute", "pooled", (8, 25)),
)


class AnimateBench:
    """Makes the videos of sittings with the weights in use, and measures them.

    out: folder of the results.  options: of AnimateOptions, that differ from the defaults.
    """

    def __init__(self, out, options):
        self.placement, self._models, self.options = choose_device("auto"), None, options
        self.weights = hashlib.sha256(b"".join(get_embedded_path(name).read_bytes() for name in WEIGHTS)).hexdigest()[
            :12
        ]
        self.out = out / self.weights
        self.out.mkdir(parents=True, exist_ok=True)

    def row(self, case):
        """Numbers of one case, made now or found in the folder; a portrait or sound that is refused gives the
        reason.
        """
        kept = self.out / f"{case.name}.json"
        if kept.is_file():
            return json.loads(kept.read_text())
        film = self.out / f"{case.name}.mp4"
        try:
            if not film.is_file():
                self._models = self._models or load_models(self.placement)
                animate(
                    prepare_animation(case.portrait, case.sound, AnimateOptions(**(case.asked | self.options))),
                    film,
                    self._models,
                    self.placement,
                    Progress("none"),
                )
            row = measure_film(case, film)
        except MouthpieceError as error:
            row = dict(refused=str(error))
        row = dict(name=case.name, **row)
        kept.write_text(json.dumps(row))
        return row


def measure_film(case, film):
    """Numbers of a video, JSON-ready, with all that is needed to sum up and to draw the album."""
    facts = evaluate_video(film, against=case.against, portrait=case.portrait, sound=case.sound)
    clip, wave = measure_video(film), read_sound(case.sound, RATE_HZ, mono=True).samples[0]
    activity, spans = (
        detect_speech_activity(wave),
        find_phone_spans(case.lines, len(wave) / RATE_HZ, case.name.startswith(("held", "portrait", "painting"))),
    )
    m, silent = clip.measures, find_silent_frames(activity, clip.times_s)[0]
    row = {key: facts.get(key) for key in KEYS} | dict(
        text=spans.text,
        identity_measure=facts["identity_measure"],
        blinks=len(find_blinks(m.eyes, clip.rate)),
        minutes=clip.duration_s / 60,
        moments=find_moments(clip, spans, silent),
        structure_median=measure_similarity(case.portrait, clip),
        **measure_background(case.portrait, clip),
    )
    rest = measure_rest_opening(clip)
    if case.against is not None:
        real = measure_video(case.against)
        rest = measure_rest_opening(real)
        row |= measure_gaps(real, spans, rest, "real_")
        still, speaking = find_silent_frames(activity, real.times_s)
        row["real_stillness_ratio"] = _to_number(
            measure_stillness(np.where(still | speaking, real.measures.opening, np.nan), still)
        )
        row["real_blinks"] = len(find_blinks(real.measures.eyes, real.rate))
    return row | measure_gaps(clip, spans, rest)


def measure_background(portrait, clip):
    """How far corners of the background go from where they are in the first frame, pixels; empty where there is no
    background or no person.
    """
    pixels, moved = read_image(portrait).pixels, clip.points[clip.measures.present]
    matte = compute_matte(pixels, moved[0]) if len(moved) else None
    if matte is None:
        return {}
    reach_px = float(np.linalg.norm(moved - moved[0], axis=-1).max()) + MARGIN_PX
    with VideoReader(clip.path) as film:
        every = -(-len(clip.times_s) // BACKGROUND_FRAMES)
        some = (frame.pixels for frame in film if frame.index % every == 0)
        # not against the portrait: coding blurs it a little
        found = measure_background_motion(some, find_background(matte, reach_px))
    return dict(
        background_corners=found.corners,
        background_median_px=_to_number(found.median_px),
        background_p95_px=_to_number(found.p95_px),
    )


def measure_rest_opening(clip):
    """What the mesh reads where the lips of a clip are closest; 0 without a face. The real clip's is used where there
    is one.
    """
    return float(np.nanpercentile(clip.measures.opening, REST_PERCENT)) if clip.measures.present.any() else 0.0


def measure_gaps(clip, spans, rest, prefix=""):
    """Measure the gap of each p, b and m over the usual opening: {gaps, gaps_above_rest: less that of shut lips}."""
    both = (("gaps", 0.0), ("gaps_above_rest", rest))
    found = {
        name: measure_closures(clip.measures.opening, clip.times_s, spans.shut, spans.voiced, rest=least)
        for name, least in both
    }
    return {prefix + name: [float(v) for v in values if np.isfinite(v)] for name, values in found.items()}


def measure_similarity(portrait, clip):
    """Median structural similarity of the upper face to the portrait's, over some frames; None without a face."""
    look = None if clip.crop_px is None else measure_portrait(portrait, clip.crop_px)
    if look is None:
        return None
    own, *others = [
        make_crop(o.face.points, o.pixels.shape[0]).extract(o.pixels)
        for o in (look, *clip.aligned_faces[:: max(1, len(clip.aligned_faces) // SIMILARITY_FRAMES)])
    ]
    return float(np.median([compare_structure(own, o) for o in others]))


def _to_number(value):
    return float(value) if np.isfinite(value) else None


def summarize(rows):
    """Statistics of each number over the rows that have it; closures and blinks are counted over all rows together."""
    out = {}
    for key in KEYS:
        values = [float(r[key]) for r in rows if r.get(key) is not None]
        if values:
            mean, (p10, median) = np.mean(values), np.percentile(values, [10, 50])
            out[key] = {
                k: round(float(v), 4)
                for k, v in dict(mean=mean, median=median, p10=p10, lowest=min(values), highest=max(values)).items()
            } | dict(count=len(values))
    for key in ("gaps", "gaps_above_rest", "real_gaps", "real_gaps_above_rest"):
        gaps, name = [g for r in rows for g in r.get(key, ())], key.replace("gaps", "closed_share")
        if gaps:
            out[name] = dict(
                pooled=round(float(np.mean(np.array(gaps) < CLOSED_BELOW)), 4),
                median_gap=round(float(np.median(gaps)), 4),
                count=len(gaps),
            )
    minutes = sum(r.get("minutes", 0) for r in rows)
    for key, name in (("blinks", "blinks_per_minute"), ("real_blinks", "real_blinks_per_minute")):
        if minutes and any(key in r for r in rows):
            out[name] = dict(pooled=round(sum(r.get(key, 0) for r in rows) / minutes, 2), count=len(rows))
    return out | dict(refused=sum("refused" in r for r in rows))


def format_targets(result):
    """What is asked for beside what was measured, as lines of text, for the parts that were run."""
    lines = []
    for part, key, statistic, (least, most) in TARGETS:
        value = result.get(part, {}).get("summary", {}).get(key, {}).get(statistic)
        if value is not None:
            wanted = (
                f"{least} to {most}" if None not in (least, most) else f">= {least}" if most is None else f"<= {most}"
            )
            met = (least is None or value >= least) and (most is None or value <= most)
            lines.append(f"{'met ' if met else 'MISSED'} {part} {key} {statistic}: {value} ({wanted})")
    return lines


def write_sheets(part, sittings, rows, out):
    """Writes the sheets of a part: pages of five for faces, mouth beside real mouth for clips."""
    shown = [(s, r) for s, r in zip(sittings, rows) if "refused" not in r]
    if part in ("portraits", "paintings"):
        for page in range(0, len(shown), ROWS_PER_PAGE):
            entries = [
                (s.name, out / f"{s.name}.mp4", s.portrait, r["moments"], _format_caption(s, r))
                for s, r in shown[page : page + ROWS_PER_PAGE]
            ]
            write_contact_pages(entries, out / f"{part}_{page // ROWS_PER_PAGE:02d}.png")
        return
    for s, _ in shown:
        if not (out / f"{s.name}.png").is_file():
            write_contact_sheet(out / f"{s.name}.mp4", out / f"{s.name}.png", against=s.against)


def _format_caption(case, row):
    def show(key):
        return "-" if row[key] is None else f"{row[key]:.2f}"

    gaps = " ".join(f"{gap:.2f}" for gap in row["gaps_above_rest"])
    return (
        f"{case.portrait.stem}   mouth sharpness {show('sharpness_mouth_ratio')}, identity {show('identity_median')}, "
        f"blink {show('blink_openness')} uneven {show('blink_unevenness')}, gaps {gaps}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--most", type=int, help="cases of a part")
    parser.add_argument(
        "--options",
        type=json.loads,
        default={},
        help="JSON of AnimateOptions that differ from the defaults; take a folder of their own",
    )
    parser.add_argument("--sheets", action=argparse.BooleanOptionalAction, default=True, help="also contact sheets")
    args = parser.parse_args()
    parts = args.only.split(",")
    if strange := set(parts) - set(PARTS):
        parser.error(f"--only {','.join(sorted(strange))}: need some of {','.join(PARTS)}")
    bench, material = AnimateBench(args.out, args.options), HeldOutMaterial(args.data, args.out)
    result = dict(weights=bench.weights)
    for part in parts:
        sittings = material.list_cases(part, args.most)
        rows = [bench.row(s) for s in sittings]
        result[part] = dict(summary=summarize(rows), rows=rows)
        if args.sheets:
            write_sheets(part, sittings, rows, bench.out)
    print(json.dumps(result | dict(bars=format_targets(result)), indent=1))


if __name__ == "__main__":
    main()

"""How good `animate` is on people kept out of training: sync on real clips, sharpness and identity on portraits.

Needs the training data (manifest format of docs/training.md) for what is kept out of it; the package itself does not.
Prints one JSON document and writes every video and contact sheet into --out, to be looked at.

  python benchmarks/quality.py --data DATA --out quality-out [--portraits 20] [--eval]
"""
import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.device import choose_device
from engine.media import VideoReader, write_image
from engine.progress import Progress
from engine.train.manifest import held_out, read_rows
from lipsync.evaluate import evaluate
from lipsync.options import AnimateOptions
from lipsync.pipeline import animate, load_models, prepare
from lipsync.sheet import write_sheet

SYNC = ("sync_correlation", "sync_best_correlation", "sync_lag_frames", "amplitude_ratio", "stillness_ratio", "opening_std_heights",
        "jitter_silent_heights_per_frame2", "sharpness_mouth_ratio", "identity_median")
LOOKS = ("sync_correlation", "stillness_ratio", "sharpness_mouth_ratio", "sharpness_upper_ratio", "identity_median", "blinks_per_minute", "face_share")


def first_frame(video, path):
    """The first frame of a clip as a picture file: the portrait of its own speaker."""
    with VideoReader(video) as reader:
        write_image(path, next(iter(reader)).pixels, overwrite=True)
    return path


def summary(rows, keys):
    """Mean, median and the two ends of each number over the rows that have it."""
    out = {}
    for key in keys:
        values = sorted(float(r[key]) for r in rows if r.get(key) is not None)
        if values:
            out[key] = dict(mean=round(statistics.fmean(values), 4), median=round(statistics.median(values), 4), lowest=round(values[0], 4), highest=round(values[-1], 4), count=len(values))
    return out


class Bench:
    """Renders jobs with the embedded model and measures them."""

    def __init__(self, out, options):
        self.out, self.options, self.placement = Path(out), options, choose_device("auto")
        self.out.mkdir(parents=True, exist_ok=True)
        self.models = load_models(self.placement)

    def row(self, name, portrait, sound, against=None):
        """Facts of one result; the video and its sheet stay in the folder."""
        film = self.out / f"{name}.mp4"
        animate(prepare(portrait, sound, self.options), film, self.models, self.placement, Progress("none"), overwrite=True)
        facts = evaluate(film, against=against, portrait=portrait, sound=sound)
        write_sheet(film, self.out / f"{name}.png", against=against)
        return dict(facts, name=name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--portraits", type=int, default=20)
    parser.add_argument("--eval", action="store_true", help="also the talk-eval clips")
    args = parser.parse_args()
    split, bench = held_out(), Bench(args.out, AnimateOptions())
    talk = [r for r in read_rows(args.data, ("talk",)) if Path(r["path"]).stem in split["talk"]]
    result = {}
    for part, rows in (("held_speakers", talk), ("other_people", read_rows(args.data, ("talk-eval",)) if args.eval else [])):
        made = []
        for k, r in enumerate(rows):
            video, sound = args.data / r["path"], args.data / r["audio"]
            made.append(bench.row(f"{part}_{k:02d}", first_frame(video, args.out / f"{part}_{k:02d}_portrait.png"), sound, video))
        result[part] = dict(summary=summary(made, SYNC), rows=[{k: m.get(k) for k in ("name", *SYNC)} for m in made])
    stills = [r for k, r in enumerate(sorted(read_rows(args.data, ("portrait",)), key=lambda r: r["path"])) if k % split["portraits_every"] == split["portraits_at"]]
    made = [bench.row(f"portrait_{k:02d}", args.data / r["path"], args.data / talk[k % len(talk)]["audio"]) for k, r in enumerate(stills[: args.portraits])]
    result["portraits"] = dict(summary=summary(made, LOOKS), rows=[{k: m.get(k) for k in ("name", *LOOKS)} for m in made])
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""How good `lipsync` is on people kept out of training: their sounds swapped, the mouth of each result held against
both real ones.

`animate` on the first frame of the same film with the same sound stands beside each: a mouth that owes nothing to the
film.

Needs the training data (manifest format of docs/training.md) for what is kept out of it; the package itself does not.
Prints one JSON document and writes every video and contact sheet into --out, to be looked at.

  python benchmarks/lipsync.py --data DATA --out lipsync-out [--eval] [--most 9] [--silence]
"""

import argparse
import json
import statistics
import sys
import time
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.device import choose_device
from mouthpiece.engine.media.images import write_image
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.media.rewrite import VideoRewriter
from mouthpiece.engine.progress import Progress
from mouthpiece.evaluation.video_metrics import measure_video
from mouthpiece.face.crop import crop_face
from mouthpiece.face.film_tracks import load_face_tracks, save_face_tracks, track_faces
from mouthpiece.face.measure import compute_correlation, find_best_lag
from mouthpiece.lipsync.film.lipsync_job import prepare_lipsync
from mouthpiece.lipsync.film.mouth_compositor import get_mouth_box
from mouthpiece.lipsync.film.resync import resync
from mouthpiece.lipsync.models import load_models
from mouthpiece.lipsync.options import AnimateOptions, LipsyncOptions
from mouthpiece.lipsync.portrait.animation_job import prepare_animation
from mouthpiece.lipsync.portrait.pipeline import animate
from mouthpiece.lipsync.portrait.renderer import WORK_PX
from mouthpiece.training.data.manifest import load_held_out, read_rows

MAX_CODING_LEVELS = 6  # 8-bit steps by which coding alone may differ
MAX_LAG_FRAMES = 5


def compute_partial_correlation(a, b, given):
    """Correlation of a and b with what both owe to a third curve taken out."""
    ab, ag, bg = compute_correlation(a, b), compute_correlation(a, given), compute_correlation(b, given)
    return (ab - ag * bg) / np.sqrt(max(1e-9, (1 - ag**2) * (1 - bg**2)))


def compare_mouths(result, old, new):
    """What the mouth of a result owes to the clip of the new sound and to its own film."""
    made, before, real = (measure_video(path).opening for path in (result, old, new))
    n = min(map(len, (made, before, real)))
    made, before, real = made[:n], before[:n], real[:n]
    best, lag = find_best_lag(real, made, MAX_LAG_FRAMES)
    sharp = [np.nanmedian(measure_video(path).sharpness[:, 0]) for path in (result, old)]
    return dict(
        new_mouth=compute_correlation(made, real),
        new_mouth_best=best,
        lag_frames=lag,
        old_mouth=compute_correlation(made, before),
        real_mouths=compute_correlation(before, real),
        old_mouth_partial=compute_partial_correlation(made, before, real),
        amplitude=float(np.nanstd(made) / np.nanstd(real)),
        sharpness=float(sharp[0] / sharp[1]),
    )


def compare_pixels(plain, result, track):
    """Pixels outside of the mouth that differ from a plain encoding of the film at the same settings: share and mean
    levels; and times.
    """
    changed = total = summed = 0
    late_s, frames = 0.0, [0, 0]
    with VideoReader(plain) as one, VideoReader(result) as two:
        for a, b in zip_longest(one, two):
            frames[0] += a is not None
            frames[1] += b is not None
            if a is None or b is None:
                continue
            late_s = max(late_s, abs(float(a.time - b.time)))
            outside = np.ones(a.pixels.shape[:2], bool)
            if track[a.index] is not None:
                x0, y0, x1, y1 = get_mouth_box(crop_face(track, a.index, WORK_PX), a.pixels.shape)
                outside[y0:y1, x0:x1] = False
            difference = cv2.absdiff(a.pixels, b.pixels).max(2)[outside]
            changed, total, summed = (
                changed + int((difference > MAX_CODING_LEVELS).sum()),
                total + difference.size,
                summed + float(difference.sum()),
            )
    return dict(
        frames_equal=frames[0] == frames[1],
        outside_changed=changed / total,
        outside_mean_levels=summed / total,
        picture_error_ms=1000 * late_s,
    )


def measure_sound_error_ms(result, sound, duration_s):
    """Measure the delay of a file's sound against the one it was made from, to a twentieth of a millisecond."""
    made, asked = (read_sound(path, 16_000, mono=True).samples[0] for path in (result, sound))
    n = min(len(made), len(asked), int(duration_s * 16_000))
    spectrum = np.fft.rfft(made[:n], 2 * n) * np.conj(np.fft.rfft(asked[:n], 2 * n))
    whole = np.fft.irfft(np.pad(spectrum, (0, 10 * len(spectrum))), 2 * (len(spectrum) * 11 - 1))
    at = int(np.argmax(whole))
    at = at - len(whole) if at > len(whole) / 2 else at
    return 1000 * at * (2 * n / len(whole)) / 16_000


class LipsyncBench:
    """Moves lips and measures them."""

    def __init__(self, out, options):
        self.out, self.options, self.placement = out, options, choose_device("auto")
        out.mkdir(parents=True, exist_ok=True)
        self.models = load_models(self.placement)

    def seen(self, video):
        path = self.out / f"{video.stem}.seen.npz"
        found = load_face_tracks(path, [self.options.face])
        if found is None:
            found = track_faces(video, [self.options.face])
            save_face_tracks(path, found)
        return found

    def plain(self, video, end):
        """The film encoded at the same settings with nothing changed."""
        path = self.out / f"{video.stem}.plain.mp4"
        if not path.exists():
            with (
                VideoReader(video) as reader,
                VideoRewriter(path, reader.info, None, end, crf=self.options.quality) as writer,
            ):
                for _, moment, native in reader.read_native_frames():
                    writer.write(native, moment)
        return path

    def portrait(self, name, video, sound, real):
        """What animate makes of the film's first frame and the same sound: the mouth that owes nothing to the film."""
        still, film = self.out / f"{name}_still.png", self.out / f"{name}_still.mp4"
        with VideoReader(video) as reader:
            write_image(still, next(iter(reader)).pixels, overwrite=True)
        animate(
            prepare_animation(still, sound, AnimateOptions()),
            film,
            self.models,
            self.placement,
            Progress("none"),
            overwrite=True,
        )
        found = compare_mouths(film, video, real)
        return {f"animate_{key}": found[key] for key in ("new_mouth", "old_mouth", "old_mouth_partial", "amplitude")}

    def row(self, name, video, sound, real):
        """Facts of one result; the video and its sheet stay in the folder."""
        film, seen = self.out / f"{name}.mp4", self.seen(video)
        job = prepare_lipsync(video, sound, self.options)
        began = time.perf_counter()
        facts = resync(job, film, self.models, self.placement, Progress("none"), tracks=seen, overwrite=True)
        took_s = time.perf_counter() - began
        write_image(self.out / f"{name}.png", make_sheet(video, film, real, seen.tracks[0]), overwrite=True)
        numbers = compare_mouths(film, video, real) | compare_pixels(self.plain(video, seen.end), film, seen.tracks[0])
        end_s = min(float(seen.end), float(read_sound(sound).duration))
        numbers |= dict(
            sound_error_ms=measure_sound_error_ms(film, sound, end_s),
            frames=facts["frames"],
            frames_per_s=facts["frames"] / took_s,
        )
        numbers["passed"] = facts["frames"] - facts["faces"][0].get("frames_changed", 0)
        return dict(
            numbers | self.portrait(name, video, sound, real), name=name, video=video.stem, sound=Path(sound).stem
        )

    def measure_silence(self, name, video):
        """How far the mouth of a film is open, before and after it got a silent sound, in face heights."""
        silence = self.out / "silence.wav"
        write_sound(
            silence,
            Sound(np.zeros((1, int(16_000 * float(probe(video).duration or 3))), np.float32), 16_000),
            overwrite=True,
        )
        film, seen = self.out / f"{name}.mp4", self.seen(video)
        resync(
            prepare_lipsync(video, silence, self.options),
            film,
            self.models,
            self.placement,
            Progress("none"),
            tracks=seen,
            overwrite=True,
        )
        write_image(self.out / f"{name}.png", make_sheet(video, film, video, seen.tracks[0]), overwrite=True)
        before, after = (measure_video(path).opening for path in (video, film))
        return dict(
            name=name,
            video=video.stem,
            before=float(np.nanmean(before)),
            after=float(np.nanmean(after)),
            before_std=float(np.nanstd(before)),
            after_std=float(np.nanstd(after)),
        )


def make_sheet(video, film, real, track, columns=14, side_px=128):
    """Lower faces at even times: the film's own, ours, and the real one of the sound."""
    count = len(track)
    at = {int(k) for k in np.linspace(0, count - 1, columns)}
    rows = []
    for path in (video, film):
        with VideoReader(path) as reader:
            cells = [
                crop_lower_face(f.pixels, track.points[f.index], side_px)
                for f in reader
                if f.index in at and track[f.index] is not None
            ]
        rows.append(np.concatenate(cells, 1))
    clip = measure_video(real)
    with VideoReader(real) as reader:
        cells = [
            crop_lower_face(f.pixels, clip.points[f.index], side_px)
            for f in reader
            if f.index in at and np.isfinite(clip.points[f.index]).all()
        ]
    rows.append(np.concatenate(cells, 1) if cells else np.zeros((side_px, side_px, 3), np.uint8))
    wide = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, 2), (0, wide - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    )


def crop_lower_face(pixels, points, side_px):
    from mouthpiece.face.crop import make_crop

    crop = make_crop(points, 2 * side_px).extract(pixels)
    return cv2.resize(
        crop[3 * side_px // 4 :, 3 * side_px // 8 : 13 * side_px // 8], (side_px, side_px), interpolation=cv2.INTER_AREA
    )


def summarize(rows):
    """Mean, median and the two ends of each number."""
    out = {}
    for key in rows[0]:
        values = sorted(float(r[key]) for r in rows if isinstance(r[key], int | float) and np.isfinite(r[key]))
        if values:
            out[key] = dict(
                mean=round(statistics.fmean(values), 4),
                median=round(statistics.median(values), 4),
                lowest=round(values[0], 4),
                highest=round(values[-1], 4),
            )
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=9, help="clips of held-out speakers")
    parser.add_argument("--eval", action="store_true", help="also the talk-eval clips")
    parser.add_argument("--silence", action="store_true", help="also silent sound: open mouths must close")
    parser.add_argument(
        "--options", type=json.loads, default={}, help="JSON of LipsyncOptions that differ from the defaults"
    )
    args = parser.parse_args()
    bench = LipsyncBench(args.out, LipsyncOptions(**{"long_sound": "cut", **args.options}))
    talk = [r for r in read_rows(args.data, ("talk",)) if Path(r["path"]).stem in load_held_out()["talk"]]
    kinds = {"held_speakers": talk[: args.most]} | (
        {"other_people": read_rows(args.data, ("talk-eval",))} if args.eval else {}
    )
    result = {}
    for kind, rows in ((kind, rows) for kind, rows in kinds.items() if rows):
        made = []
        for k, (film, voice) in enumerate(zip(rows, rows[1:] + rows[:1])):
            made.append(
                bench.row(
                    f"{kind}_{k:02d}", args.data / film["path"], args.data / voice["audio"], args.data / voice["path"]
                )
            )
            print(json.dumps(made[-1], default=float), file=sys.stderr, flush=True)
        result[kind] = dict(summary=summarize(made), rows=made)
        if args.silence:
            quiet = [
                bench.measure_silence(f"{kind}_{k:02d}_silent", args.data / film["path"]) for k, film in enumerate(rows)
            ]
            result[f"{kind}_silent"] = dict(summary=summarize(quiet), rows=quiet)
    print(json.dumps(result, indent=1, default=lambda x: str(x) if isinstance(x, Fraction) else float(x)))


if __name__ == "__main__":
    main()

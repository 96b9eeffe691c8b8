"""What a dub costs and how well it keeps to its film: a whole run, one word changed and run again, and slots of many
lines.

Needs the training data (manifest format of docs/training.md) for a film of one face; the package itself does not.
Times are of processes of their own, start-up included; CPU seconds count what other work on the machine hides.
Prints one JSON document; films, scripts and what the dubs kept stay in --out.

  python benchmarks/dub.py --data DATA --out dub-out [--clips 20] [--skip slots] [--words "--recognizer off"]
"""

import argparse
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mouthpiece.engine.audio.sound import Sound
from mouthpiece.engine.media.probing import probe
from mouthpiece.engine.media.reading import VideoReader, read_sound
from mouthpiece.engine.media.writing import VideoWriter
from mouthpiece.engine.timeline import count_samples
from mouthpiece.training.data.manifest import read_rows
from mouthpiece.voice.backends.registry import load_voice
from mouthpiece.voice.plan.pauses import move_silence_to_marks, trim_plan_silence
from mouthpiece.voice.plan.slot_fitting import compute_spoken_duration
from mouthpiece.voice.text.phones import make_utterance

RATIOS = (0.9, 1.15)  # of a slot to the line's natural length
VOICE, SOUND_HZ = "af_heart", 48_000
LINES = """The old lighthouse keeper opened the window and listened to the distant storm.
Nobody in the village remembered when the bridge had been built.
We should leave before the rain becomes any heavier tonight.
My sister bought three yellow lamps at the market this morning.
Please tell the captain that his dinner is getting cold again.
There were seven empty chairs around the table in the kitchen.
I never expected to find a letter from you under the door.
The train to the mountains leaves every morning at half past eight.
Somebody has painted the garden fence a terrible shade of green.
He promised that the music would continue until everyone was happy.""".splitlines()
CHANGED_WORD = (4, "dinner", "supper")  # which line gets which other word


def join_clips(clips, path):
    """Joins clips of one person into a film; gives its length in seconds."""
    rate = probe(clips[0][0]).rate
    sounds, frames = [], 0
    for video, sound in clips:
        count = probe(video).frames
        wave = read_sound(sound, SOUND_HZ, mono=True).samples
        wanted = count_samples(Fraction(count) / rate, SOUND_HZ)
        sounds.append(np.pad(wave, ((0, 0), (0, max(0, wanted - wave.shape[1]))))[:, :wanted])
        frames += count
    info = probe(clips[0][0])
    with VideoWriter(
        path, rate, info.width_px, info.height_px, Sound(np.concatenate(sounds, 1), SOUND_HZ), crf=14, overwrite=True
    ) as writer:
        for video, _ in clips:
            with VideoReader(video) as reader:
                for frame in reader:
                    writer.write(frame.pixels)
    return frames / float(rate)


def lay_out_lines(texts, length_s, seed):
    """[(start_s, end_s, text)]: slots near each line's natural length, spread over the film in order."""
    voice, rng = load_voice(VOICE), np.random.default_rng(seed)
    lengths = [
        compute_spoken_duration(
            trim_plan_silence(move_silence_to_marks(voice.predict_plan(make_utterance(text, voice.language))))
        )
        * rng.uniform(*RATIOS)
        for text in texts
    ]
    left = length_s - sum(lengths)
    if left < 0.2 * len(texts):
        raise SystemExit(f"{len(texts)} lines of {sum(lengths):.0f} s do not fit into {length_s:.0f} s")
    out, at = [], left / len(texts) / 2
    for text, length in zip(texts, lengths):
        out.append((round(at, 3), round(at + length, 3), text))
        at += length + left / len(texts)
    return out


def write_srt(path, lines):
    from mouthpiece.engine.timeline import round_half_up

    def clock(seconds):
        ms = round_half_up(Fraction(str(seconds)) * 1000)
        return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"

    path.write_text(
        "\n".join(f"{k}\n{clock(a)} --> {clock(b)}\n{text}\n" for k, (a, b, text) in enumerate(lines, 1)),
        encoding="utf-8",
    )


def run_cli(*words):
    """Runs the command line; its result, and what it took: wall and CPU seconds, memory, seconds of each stage."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "mouthpiece", *map(str, words), "--json", "--progress", "json"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    stages = {}
    for line in done.stderr.splitlines():
        event = json.loads(line) if line.startswith('{"event"') else {}
        if event.get("event") == "end":
            stages[event["stage"]] = round(stages.get(event["stage"], 0) + event["elapsed_s"], 2)
    if done.returncode not in (0, 6):
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stderr[-2000:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout)["result"], dict(wall_s=round(wall_s, 1), cpu_s=round(cpu_s, 1), stages_s=stages)


def measure_redo(args, film, length_s):
    """A whole dub, the same again, one word changed, and what `evaluate` says of the result."""
    script, out, report = args.out / "ten.srt", args.out / "ten.mp4", {}
    shutil.rmtree(out.with_suffix(".dub"), ignore_errors=True)
    lines = lay_out_lines(LINES, length_s, args.seed)
    write_srt(script, lines)
    command = ("dub", film, script, "-o", out, "--force", "--voice", VOICE, *args.words)
    first, report["full"] = run_cli(*command)
    _, report["unchanged"] = run_cli(*command)
    at, old, new = CHANGED_WORD
    lines[at] = (*lines[at][:2], lines[at][2].replace(old, new))
    write_srt(script, lines)
    second, report["one_word"] = run_cli(*command)
    facts = second["facts"]
    report["spoken_again"] = facts["spoken_again"]
    for kind in ("cpu_s", "wall_s"):
        report[f"ratio_{kind[:-2]}"] = round(report["one_word"][kind] / report["full"][kind], 3)
    report |= summarize_slots(facts)
    report["timed_by"] = [line.get("timed_by") for line in facts["lines"]]
    report["review"] = {
        line["id"]: line.get("why") for line in first["facts"]["lines"] if line["status"] == "needs_review"
    }
    report["picture"] = {k: v for k, v in facts["picture"].items() if k != "faces"}
    if not args.no_evaluate:
        judged, report["evaluate_took"] = run_cli("evaluate", out, "--against", film)
        report["evaluate"] = {k: v for k, v in judged.items() if not isinstance(v, list)}
    return report


def summarize_slots(facts):
    """Errors of starts and ends, words lost, and stretch, of the lines of a report."""
    out = {}
    for name in ("start_err_ms", "end_err_ms"):
        errors = [abs(line[name]) for line in facts["lines"] if line.get(name) is not None]
        out[name] = dict(
            zip(("p50", "p95", "most"), (round(float(q), 1) for q in np.quantile(errors, (0.5, 0.95, 1))))
        ) | dict(lines=len(errors))
    lost = {line["id"]: line["lost_words"] for line in facts["lines"] if line.get("lost_words")}
    recogniser = next((line["recogniser"] for line in facts["lines"] if line.get("recogniser")), None)
    return out | dict(
        words_lost=sum(map(len, lost.values())),
        lost=lost,
        recogniser=recogniser,
        stretch_p95=facts["file"].get("stretch_p95"),
    )


def measure_slots(args):
    """Thirty lines, sound only, on a film of one grey frame: how well they keep to their slots."""
    from slot_fit import SENTENCES

    texts = [*LINES, *SENTENCES][:30]
    film, script, out = args.out / "grey.mp4", args.out / "thirty.srt", args.out / "thirty.mp4"
    length_s = 4.5 * len(texts)
    with VideoWriter(
        film,
        Fraction(5),
        64,
        48,
        Sound(np.zeros((1, round(length_s * SOUND_HZ)), np.float32), SOUND_HZ),
        overwrite=True,
    ) as writer:
        for _ in range(round(length_s * 5)):
            writer.write(np.full((48, 64, 3), 90, np.uint8))
    shutil.rmtree(out.with_suffix(".dub"), ignore_errors=True)
    write_srt(script, lay_out_lines(texts, length_s, args.seed))
    result, took = run_cli(
        "dub",
        film,
        script,
        "-o",
        out,
        "--force",
        "--voice",
        VOICE,
        "--no-lips",
        "--lip-timing",
        "off",
        "--bed",
        "mute",
        *args.words,
    )
    return dict(took=took, **summarize_slots(result["facts"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=20, help="of three seconds each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", nargs="*", choices=("redo", "slots"), default=())
    parser.add_argument("--no-evaluate", action="store_true")
    parser.add_argument("--words", type=shlex.split, default=(), help="more options of `dub`, as one string")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    report = {}
    if "redo" not in args.skip:
        rows = [row for row in read_rows(args.data, ("talk",)) if "grid_s1" in row["path"]][: args.clips]
        film = args.out / "film.mp4"
        length_s = join_clips([(args.data / row["path"], args.data / row["audio"]) for row in rows], film)
        report["redo"] = dict(film_s=length_s) | measure_redo(args, film, length_s)
    if "slots" not in args.skip:
        report["slots"] = measure_slots(args)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

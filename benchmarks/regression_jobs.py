"""Hold the jobs of benchmarks/regression.py: one function a job, which gives part -> hash."""

import json
import sys

from regression_workspace import ROOT, JobFailed, Workspace, hash_arrays, hash_json, list_numbers, sha256

MORE_EDITED = "Maybe we open the box."
ECHOMIMIC_WRITER = """
import sys
from pathlib import Path
root, folder = sys.argv[1:]
sys.path[:0] = [root, root + "/tests"]
from debug_echomimic import write_debug_echomimic
write_debug_echomimic(Path(folder))
"""


def speak_text(space: Workspace) -> dict[str, str]:
    """Speak a text into a slot, and hash the lines that other jobs start from."""
    slot = space.make("slot.wav", "speak", "--text", "Stay. [pause 0.4s] Go.", "--slot", "2.4", "--voice", "hibari")
    return {name: space.get_hash(name) for name in (space.line, space.other_line)} | slot


def speak_script(space: Workspace) -> dict[str, str]:
    """Speak a WebVTT script for a film: two takes, two speakers."""
    script = space.write_script("speak.vtt")
    words = ("speak", space.two_shots, script, "--takes", "2", "--seed", "5", "--voice", "hibari", "--speed", "1.1")
    found = space.make("spoken.wav", *words, "--listen", "pocketsphinx")
    facts = space.get_sidecar("spoken.wav")["facts"]
    return found | {"spoken.take2.wav": space.get_hash("spoken.take2.wav"), "measured": hash_json(list_numbers(facts))}


def animate_recording(space: Workspace) -> dict[str, str]:
    """Animate a portrait to a recording; hash what was measured, too."""
    facts = space.get_sidecar(space.film)["facts"]
    return {space.film: space.get_hash(space.film), "measured": hash_json(list_numbers(facts))}


def animate_text(space: Workspace) -> dict[str, str]:
    """Animate the head alone to a text at an odd rate."""
    words = ("animate", space.portrait, "--text", "This is new.", "--voice", "hibari", "--fps", "30000/1001")
    return space.make("text.mov", *words, "--frame", "crop", "--size", "160", "--seed", "3")


def animate_odd(space: Workspace) -> dict[str, str]:
    """Animate at an odd size and rate with many settings changed; another sound, a face by its place."""
    words = ("animate", space.portrait, space.other_line, "--fps", "12.5", "--size", "131", "--seed", "7")
    words += ("--steps", "5", "--face", "128,108,110", "--guidance", "1", "--expression", "1", "--accents", "0")
    return space.make("odd.mkv", *words, "--blink-rate", "40", "--quality", "23", "--batch", "3")


def animate_echomimic(space: Workspace) -> dict[str, str]:
    """Animate by EchoMimic's networks with random weights of debug size."""
    weights = space.folder / "echomimic"
    weights.mkdir(exist_ok=True)
    done = space.execute(sys.executable, "-c", ECHOMIMIC_WRITER, str(ROOT), str(weights))
    if done.returncode:
        raise JobFailed(f"tests/debug_echomimic.py wrote no weights: {done.stderr.strip().splitlines()[-1]}")
    words = ("animate", space.portrait, "--text", "Hi.", "--voice", "hibari", "--model", "echomimic", "--size", "96")
    words += ("--weights", "echomimic", "--detail", "64")
    return space.make("echomimic.mp4", *words, "--steps", "2", "--seed", "4")


def lipsync(space: Workspace) -> dict[str, str]:
    """Move the lips of a film of two shots to another sound; hash what was measured, too."""
    found = space.make("lipsync.mp4", "lipsync", space.two_shots, space.other_line, "--seed", "3")
    return found | {"measured": hash_json(list_numbers(space.get_sidecar("lipsync.mp4")["facts"]))}


def lipsync_spans(space: Workspace) -> dict[str, str]:
    """Move the lips in spans alone, following a recording that is not heard."""
    words = ("lipsync", space.film, space.line, "--lips-from", space.other_line, "--spans", "0.4-1.5,1.9-2.4")
    return space.make("spans.mkv", *words, "--no-grain", "--long-sound", "cut", "--seed", "8")


def dub_keeping_lips(space: Workspace) -> dict[str, str]:
    """Dub without lips, the bed kept, lines heard back."""
    script = space.write_script("plain.srt")
    words = ("dub", space.two_shots, script, "-o", "plain.mp4", "--no-lips", "--bed", "keep", "--voice", "hibari")
    space.run(*words, "--listen", "pocketsphinx")
    return space.hash_dub("plain.mp4")


def dub_with_lips(space: Workspace) -> dict[str, str]:
    """Dub with lips."""
    return space.hash_dub(space.dub)


def dub_again(space: Workspace) -> dict[str, str]:
    """Change one line of the dub with lips and make it again from what is kept."""
    before = space.dub
    space.run(*space.list_dub_words("again.srt", MORE_EDITED), "--force")
    return space.hash_dub(before)


def sound(space: Workspace) -> dict[str, str]:
    """Make a soundtrack by MMAudio's networks with random weights of debug size, and one under dialogue."""
    writer = str(ROOT / "benchmarks" / "mmaudio.py")
    done = space.execute(sys.executable, writer, "--write", "mmaudio", "--model", "mmaudio-small-16k")
    if done.returncode:
        raise JobFailed(f"benchmarks/mmaudio.py wrote no weights: {done.stderr.strip().splitlines()[-1]}")
    words = ("--model", "mmaudio-small-16k", "--weights", "mmaudio", "--steps", "2", "--prompt", "rain", "--seed", "6")
    found = space.make("sound.mp4", "sound", space.film, *words)
    return found | space.make("under.wav", "sound", space.film, *words, "--under-dialogue", space.film)


def batch(space: Workspace) -> dict[str, str]:
    """Make two rows of a batch; hash the outputs and how the rows ended."""
    rows = (
        {"command": "animate", "portrait": space.portrait, "sound": space.line, "size": 96, "seed": 9},
        {"command": "speak", "video": space.film, "script": space.write_script("film.vtt", cues=2), "voice": "hibari"},
    )
    rows = (rows[0] | {"id": "a", "output": "a.mp4"}, rows[1] | {"id": "b", "output": "b/b.wav"})
    (space.folder / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    space.run("batch", "jobs.jsonl", "-o", "many", "--workers", "1")
    with open(space.folder / "many" / "results.jsonl", encoding="utf-8") as file:
        states = [[record["id"], record["state"]] for record in map(json.loads, file)]
    return {name: space.get_hash(f"many/{name}") for name in ("a.mp4", "b/b.wav")} | {"states": hash_json(states)}


def transcribe(space: Workspace) -> dict[str, str]:
    """Recognise a spoken line with pocketsphinx; hash the scripts."""
    found = {}
    for name in ("heard.srt", "heard.csv"):
        space.run("transcribe", space.line, "-o", name, "--model", "pocketsphinx", "--line-length", "1.5")
        found[name] = sha256((space.folder / name).read_bytes())
    facts = space.get_sidecar("heard.srt")["facts"]
    return found | {"measured": hash_json(list_numbers(facts))}


def voices(space: Workspace) -> dict[str, str]:
    """List the voices; sample one of ours, and a mix of Kokoro's where that is there."""
    rows = space.run("voices", "list")["result"]["voices"]
    table = sorted([row["name"], row["language"], row["gender"], row["backend"]] for row in rows)
    found = {"list": hash_json(table)} | space.make("sample.wav", "voices", "sample", "--voice", "hibari")
    if not any(row["backend"] == "kokoro" and row["at_hand"] for row in rows):
        return found | {"mix.wav": "no Kokoro on this machine"}
    words = ("voices", "sample", "--voice", "af_heart:0.6+bf_emma:0.4", "--text", "The tide turns at noon.")
    return found | space.make("mix.wav", *words)


def models(space: Workspace) -> dict[str, str]:
    """List the models; hash names, kinds, sizes and licences."""
    rows = space.run("models", "list")["result"]
    table = [[name, row["kind"], row["bytes"], row["licence"]] for name, row in sorted(rows.items())]
    return {"list": hash_json(table)}


def evaluate(space: Workspace) -> dict[str, str]:
    """Measure a film with its portrait, and another one against it."""
    spans = space.folder / "spans.mkv"
    if not spans.exists():
        lipsync_spans(space)
    first = space.run("evaluate", space.film, "--portrait", space.portrait)["result"]
    second = space.run("evaluate", spans.name, "--against", space.film)["result"]
    return {"portrait": hash_json(list_numbers(first)), "against": hash_json(list_numbers(second))}


def evaluate_dub(space: Workspace) -> dict[str, str]:
    """Measure a dub and its lines."""
    if not (space.folder / "plain.mp4").exists():
        dub_keeping_lips(space)
    result = space.run("evaluate", "plain.mp4", "--against", space.two_shots, "--listen", "pocketsphinx")["result"]
    return {"lines": hash_json(list_numbers(result))}


def verify(space: Workspace) -> dict[str, str]:
    """Verify a marked sound, a film without a mark, and a sound that was tampered with."""
    space.make("marked.wav", "speak", "--text", "Go.", "--voice", "hibari", "--listen", "off")
    content = bytearray((space.folder / "marked.wav").read_bytes())
    content[len(content) // 2] ^= 1
    (space.folder / "tampered.wav").write_bytes(content)
    intact = space.run("verify", "marked.wav")["result"]
    told = [intact["state"], intact["embedded"], intact["signature"]["valid"], intact["generated"]["command"]]
    told += [intact["generated"]["type"], intact["generated"]["seconds"]]
    others = {name: space.run("verify", name, code=5) for name in (space.film, "tampered.wav")}
    kinds = [other["result"]["state"] if "result" in other else other["error"]["code"] for other in others.values()]
    return {"marked": hash_json(told), "others": hash_json(kinds)}


def doctor(space: Workspace) -> dict[str, str]:
    """Ask what works: weights, models and extras that it knows, and whether the embedded weights are there."""
    rows = space.run("doctor")["result"]
    known = [row["name"] for row in rows if row["name"].startswith(("model ", "extra "))]
    weights = [[row["name"], row["ok"]] for row in rows if row["name"].startswith("weights ")]
    return {"names": hash_json(sorted(known)), "weights": hash_json(sorted(weights))}


def train(space: Workspace) -> dict[str, str]:
    """Prepare data of trainings: crops, puppets and aligned phones of one clip and one portrait."""
    shared = {"licence": "CC0-1.0", "source": "benchmarks/regression.py"}
    text = "hello there we made this film today"
    rows = (
        {"path": f"../{space.film}", "audio": f"../{space.line}", "kind": "talk", "speaker": "ann", "text": text},
        {"path": f"../{space.portrait}", "kind": "portrait", "speaker": "bea"},
    )
    data, out, found = space.folder / "data", space.folder / "work", {}
    data.mkdir(exist_ok=True)
    (data / "manifest.jsonl").write_text("".join(json.dumps(row | shared) + "\n" for row in rows), encoding="utf-8")
    for stage in ("crops", "puppets", "align"):
        space.run("train", stage, "--data", "data", "--out", "work", "--workers", "1", "--device", "cpu")
        paths = sorted((out / stage).glob("*.npz")) if stage != "align" else [out / "phones.npz"]
        found[stage] = hash_json([hash_arrays(path) for path in paths])
    return found


def refusals(space: Workspace) -> dict[str, str]:
    """Ask for what cannot be done; hash exit codes, kinds and codes of the errors."""
    (space.folder / "text.png").write_text("not a picture", encoding="utf-8")
    (space.folder / "empty.srt").write_text("", encoding="utf-8")
    (space.folder / "empty").mkdir(exist_ok=True)
    asked = {
        "no picture": (5, "animate", "text.png", space.line, "-o", "no.mp4"),
        "bad rate": (2, "animate", space.portrait, space.line, "-o", "no.mp4", "--fps", "0"),
        "output is there": (2, "animate", space.portrait, space.line, "-o", space.film),
        "sound without weights": (3, "sound", space.film, "-o", "no.mp4", "--weights", "empty"),
        "sound too long": (5, "lipsync", space.film, space.other_line, "-o", "no.mp4"),
        "no such voice": (2, "speak", "--text", "Go.", "--voice", "nobody", "-o", "no.wav"),
        "empty script": (5, "dub", space.film, "empty.srt", "-o", "no.mp4", "--bed", "mute"),
    }
    found = {}
    for name, (code, *words) in asked.items():
        error = space.run(*words, code=code)["error"]
        found[name] = f"{code} {error['kind']} {error['code']}"
    return found


JOBS = {
    "speak --text": speak_text,
    "animate": animate_recording,
    "animate --text": animate_text,
    "animate, odd": animate_odd,
    "animate --model echomimic": animate_echomimic,
    "lipsync": lipsync,
    "lipsync --spans": lipsync_spans,
    "speak, script": speak_script,
    "dub --no-lips": dub_keeping_lips,
    "dub": dub_with_lips,
    "dub, one line changed": dub_again,
    "sound": sound,
    "batch": batch,
    "transcribe": transcribe,
    "voices": voices,
    "models": models,
    "evaluate": evaluate,
    "evaluate, dub": evaluate_dub,
    "verify": verify,
    "doctor": doctor,
    "train": train,
    "refusals": refusals,
}

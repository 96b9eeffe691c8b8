"""Hold what the jobs of benchmarks/regression.py stand on: hashes, inputs, runs of the installed command."""

import hashlib
import json
import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(sys.executable).parent / "mouthpiece"
THREADS = "2"  # of every job's numeric libraries
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
FOREIGN_VARIABLES = (
    "MOUTHPIECE_WEIGHTS_DIR",
    "MOUTHPIECE_SIGNING_KEY",
    "MOUTHPIECE_SIGNING_CERT",
    "MOUTHPIECE_WHISPER",
    "MOUTHPIECE_FACENET",
    "MOUTHPIECE_SFACE",
)
TIMEOUT_S = 600  # of one command
NOT_MEASURED = ("settings", "picture", "spoken_again")  # facts of a dub: what was asked for, what was kept
SPOKEN = "Hello there. We made this film today."
OTHER = "People often bring more apples. Maybe five."
CUES = (
    ("00:00:00.000", "00:00:01.300", "ANNA", "Hello there."),
    ("00:00:01.400", "00:00:02.600", "BEN", "We made a film."),
    ("00:00:03.000", "00:00:05.000", "ANNA", "Maybe you can see it."),
)


def sha256(content: bytes) -> str:
    """Hash bytes; returns 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def hash_json(value) -> str:
    """Hash a JSON-ready value in canonical form: sorted keys, no spaces, numbers as Python prints them."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def list_numbers(value) -> list:
    """Collect all numbers and truth values below a JSON value, sorted; keys and texts are left out."""
    found, open_values = [], [value]
    while open_values:
        one = open_values.pop()
        if isinstance(one, dict):
            open_values.extend(one.values())
        elif isinstance(one, list):
            open_values.extend(one)
        elif isinstance(one, (int, float)):
            found.append(repr(float(one)))
    return sorted(found)


def hash_sound(path: Path) -> str:
    """Hash the decoded samples of a sound file."""
    import av

    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            digest.update(frame.to_ndarray().tobytes())
    return digest.hexdigest()


def hash_packets(path: Path) -> str:
    """Hash the compressed packets of all streams with their times: a file without what its container adds."""
    import av

    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        for packet in container.demux():
            at = f"{packet.stream.index} {packet.pts} {packet.dts} {packet.time_base} {packet.duration}\n"
            digest.update(at.encode() + bytes(packet))
    return digest.hexdigest()


def hash_arrays(path: Path) -> str:
    """Hash the numeric arrays of an .npz file without their names."""
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        values = [arrays[name] for name in arrays.files]
    values = [array for array in values if array.dtype.kind in "fiub"]
    return hash_json(sorted(sha256(f"{array.shape} {array.dtype}".encode() + array.tobytes()) for array in values))


class JobFailed(Exception):
    """A job ended with another exit code than it should."""


class Workspace:
    """A folder with the inputs and outputs of the jobs; inputs are made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "settings").mkdir(exist_ok=True)  # the key that signs outputs is made here
        self.environment = os.environ | dict.fromkeys(THREAD_VARIABLES, THREADS)
        self.environment["MOUTHPIECE_CONFIG_DIR"] = str(folder / "settings")
        for name in FOREIGN_VARIABLES:
            self.environment.pop(name, None)

    def execute(self, *words: str) -> subprocess.CompletedProcess:
        """Run a program in the folder with the fixed number of threads."""
        return subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )

    def run(self, *words: str, code: int = 0) -> dict:
        """Run a command of mouthpiece; returns its JSON document. Raises JobFailed for another exit code."""
        done = self.execute(str(SCRIPT), *words, "--json", "--progress", "none")
        if done.returncode != code:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise JobFailed(f"mouthpiece {' '.join(words)}: exit code {done.returncode}, not {code}: {' '.join(last)}")
        return json.loads(done.stdout)

    def get_sidecar(self, name: str) -> dict:
        """Read the side-car of an output in the folder."""
        return json.loads((self.folder / name).with_suffix(".json").read_text(encoding="utf-8"))

    def get_hash(self, name: str) -> str:
        """Give the hash of an output before its mark, as its side-car has it; of Matroska that of its packets."""
        if name.endswith(".mkv"):
            return hash_packets(self.folder / name)
        return self.get_sidecar(name)["provenance"]["sha256_unmarked"]

    def make(self, output: str, *words: str, code: int = 0) -> dict[str, str]:
        """Run a command that writes one output; returns its hash under the output's name."""
        self.run(*words, "-o", output, code=code)
        return {output: self.get_hash(output)}

    @cached_property
    def portrait(self) -> str:
        """Write the photograph that scikit-image carries, cut to the head: (256, 256) pixels."""
        from PIL import Image
        from skimage import data

        Image.fromarray(data.astronaut()[:256, 96:352]).save(self.folder / "portrait.png")
        return "portrait.png"

    def speak(self, output: str, text: str) -> str:
        """Speak a text with the voice that is always there, without a mark: the same file on every run."""
        words = ("speak", "--text", text, "--voice", "hibari", "--listen", "off", "--no-provenance", "--seed", "1")
        self.make(output, *words)
        return output

    @cached_property
    def line(self) -> str:
        """Make a spoken line."""
        return self.speak("line.wav", SPOKEN)

    @cached_property
    def other_line(self) -> str:
        """Make another spoken line."""
        return self.speak("other.wav", OTHER)

    @cached_property
    def film(self) -> str:
        """Make a film of a talking portrait, without a mark: the same file on every run."""
        self.make("film.mp4", "animate", self.portrait, self.line, "--size", "192", "--seed", "1", "--no-provenance")
        return "film.mp4"

    @cached_property
    def two_shots(self) -> str:
        """Cut a film of two shots from the first: the second is mirrored and darker; both have the film's sound."""
        import av
        import numpy as np

        with av.open(str(self.folder / self.film)) as source:
            pictures = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
        with av.open(str(self.folder / self.film)) as source:
            sound = np.concatenate([frame.to_ndarray() for frame in source.decode(audio=0)], axis=1)[:1]
        sound = sound[:, : len(pictures) * 1920]
        sound = np.pad(sound, ((0, 0), (0, len(pictures) * 1920 - sound.shape[1])))
        pictures += [np.ascontiguousarray(picture[:, ::-1] // 3 * 2) for picture in pictures]
        with av.open(str(self.folder / "shots.mp4"), "w") as target:
            video, audio = target.add_stream("libx264", 25), target.add_stream("aac", 48_000, layout="mono")
            video.width, video.height, video.pix_fmt = 192, 192, "yuv420p"
            video.options = {"crf": "10", "threads": "1"}
            for picture in pictures:
                target.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            frame = av.AudioFrame.from_ndarray(np.tile(sound, (1, 2)).astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate = 48_000
            for packet in (*video.encode(), *audio.encode(frame), *audio.encode()):
                target.mux(packet)
        return "shots.mp4"

    def write_script(self, name: str, last: str = CUES[-1][-1], cues: int = 3) -> str:
        """Write the first cues of the two shots as SRT or WebVTT, by its suffix. last: text of the last one of all."""
        chosen = (*CUES[:-1], (*CUES[-1][:3], last))[:cues]
        lines = [f"{a} --> {b}\n{who}: {text}" for a, b, who, text in chosen]
        if name.endswith(".srt"):
            content = "\n\n".join(f"{i}\n{line.replace('.', ',', 2)}" for i, line in enumerate(lines, 1))
        else:
            content = "WEBVTT\n\n" + "\n\n".join(lines)
        (self.folder / name).write_text(content + "\n", encoding="utf-8")
        return name

    @cached_property
    def dub(self) -> str:
        """Make a dub with lips of the film of two shots, two speakers."""
        self.run(*self.list_dub_words("dub.srt"))
        return "dub.mp4"

    def list_dub_words(self, script: str, last: str = CUES[-1][-1]) -> tuple[str, ...]:
        """List the words of the command that dubs the two shots, after writing its script."""
        words = ("dub", self.two_shots, self.write_script(script, last), "-o", "dub.mp4", "--voice", "hibari")
        words += ("--seed", "2", "--bed", "mute", "--prosody", "neutral", "--listen", "off")
        return *words, "--loudness", "web"

    def hash_dub(self, output: str) -> dict[str, str]:
        """Hash what a dub wrote: film, stems, takes of the lines and all that was measured."""
        found, project = {output: self.get_hash(output)}, (self.folder / output).with_suffix(".dub")
        for name in ("dialogue.wav", "bed.wav", "mix.wav"):
            found[name] = hash_sound(project / name)
        takes = sorted((project / "lines").glob("*.wav"))
        found["takes"] = hash_json([hash_sound(path) for path in takes])
        facts = self.get_sidecar(output)["facts"]
        measured = {name: value for name, value in facts.items() if name not in NOT_MEASURED}
        return found | {"measured": hash_json(list_numbers(measured))}

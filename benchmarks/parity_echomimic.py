"""EchoMimic's networks, loop and ears against a fixture folder; every size, seed and length is read from its files."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import torch
from parity_row import Row, compared, equal, unit
from safetensors.torch import load_file

from engine.errors import MouthpieceError
from engine.sampling import Guidance, Level, VelocityAdapter
from lipsync.echomimic.ears import Ears, Hearing, gathered, published_count
from lipsync.echomimic.loop import (
    NOISE_LIMIT,
    ClosedLoop,
    Speaking,
    circle,
    denoised,
    landing,
    leaping,
    levels_of,
    variances,
)
from lipsync.echomimic.networks import Denoiser, FaceLocator, ReferenceNet, remember
from lipsync.echomimic.shape import FULL, shape_from
from lipsync.echomimic.weights import filled

ALPHA_ERROR = 1e-6  # of the schedule's table, printed in float32
WHISPER = {"n_audio_head": 6, "n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 384, "n_audio_layer": 4}


class Fixture:
    """A folder of `NAME.io.safetensors` with `NAME.json`; notes what was compared, so that nothing is left out."""

    def __init__(self, folder):
        self.folder, self.rows, self._asked = Path(folder), [], {}

    def json(self, name):
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))

    def open(self, name, facts=None):
        """(facts, tensors in float32; integers as they are) of a part."""
        facts = self.json(facts or name)
        tensors = load_file(self.folder / f"{name}.io.safetensors")
        self._asked[name] = {key for key, about in facts["tensors"].items() if about["role"] == "output"}
        self._facts = getattr(self, "_facts", {}) | {name: (facts, tensors)}
        return facts, {k: unit(v) if v.is_floating_point() else v for k, v in tensors.items()}

    def weights(self, name):
        return {k: unit(v) for k, v in load_file(self.folder / f"{name}.weights.safetensors").items()}

    def compare(self, part, key, mine):
        """Adds the Row of one output."""
        facts, tensors = self._facts[part]
        self._asked[part].discard(key)
        self.rows.append(compared(f"{part}/{key}", mine, unit(tensors[key]), facts["tensors"][key]["tol"]))

    def finish(self):
        """All rows; an output that nobody compared is one that misses."""
        left = [f"{part}/{key}" for part, keys in self._asked.items() for key in sorted(keys)]
        return self.rows + [Row(f"{name} (not compared)", float("inf"), 0.0, False) for name in left]


class Taps:
    """Outputs of modules at their first call. net: module.  names: paths in it."""

    def __init__(self, net, names):
        self.out, self._hooks = {}, []
        for name in names:
            module = net.get_submodule(name)
            self._hooks.append(module.register_forward_hook(lambda m, i, o, name=name: self._note(name, o)))

    def _note(self, name, output):
        self.out.setdefault(name, output[0] if isinstance(output, tuple) else output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()


def rows_of(x):
    """(B, C, f, h, w) as (B f, C, h, w)."""
    return x.transpose(1, 2).flatten(0, 1)


def clip_of(x, frames):
    """(B f, C, h, w) as (B, C, f, h, w)."""
    return x.unflatten(0, (-1, frames)).transpose(1, 2)


def cut(output, meaning, dims, frames):
    """What a tap's meaning says was kept of an output whose frames lie on the batch axis."""
    frame = re.search(r"index (\d+)|frame (\d+)", meaning)
    stride = re.search(r"every (\d+)\w+ row and column", meaning)
    if dims == 5:
        output = clip_of(output, frames)
        if frame:
            k = int(frame[1] or frame[2])
            output = output[:, :, k : k + 1]
    elif dims == 2:
        output = output[::frames]
    elif frame:
        k = int(frame[1] or frame[2])
        output = output.unflatten(0, (-1, frames))[:, k]
    if stride and dims >= 4:
        output = output[..., :: int(stride[1]), :: int(stride[1])]
    return output


def taps_of(facts, prefix):
    """name of a module -> key of its tap."""
    return {key.removeprefix(prefix): key for key in facts["tensors"] if key.startswith(prefix)}


def compare_taps(fixture, part, facts, taps, prefix, frames):
    """Rows of all taps of a pass."""
    for module, key in taps_of(facts, prefix).items():
        about = facts["tensors"][key]
        fixture.compare(part, key, cut(taps.out[module], about["meaning"], len(about["shape"]), frames))


class Nets:
    """The three networks of a fixture in float32. fixture: Fixture."""

    def __init__(self, fixture):
        states = {name: fixture.weights(name) for name in ("locator", "reference", "denoising", "motion")}
        config = fixture.json("denoise")["config"]
        state = states["denoising"] | states["motion"]
        shape = shape_from(state, states["locator"], config["heads"], config["norm_num_groups"])
        self.locator = filled(FaceLocator, shape, states["locator"], "locator").eval()
        self.reference = filled(ReferenceNet, shape, states["reference"], "reference").eval()
        self.denoiser = filled(Denoiser, shape, state, "denoising and motion").eval()


def check_locator(fixture, nets):
    """Mask to face feature."""
    facts, io = fixture.open("locator")
    with Taps(nets.locator, taps_of(facts, "tap.")) as taps:
        face = nets.locator(io["in.mask"][None, None] / 255)
    fixture.compare("locator", "out.face", face.unsqueeze(2))
    compare_taps(fixture, "locator", facts, taps, "tap.", 1)
    return face


def check_reference(fixture, nets):
    """Portrait to bank."""
    facts, io = fixture.open("reference")
    with Taps(nets.reference, taps_of(facts, "tap.")) as taps:
        bank = nets.reference(io["in.latents"])
    for name, key in taps_of(facts, "bank.").items():
        fixture.compare("reference", key, bank.get(name))
    compare_taps(fixture, "reference", facts, taps, "tap.", 1)
    return bank


def repeated(audio, frames):
    """Audio (1, n, N, W) for so many frames, from the start again where there are fewer."""
    return audio[:, torch.arange(frames) % audio.shape[1]]


def check_passes(fixture, nets, face, bank):
    """Single passes with and without guidance, with the portrait's keys and values made once."""
    facts, io = fixture.open("denoise")
    portrait = remember(nets.denoiser, bank)
    for name, time in facts["config"]["t"].items():
        x, guided = io[f"{name}.in.latents"], any(key.startswith(f"{name}.out.v_cfg") for key in facts["tensors"])
        frames = x.shape[2]
        audio = repeated(io[f"{name}.in.audio"], frames)
        told = {"audio": audio, "face": face, "known": torch.tensor([True])}
        if guided:
            told = {key: torch.cat([torch.zeros_like(value), value]) for key, value in told.items()}
        prefix = f"{name}.tap."
        with Taps(nets.denoiser, taps_of(facts, prefix)) as taps:
            batch = x.expand(2, -1, -1, -1, -1) if guided else x
            v = nets.denoiser(batch, torch.full((len(batch),), float(time)), told, portrait)
        fixture.compare("denoise", f"{name}.out.v", v)
        for key in [k for k in facts["tensors"] if k.startswith(f"{name}.out.v_cfg")]:
            scale = float(key.split("cfg")[1])
            fixture.compare("denoise", key, v[:1] + scale * (v[1:] - v[:1]))
        compare_taps(fixture, "denoise", facts, taps, prefix, frames)
    check_units(fixture, nets, facts, io, bank)


def check_units(fixture, nets, facts, io, bank):
    """Single modules on tiny inputs, which show their group norm's epsilon."""
    from lipsync.echomimic.blocks import Surroundings

    net, paths = nets.denoiser, facts["config"]["units"]
    audio = io["a.in.audio"].flatten(0, 1)
    for name, path in paths.items():
        x = io[f"unit.in.{name}"]
        frames, module = x.shape[2], net.get_submodule(path)
        time = io["unit.in.temb"].expand(frames, -1)
        around = Surroundings(time, frames, audio, bank)
        if name == "resnet":
            out = module(rows_of(x), time)
        elif name == "head":
            out = net.conv_out(torch.nn.functional.silu(module(rows_of(x))))
        else:
            out = module(rows_of(x), around)
        fixture.compare("denoise", f"unit.out.{name}", clip_of(out, frames))


def check_schedule(fixture):
    """The table of alphas, every schedule, single steps."""
    table = fixture.json("ddim")
    bars = torch.cumprod(1 - variances(), 0)
    error = float((bars - torch.tensor(table["alphas_cumprod"], dtype=torch.float64)).abs().max())
    fixture.rows.append(Row("ddim/alphas_cumprod", error, ALPHA_ERROR, error <= ALPHA_ERROR))
    for steps, schedule in table["schedules"].items():
        times = [int(level.time) for level in levels_of(int(steps))[:-1]]
        wrong = sum(a != b for a, b in zip(times, schedule["timesteps"], strict=True))
        wrong += sum(abs(landing(s["t"], int(steps)).alpha ** 2 - s["alpha_prev"]) > ALPHA_ERROR for s in schedule["steps"])
        fixture.rows.append(equal(f"ddim/schedule of {steps}", wrong))
    facts, io = fixture.open("ddim", "ddim_io")
    for key in [k for k in facts["tensors"] if k.startswith("out.")]:
        steps, time = (int(n) for n in re.fullmatch(r"out\.steps(\d+)\.t(\d+)", key).groups())
        here = next(level for level in levels_of(steps)[:-1] if level.time == time)
        adapter = VelocityAdapter(lambda x, t, told: io["in.v"])
        x, _ = leaping(steps)(lambda x, level: adapter(x, level, None), io["in.sample"], here, Level(None, 1.0, 0.0), None)
        fixture.compare("ddim", key, x)


def check_windows(fixture):
    """Window lists of every clip length, and frame counts of every sound."""
    table = fixture.json("windows")
    for overlap, lengths in table["overlap"].items():
        wrong = 0
        for length, wanted in lengths.items():
            windows = circle(int(length), table["context_frames"], int(overlap))
            visits = np.bincount(np.concatenate(windows), minlength=int(length)).tolist()
            full = wanted.get("full")  # long clips give their starts alone
            wrong += [w[0] for w in windows] != wanted["starts"] or visits != (wanted.get("visits") or visits) or (full or windows) != windows
        fixture.rows.append(equal(f"windows/overlap {overlap}, {len(lengths)} lengths", wrong))
    counts = fixture.json("frame_counts")
    for rate, wanted in counts["rates"].items():
        fps, first = float(rate), counts["T"][0] if isinstance(counts.get("T"), list) else 1
        wrong = sum(published_count(first + i, fps) != count for i, count in enumerate(wanted))
        fixture.rows.append(equal(f"frame_counts/{rate} fps, {len(wanted)} lengths", wrong))


class Recorder:
    """A network that notes what it was given and what it answered. network: ClosedLoop."""

    def __init__(self, network):
        self.network, self.given, self.answers = network, [], []

    def __call__(self, x, time, told):
        v = self.network(x, time, told)
        self.given.append(x[:1])
        self.answers.append(v)
        return v


def check_loop(fixture, part, nets):
    """A whole clip by the closed loop, from audio states, mask, portrait latents and noise."""
    facts, io = fixture.open(part)
    config = facts["config"]
    frames = published_count(len(io["in.audio_states"]), config["fps"], config["cap"])
    windows = circle(frames, config["context_frames"], config["overlap"])
    times = [int(level.time) for level in levels_of(config["steps"])[:-1]]
    found = (frames, [w[0] for w in windows], len(windows[0]), times)
    wanted = tuple(config[key] for key in ("frames", "window_starts", "window", "timesteps"))
    fixture.rows.append(equal(f"{part}/frames, windows, timesteps", sum(a != b for a, b in zip(found, wanted))))
    told = {"audio": gathered(io["in.audio_states"], frames, config["fps"]), "face": nets.locator(io["in.mask"][None, None] / 255)}
    portrait = remember(nets.denoiser, nets.reference(io["in.ref_latents"]))
    seen = {}
    loop = ClosedLoop(Speaking(nets.denoiser, portrait), config["steps"], config["context_frames"], config["overlap"],
                      on_window=lambda step, window, v: seen.setdefault((step, window), v))
    recorder = Recorder(loop)
    noise = io["in.noise"].clamp(-NOISE_LIMIT, NOISE_LIMIT)
    final = denoised(recorder, noise, told, config["steps"], float(config["cfg"]))
    weights = [w for w in Guidance((float(config["cfg"]),)).weights(0.0) if abs(w) > 1e-12]
    latents = [*recorder.given[1:], final]
    for key in [k for k, about in facts["tensors"].items() if about["role"] == "output"]:
        if key == "out.final":
            mine = final
        else:
            step, window, what = re.fullmatch(r"out\.step(\d+)(?:\.window(\d+))?\.(v|latents)", key).groups()
            if window is not None:
                mine = seen.get((int(step), int(window)))
            elif what == "latents":
                mine = latents[int(step)]
            else:
                mine = sum(w * v for w, v in zip(weights, recorder.answers[int(step)].split(1), strict=True))
        fixture.compare(part, key, mine)


def drawn(seed, name, about):
    """A weight by its recipe: splitmix64 of the seed and the name, sums of four 16-bit parts or uniform."""
    count = int(np.prod(about["shape"]))
    base = np.frombuffer(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "<u8")[0]
    with np.errstate(over="ignore"):
        z = base + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    if about["kind"] == "normal":
        parts = sum(((z >> np.uint64(16 * k)) & np.uint64(0xFFFF)).astype(np.int64) for k in range(4))
        values = (parts - 131070).astype(np.float64) * about["c"]
    else:
        values = about["lo"] + about["span"] * ((z >> np.uint64(40)).astype(np.float64) / 2**24)
    return values.astype("<f4").reshape(about["shape"])


def recipe_ears(fixture, model):
    """Ears with the recipe's weights; a Row for each that is not what its SHA-256 says."""
    from whisper.model import sinusoids

    recipe, state, wrong = fixture.json("whisper_recipe"), {}, 0
    for name, about in recipe["tensors"].items():
        values = sinusoids(*about["shape"]).numpy() if about["kind"] == "sinusoids" else drawn(recipe["seed"], name, about)
        wrong += about["sha256"] is not None and hashlib.sha256(values.tobytes()).hexdigest() != about["sha256"]
        state[name] = torch.from_numpy(values.copy())
    fixture.rows.append(equal(f"whisper_recipe/{len(state)} tensors", wrong))
    ears = Ears(*(model[key] for key in WHISPER)).eval()
    ears.load_state_dict(state, strict=True)
    return ears


def check_audio(fixture):
    """Waveform to log-mel to states to tokens, piece by piece."""
    facts, io = fixture.open("audio")
    ears = recipe_ears(fixture, WHISPER | facts["config"]["model"])
    for clip, sizes in facts["config"]["clips"].items():
        hearing = Hearing(ears, io[f"{clip}.in.pcm8"].numpy().astype(np.float32) / 128)
        found = (hearing.mel_frames, hearing.states)
        counts = {k.removeprefix("frames_fps"): v for k, v in sizes.items() if k.startswith("frames_fps")}
        wrong = sum(a != b for a, b in zip(found, (sizes["mel_frames"], sizes["states"])))
        wrong += sum(published_count(hearing.states, float(fps)) != count for fps, count in counts.items())
        fixture.rows.append(equal(f"audio/{clip} lengths", wrong))
        mel = hearing.log_mel(0, hearing.mel_frames)
        states = hearing.at(range(hearing.states))
        which = {"mel": io.get(f"{clip}.mel_index"), "state": io.get(f"{clip}.state_index")}
        fixture.compare("audio", f"{clip}.out.logmel", mel if which["mel"] is None else mel[:, which["mel"].long()])
        fixture.compare("audio", f"{clip}.out.states", states if which["state"] is None else states[which["state"].long()])
        for key in [k for k in facts["tensors"] if k.startswith(f"{clip}.out.tokens.fps")]:
            fps = key.rpartition("fps")[2]
            rows = io[f"{clip}.frame_index.fps{fps}"].tolist()
            whole = gathered(states, published_count(hearing.states, float(fps)), float(fps))[0]
            pieces = torch.cat([hearing.tokens(i, i + 1, float(fps))[0] for i in rows])
            fixture.compare("audio", key, pieces if torch.equal(pieces, whole[rows]) else None)


def check_contract(fixture):
    """Names and shapes of the full size, made on the meta device."""
    folder = fixture.folder / "contract"
    if not folder.is_dir():
        return
    with torch.device("meta"):
        nets = {"reference_unet": ReferenceNet(FULL), "face_locator": FaceLocator(FULL), "denoising_unet": Denoiser(FULL)}
    read = {p.stem: json.loads(p.read_text(encoding="utf-8")).get("shapes") for p in sorted(folder.glob("*.json"))}
    wanted = {"denoising_unet": read["denoising_unet"] | read["motion_module"]} | {
        name: read[name] for name in ("reference_unet", "face_locator")
    }
    for name, shapes in wanted.items():
        mine = {key: list(tensor.shape) for key, tensor in nets[name].state_dict().items()}
        wrong = sum(mine.get(key) != shapes.get(key) for key in mine.keys() | shapes.keys())
        fixture.rows.append(equal(f"contract/{name}, {len(shapes)} tensors", wrong))


def check_files(fixture):
    """Files that the folder's own manifest says are others."""
    manifest = fixture.folder / "manifest.json"
    if manifest.is_file():
        for name, about in json.loads(manifest.read_text(encoding="utf-8"))["files"].items():
            path = fixture.folder / name
            if path.suffix in (".safetensors", ".json"):
                same = path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == about["sha256"]
                fixture.rows.append(equal(f"manifest/{name}", int(not same)))


@torch.no_grad()
def check(folder):
    """Rows of a fixture folder, every recorded output among them."""
    fixture = Fixture(folder)
    check_files(fixture)
    check_contract(fixture)
    try:
        nets = Nets(fixture)
    except MouthpieceError as error:
        return fixture.finish() + [Row(str(error), float("inf"), 0.0, False)]
    face = check_locator(fixture, nets)
    check_passes(fixture, nets, face, check_reference(fixture, nets))
    check_schedule(fixture)
    check_windows(fixture)
    for path in sorted(fixture.folder.glob("loop_*.json")):
        check_loop(fixture, path.stem, nets)
    check_audio(fixture)
    return fixture.finish()

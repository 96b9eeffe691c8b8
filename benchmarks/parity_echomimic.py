"""EchoMimic's networks, sampling loop and audio encoder against a folder of recorded tensors of any size and length."""

import hashlib
import json
import re

import numpy as np
import torch
from parity_fixture import Fixture, ModuleOutputs, compare_taps, fold_frames, list_taps, unfold_frames
from parity_row import ParityRow, compare_facts
from published_echomimic import count_published_frames

from mouthpiece.engine.errors import MouthpieceError
from mouthpiece.engine.sampling import Guidance, NoiseLevel, VelocityAdapter
from mouthpiece.lipsync.echomimic.audio_encoder import (
    AudioFeatures,
    WhisperAudioEncoder,
    gather_tokens,
)
from mouthpiece.lipsync.echomimic.config import FULL_CONFIG, infer_config
from mouthpiece.lipsync.echomimic.networks import Denoiser, FaceLocator, ReferenceNet, cache_keys_and_values
from mouthpiece.lipsync.echomimic.sampling import (
    NOISE_LIMIT,
    ClosedLoopDenoiser,
    PortraitDenoiser,
    compute_betas,
    denoise_latents,
    find_published_level,
    make_circular_windows,
    make_levels,
    make_published_ddim,
)
from mouthpiece.lipsync.echomimic.weights import build_network

ALPHA_ERROR = 1e-6  # of the schedule's table, printed in float32
WHISPER = {"n_audio_head": 6, "n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 384, "n_audio_layer": 4}


class FixtureNetworks:
    """The three networks of a fixture in float32. fixture: Fixture."""

    def __init__(self, fixture):
        states = {name: fixture.weights(name) for name in ("locator", "reference", "denoising", "motion")}
        config = fixture.json("denoise")["config"]
        state = states["denoising"] | states["motion"]
        shape = infer_config(state, states["locator"], config["heads"], config["norm_num_groups"])
        self.locator = build_network(FaceLocator, shape, states["locator"], "locator").eval()
        self.reference = build_network(ReferenceNet, shape, states["reference"], "reference").eval()
        self.denoiser = build_network(Denoiser, shape, state, "denoising and motion").eval()


def check_locator(fixture, nets):
    """Mask to face feature."""
    facts, io = fixture.open("locator")
    with ModuleOutputs(nets.locator, list_taps(facts, "tap.")) as taps:
        face = nets.locator(io["in.mask"][None, None] / 255)
    fixture.compare("locator", "out.face", face.unsqueeze(2))
    compare_taps(fixture, "locator", facts, taps, "tap.", 1)
    return face


def check_reference(fixture, nets):
    """Portrait to bank."""
    facts, io = fixture.open("reference")
    with ModuleOutputs(nets.reference, list_taps(facts, "tap.")) as taps:
        bank = nets.reference(io["in.latents"])
    for name, key in list_taps(facts, "bank.").items():
        fixture.compare("reference", key, bank.get(name))
    compare_taps(fixture, "reference", facts, taps, "tap.", 1)
    return bank


def repeat_audio(audio, frames):
    """Audio (1, n, N, W) for so many frames, from the start again where there are fewer."""
    return audio[:, torch.arange(frames) % audio.shape[1]]


def check_passes(fixture, nets, face, bank):
    """Single passes with and without guidance, with the portrait's keys and values made once."""
    facts, io = fixture.open("denoise")
    portrait = cache_keys_and_values(nets.denoiser, bank)
    for name, time in facts["config"]["t"].items():
        x, guided = io[f"{name}.in.latents"], any(key.startswith(f"{name}.out.v_cfg") for key in facts["tensors"])
        frames = x.shape[2]
        audio = repeat_audio(io[f"{name}.in.audio"], frames)
        conditions = {"audio": audio, "face": face, "known": torch.tensor([True])}
        if guided:
            conditions = {key: torch.cat([torch.zeros_like(value), value]) for key, value in conditions.items()}
        prefix = f"{name}.tap."
        with ModuleOutputs(nets.denoiser, list_taps(facts, prefix)) as taps:
            batch = x.expand(2, -1, -1, -1, -1) if guided else x
            v = nets.denoiser(batch, torch.full((len(batch),), float(time)), conditions, portrait)
        fixture.compare("denoise", f"{name}.out.v", v)
        for key in [k for k in facts["tensors"] if k.startswith(f"{name}.out.v_cfg")]:
            scale = float(key.split("cfg")[1])
            fixture.compare("denoise", key, v[:1] + scale * (v[1:] - v[:1]))
        compare_taps(fixture, "denoise", facts, taps, prefix, frames)
    check_units(fixture, nets, facts, io, bank)


def check_units(fixture, nets, facts, io, bank):
    """Single modules on tiny inputs, which show their group norm's epsilon."""
    from mouthpiece.lipsync.echomimic.blocks import BlockContext

    net, paths = nets.denoiser, facts["config"]["units"]
    audio = io["a.in.audio"].flatten(0, 1)
    for name, path in paths.items():
        x = io[f"unit.in.{name}"]
        frames, module = x.shape[2], net.get_submodule(path)
        time = io["unit.in.temb"].expand(frames, -1)
        around = BlockContext(time, frames, audio, bank)
        if name == "resnet":
            out = module(fold_frames(x), time)
        elif name == "head":
            out = net.conv_out(torch.nn.functional.silu(module(fold_frames(x))))
        else:
            out = module(fold_frames(x), around)
        fixture.compare("denoise", f"unit.out.{name}", unfold_frames(out, frames))


def check_schedule(fixture):
    """The table of alphas, every schedule, single steps."""
    table = fixture.json("ddim")
    bars = torch.cumprod(1 - compute_betas(), 0)
    error = float((bars - torch.tensor(table["alphas_cumprod"], dtype=torch.float64)).abs().max())
    fixture.rows.append(ParityRow("ddim/alphas_cumprod", error, ALPHA_ERROR, error <= ALPHA_ERROR))
    for steps, schedule in table["schedules"].items():
        times = [int(level.time) for level in make_levels(int(steps))[:-1]]
        wrong = sum(a != b for a, b in zip(times, schedule["timesteps"], strict=True))
        wrong += sum(
            abs(find_published_level(s["t"], int(steps)).alpha ** 2 - s["alpha_prev"]) > ALPHA_ERROR
            for s in schedule["steps"]
        )
        fixture.rows.append(compare_facts(f"ddim/schedule of {steps}", wrong))
    facts, io = fixture.open("ddim", "ddim_io")
    for key in [k for k in facts["tensors"] if k.startswith("out.")]:
        steps, time = (int(n) for n in re.fullmatch(r"out\.steps(\d+)\.t(\d+)", key).groups())
        here = next(level for level in make_levels(steps)[:-1] if level.time == time)
        adapter = VelocityAdapter(lambda x, t, conditions: io["in.v"])
        x, _ = make_published_ddim(steps)(
            lambda x, level: adapter(x, level, None), io["in.sample"], here, NoiseLevel(None, 1.0, 0.0), None
        )
        fixture.compare("ddim", key, x)


def check_windows(fixture):
    """Window lists of every clip length, and frame counts of every sound."""
    table = fixture.json("windows")
    for overlap, lengths in table["overlap"].items():
        wrong = 0
        for length, wanted in lengths.items():
            windows = make_circular_windows(int(length), table["context_frames"], int(overlap))
            visits = np.bincount(np.concatenate(windows), minlength=int(length)).tolist()
            full = wanted.get("full")  # long clips give their starts alone
            wrong += (
                [w[0] for w in windows] != wanted["starts"]
                or visits != (wanted.get("visits") or visits)
                or (full or windows) != windows
            )
        fixture.rows.append(compare_facts(f"windows/overlap {overlap}, {len(lengths)} lengths", wrong))
    counts = fixture.json("frame_counts")
    for rate, wanted in counts["rates"].items():
        fps, first = float(rate), counts["T"][0] if isinstance(counts.get("T"), list) else 1
        wrong = sum(count_published_frames(first + i, fps) != count for i, count in enumerate(wanted))
        fixture.rows.append(compare_facts(f"frame_counts/{rate} fps, {len(wanted)} lengths", wrong))


class NetworkRecorder:
    """A network that notes what it was given and what it answered. network: ClosedLoop."""

    def __init__(self, network):
        self.network, self.given, self.answers = network, [], []

    def __call__(self, x, time, conditions):
        v = self.network(x, time, conditions)
        self.given.append(x[:1])
        self.answers.append(v)
        return v


def check_loop(fixture, part, nets):
    """A whole clip by the closed loop, from audio states, mask, portrait latents and noise."""
    facts, io = fixture.open(part)
    config = facts["config"]
    frames = count_published_frames(len(io["in.audio_states"]), config["fps"], config["cap"])
    windows = make_circular_windows(frames, config["context_frames"], config["overlap"])
    times = [int(level.time) for level in make_levels(config["steps"])[:-1]]
    found = (frames, [w[0] for w in windows], len(windows[0]), times)
    wanted = tuple(config[key] for key in ("frames", "window_starts", "window", "timesteps"))
    fixture.rows.append(compare_facts(f"{part}/frames, windows, timesteps", sum(a != b for a, b in zip(found, wanted))))
    conditions = {
        "audio": gather_tokens(io["in.audio_states"], frames, config["fps"]),
        "face": nets.locator(io["in.mask"][None, None] / 255),
    }
    portrait = cache_keys_and_values(nets.denoiser, nets.reference(io["in.ref_latents"]))
    velocities = {}
    loop = ClosedLoopDenoiser(
        PortraitDenoiser(nets.denoiser, portrait),
        config["steps"],
        config["context_frames"],
        config["overlap"],
        on_window=lambda step, window, v: velocities.setdefault((step, window), v),
    )
    recorder = NetworkRecorder(loop)
    noise = io["in.noise"].clamp(-NOISE_LIMIT, NOISE_LIMIT)
    final = denoise_latents(recorder, noise, conditions, config["steps"], float(config["cfg"]))
    weights = [w for w in Guidance((float(config["cfg"]),)).compute_weights(0.0) if abs(w) > 1e-12]
    latents = [*recorder.given[1:], final]
    for key in [k for k, about in facts["tensors"].items() if about["role"] == "output"]:
        if key == "out.final":
            made = final
        else:
            step, window, what = re.fullmatch(r"out\.step(\d+)(?:\.window(\d+))?\.(v|latents)", key).groups()
            if window is not None:
                made = velocities.get((int(step), int(window)))
            elif what == "latents":
                made = latents[int(step)]
            else:
                made = sum(w * v for w, v in zip(weights, recorder.answers[int(step)].split(1), strict=True))
        fixture.compare(part, key, made)


def draw_weight(seed, name, about):
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


def make_recipe_encoder(fixture, model):
    """Build the audio encoder with the recipe's weights; add a row for those whose SHA-256 differs."""
    from whisper.model import sinusoids

    recipe, state, wrong = fixture.json("whisper_recipe"), {}, 0
    for name, about in recipe["tensors"].items():
        values = (
            sinusoids(*about["shape"]).numpy()
            if about["kind"] == "sinusoids"
            else draw_weight(recipe["seed"], name, about)
        )
        wrong += about["sha256"] is not None and hashlib.sha256(values.tobytes()).hexdigest() != about["sha256"]
        state[name] = torch.from_numpy(values.copy())
    fixture.rows.append(compare_facts(f"whisper_recipe/{len(state)} tensors", wrong))
    encoder = WhisperAudioEncoder(*(model[key] for key in WHISPER)).eval()
    encoder.load_state_dict(state, strict=True)
    return encoder


def check_audio(fixture):
    """Waveform to log-mel to states to tokens, piece by piece."""
    facts, io = fixture.open("audio")
    encoder = make_recipe_encoder(fixture, WHISPER | facts["config"]["model"])
    for clip, sizes in facts["config"]["clips"].items():
        features = AudioFeatures(encoder, io[f"{clip}.in.pcm8"].numpy().astype(np.float32) / 128)
        found = (features.mel_frames, features.states)
        counts = {k.removeprefix("frames_fps"): v for k, v in sizes.items() if k.startswith("frames_fps")}
        wrong = sum(a != b for a, b in zip(found, (sizes["mel_frames"], sizes["states"])))
        wrong += sum(count_published_frames(features.states, float(fps)) != count for fps, count in counts.items())
        fixture.rows.append(compare_facts(f"audio/{clip} lengths", wrong))
        mel = features.compute_log_mel(0, features.mel_frames)
        states = features.get_states(range(features.states))
        which = {"mel": io.get(f"{clip}.mel_index"), "state": io.get(f"{clip}.state_index")}
        fixture.compare("audio", f"{clip}.out.logmel", mel if which["mel"] is None else mel[:, which["mel"].long()])
        fixture.compare(
            "audio", f"{clip}.out.states", states if which["state"] is None else states[which["state"].long()]
        )
        for key in [k for k in facts["tensors"] if k.startswith(f"{clip}.out.tokens.fps")]:
            fps = key.rpartition("fps")[2]
            rows = io[f"{clip}.frame_index.fps{fps}"].tolist()
            whole = gather_tokens(states, count_published_frames(features.states, float(fps)), float(fps))[0]
            pieces = torch.cat([features.get_tokens(i, i + 1, float(fps))[0] for i in rows])
            fixture.compare("audio", key, pieces if torch.equal(pieces, whole[rows]) else None)


def check_contract(fixture):
    """Names and shapes of the full size, made on the meta device."""
    folder = fixture.folder / "contract"
    if not folder.is_dir():
        return
    with torch.device("meta"):
        nets = {
            "reference_unet": ReferenceNet(FULL_CONFIG),
            "face_locator": FaceLocator(FULL_CONFIG),
            "denoising_unet": Denoiser(FULL_CONFIG),
        }
    read = {p.stem: json.loads(p.read_text(encoding="utf-8")).get("shapes") for p in sorted(folder.glob("*.json"))}
    wanted = {"denoising_unet": read["denoising_unet"] | read["motion_module"]} | {
        name: read[name] for name in ("reference_unet", "face_locator")
    }
    for name, shapes in wanted.items():
        made = {key: list(tensor.shape) for key, tensor in nets[name].state_dict().items()}
        wrong = sum(made.get(key) != shapes.get(key) for key in made.keys() | shapes.keys())
        fixture.rows.append(compare_facts(f"contract/{name}, {len(shapes)} tensors", wrong))


def check_files(fixture):
    """Files that the folder's own manifest says are others."""
    manifest = fixture.folder / "manifest.json"
    if manifest.is_file():
        for name, about in json.loads(manifest.read_text(encoding="utf-8"))["files"].items():
            path = fixture.folder / name
            if path.suffix in (".safetensors", ".json"):
                same = path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == about["sha256"]
                fixture.rows.append(compare_facts(f"manifest/{name}", int(not same)))


@torch.no_grad()
def check(folder):
    """Rows of a fixture folder, every recorded output among them."""
    fixture = Fixture(folder)
    check_files(fixture)
    check_contract(fixture)
    try:
        nets = FixtureNetworks(fixture)
    except MouthpieceError as error:
        return fixture.finish() + [ParityRow(str(error), float("inf"), 0.0, False)]
    face = check_locator(fixture, nets)
    check_passes(fixture, nets, face, check_reference(fixture, nets))
    check_schedule(fixture)
    check_windows(fixture)
    for path in sorted(fixture.folder.glob("loop_*.json")):
        check_loop(fixture, path.stem, nets)
    check_audio(fixture)
    return fixture.finish()

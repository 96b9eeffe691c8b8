"""What works on this machine and what is missing, one row each."""
import importlib.util
import platform

from engine.device import choose_device, threads
from engine.errors import MouthpieceError
from engine.weights import load_state, manifest

PACKAGES = (
    ("torch", "networks"),
    ("av", "reading and writing media"),
    ("facenet_pytorch", "finding faces"),
    ("mediapipe", "second opinion, measuring"),
    ("parselmouth", "pitch by Praat"),
    ("silero_vad", "voice activity"),
    ("hibari", "the small English voice"),
    ("whisper", "recognition"),
    ("pocketsphinx", "alignment"),
    ("diffusers", "public checkpoints"),
)


def examine():
    """Rows {"name", "ok", "detail"}: Python, device, packages, embedded weights. Nothing is downloaded or built.

    Source: ours; weights are read and verified, packages only looked for.
    """
    rows = [{"name": "python", "ok": True, "detail": platform.python_version()}]
    placement = choose_device("auto")
    detail = f"{placement.device}, {threads()} threads: {placement.reason}"
    rows.append({"name": "device", "ok": True, "detail": detail})
    for package, purpose in PACKAGES:
        there = importlib.util.find_spec(package) is not None
        detail = purpose if there else f"{purpose}: install mouthpiece again"
        rows.append({"name": package, "ok": there, "detail": detail})
    for name, entry in manifest().items():
        try:
            count = sum(tensor.numel() for tensor in load_state(name)[0].values())
            detail = f"{count / 1e6:.1f} million numbers, {entry.get('licence')}"
            rows.append({"name": f"weights {name}", "ok": True, "detail": detail})
        except MouthpieceError as error:
            rows.append({"name": f"weights {name}", "ok": False, "detail": str(error)})
    return rows

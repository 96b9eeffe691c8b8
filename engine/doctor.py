"""What works on this machine and what is missing, one row each."""
import importlib.util
import platform

from engine.device import choose_device, threads
from engine.errors import MouthpieceError
from engine.weights import embedded_path, manifest

PACKAGES = (("torch", "networks"), ("av", "reading and writing media"), ("facenet_pytorch", "finding faces"), ("mediapipe", "second opinion, measuring"),
            ("parselmouth", "pitch by Praat"), ("silero_vad", "voice activity"), ("hibari", "the small English voice"), ("whisper", "recognition"),
            ("pocketsphinx", "alignment"), ("diffusers", "public checkpoints"))


def examine():
    """Rows {"name", "ok", "detail"}: Python, device, packages, embedded weights. Nothing is loaded or downloaded. Source: ours."""
    rows = [dict(name="python", ok=True, detail=platform.python_version())]
    placement = choose_device("auto")
    rows.append(dict(name="device", ok=True, detail=f"{placement.device}, {threads()} threads: {placement.reason}"))
    for package, purpose in PACKAGES:
        there = importlib.util.find_spec(package) is not None
        rows.append(dict(name=package, ok=there, detail=purpose if there else f"{purpose}: install mouthpiece again"))
    for name in manifest():
        try:
            rows.append(dict(name=f"weights {name}", ok=True, detail=str(embedded_path(name).stat().st_size) + " bytes"))
        except MouthpieceError as error:
            rows.append(dict(name=f"weights {name}", ok=False, detail=str(error)))
    return rows

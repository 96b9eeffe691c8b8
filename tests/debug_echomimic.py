"""EchoMimic's files at debug size: the real classes, small and random, written as `models convert` writes them."""

import torch
from debug_weights import randomize

from mouthpiece.lipsync.echomimic.audio_encoder import WhisperAudioEncoder
from mouthpiece.lipsync.echomimic.config import DEBUG_CONFIG
from mouthpiece.lipsync.echomimic.networks import Denoiser, FaceLocator, ReferenceNet
from mouthpiece.lipsync.echomimic.vae import Vae
from mouthpiece.lipsync.echomimic.weights import write_safetensors

AUDIO_ENCODER = {"heads": 2, "width": DEBUG_CONFIG.audio_width}
VAE = {"widths": (8, 8, 8, 8), "layers": 1}


def make_networks(shape=DEBUG_CONFIG, seed=1):
    """(ReferenceNet, FaceLocator, Denoiser) of a shape, every number drawn."""
    return [
        randomize(kind(shape), 1.0, seed + i).eval() for i, kind in enumerate((ReferenceNet, FaceLocator, Denoiser))
    ]


def write_debug_echomimic(folder, shape=DEBUG_CONFIG):
    """Writes the files of both variants into a folder; the same numbers on every call."""
    reference, locator, denoiser = make_networks(shape)
    write_safetensors(folder / "reference.safetensors", reference.state_dict(), shape.as_dict(), "none")
    write_safetensors(folder / "locator.safetensors", locator.state_dict(), shape.as_dict(), "none")
    for suffix, net in (("", denoiser), ("-acc", randomize(Denoiser(shape), 1.0, 9))):
        state = net.state_dict()
        motion = {key: tensor for key, tensor in state.items() if ".motion_modules." in key}
        write_safetensors(folder / f"motion{suffix}.safetensors", motion, shape.as_dict(), "none")
        write_safetensors(
            folder / f"denoising{suffix}.safetensors",
            {k: v for k, v in state.items() if k not in motion},
            shape.as_dict(),
            "none",
        )
    vae = Vae(VAE)
    randomize(vae.net, 1.0, 5)
    write_safetensors(folder / "vae.safetensors", vae.state_dict(), {}, "none")
    torch.manual_seed(6)
    write_safetensors(
        folder / "ears.safetensors",
        randomize(WhisperAudioEncoder(**AUDIO_ENCODER), 1.0, 7).state_dict(),
        AUDIO_ENCODER,
        "none",
    )
    return folder

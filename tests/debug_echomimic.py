"""EchoMimic's files at debug size: the real classes, small and random, written as `models convert` writes them."""

import torch
from debug_weights import randomised

from lipsync.echomimic.ears import Ears
from lipsync.echomimic.networks import Denoiser, FaceLocator, ReferenceNet
from lipsync.echomimic.shape import DEBUG
from lipsync.echomimic.vae import Vae
from lipsync.echomimic.weights import write

EARS = {"heads": 2, "width": DEBUG.audio_width}
VAE = {"widths": (8, 8, 8, 8), "layers": 1}


def networks(shape=DEBUG, seed=1):
    """(ReferenceNet, FaceLocator, Denoiser) of a shape, every number drawn."""
    return [randomised(kind(shape), 1.0, seed + i).eval() for i, kind in enumerate((ReferenceNet, FaceLocator, Denoiser))]


def write_debug_echomimic(folder, shape=DEBUG):
    """Writes the files of both variants into a folder; the same numbers on every call."""
    reference, locator, denoiser = networks(shape)
    write(folder / "reference.safetensors", reference.state_dict(), shape.as_dict(), "none")
    write(folder / "locator.safetensors", locator.state_dict(), shape.as_dict(), "none")
    for suffix, net in (("", denoiser), ("-acc", randomised(Denoiser(shape), 1.0, 9))):
        state = net.state_dict()
        motion = {key: tensor for key, tensor in state.items() if ".motion_modules." in key}
        write(folder / f"motion{suffix}.safetensors", motion, shape.as_dict(), "none")
        write(folder / f"denoising{suffix}.safetensors", {k: v for k, v in state.items() if k not in motion}, shape.as_dict(), "none")
    vae = Vae(VAE)
    randomised(vae.net, 1.0, 5)
    write(folder / "vae.safetensors", vae.state_dict(), {}, "none")
    torch.manual_seed(6)
    write(folder / "ears.safetensors", randomised(Ears(**EARS), 1.0, 7).state_dict(), EARS, "none")
    return folder

"""Toy talkers, and speech without a picture, for tests of what trains the core."""

import numpy as np

from mouthpiece.engine.core import CODE_WIDTH


def make_clip(seed, ticks=90):
    """A toy talker: the mouth is as wide as the sound is loud."""
    rng = np.random.default_rng(seed)
    loud = np.interp(
        np.arange(ticks), np.arange(0, ticks + 8, 8), rng.uniform(-1, 1, ticks // 8 + 2)[: len(range(0, ticks + 8, 8))]
    )
    code = rng.normal(size=(ticks, CODE_WIDTH)) * 0.1 + loud[:, None] * np.linspace(1, 0.2, CODE_WIDTH)
    mel = np.repeat(loud, 4)[None] + rng.normal(size=(80, 4 * ticks)) * 0.1
    return dict(code=code.astype(np.float32), opening=loud.astype(np.float32) * 0.02, mel=mel.astype(np.float32))


CLIPS = {f"talk__{who}__{i}": make_clip(i) for i, who in enumerate(("grid_s1", "grid_s1", "ann", "bob"))}
SPEECH = {
    "a.ogg": dict(mel=make_clip(9, 120)["mel"].astype(np.float16)),
    "b.ogg": dict(mel=make_clip(10, 40)["mel"].astype(np.float16)),
}

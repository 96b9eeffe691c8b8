"""Soundtrack generation in windows: features once for all takes, latents that continue the window before, waves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import torch

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.engine.sampling import KnownValues, Window, draw_tick_noise, make_flow_levels, stream_windows
from mouthpiece.voice.mmaudio.flow_sampling import sample_latents
from mouthpiece.voice.mmaudio.frame_buffer import buffer_windows
from mouthpiece.voice.mmaudio.frames import normalize_for_sync
from mouthpiece.voice.mmaudio.latent_windows import plan_latent_windows
from mouthpiece.voice.mmaudio.options import parse_focus
from mouthpiece.voice.mmaudio.sizes import MIN_DURATION_S, SYNC_STEP, SYNC_WINDOW, TRAINED_DURATION_S
from mouthpiece.voice.mmaudio.speech_filter import attenuate_spans, detect_speech, sum_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from fractions import Fraction

    import numpy as np

    from mouthpiece.engine.types import Frame
    from mouthpiece.voice.mmaudio.frame_buffer import WindowFrames
    from mouthpiece.voice.mmaudio.latent_windows import LatentWindow
    from mouthpiece.voice.mmaudio.models import MMAudioModels
    from mouthpiece.voice.mmaudio.options import SoundOptions

MIN_SHOT_S = 2  # shorter shots share a window with a neighbour
TAKE_BATCH = 4  # takes sampled together; alone or among others a take differs by rounding only
SYNC_BATCH = 4  # windows of 16 frames encoded together
MAX_RESAMPLINGS = 2  # of a window with speech

Conditions: TypeAlias = dict[str, torch.Tensor]


@dataclass
class SpeechFilterReport:
    """What the speech filter did to one take.

    resampled_windows: count.  attenuated_s: [start, stop] pairs in seconds.
    """

    resampled_windows: int = 0
    attenuated_s: list[list[float]] = field(default_factory=list)

    def as_dict(self) -> dict[str, int | list[list[float]]]:
        """Convert to the JSON-ready facts of side-cars."""
        return {"again": self.resampled_windows, "quieter_s": self.attenuated_s}


class SoundtrackGenerator:
    """Generate the sound of a video, for all takes at once.

    duration: seconds of sound.  cuts: seconds at which a new shot begins.
    windows: where the windows lie, in latents.  filter_reports: one a take, filled on the way.
    Source: MMAudio, 2412.15322; windows, takes and speech filter are not in it.
    """

    def __init__(
        self, models: MMAudioModels, options: SoundOptions, duration: Fraction, cuts: tuple[Fraction, ...]
    ) -> None:
        self.models, self.options, self.rates = models, options, models.rates
        self.takes = [options.first_take + n for n in range(options.takes)]
        self.filter_reports = [SpeechFilterReport() for _ in self.takes]
        hz = self.rates.latent_hz
        shot = max(self.rates.lengths(MIN_DURATION_S)[0], round(MIN_SHOT_S * hz))
        lengths = (self.rates.lengths(TRAINED_DURATION_S)[0], max(1, round(float(options.overlap * hz))))
        total = self.rates.lengths(duration)[0]
        cuts_at = [round(cut * hz) for cut in cuts if cut < duration]
        self.windows = plan_latent_windows(total, cuts_at, *lengths, shot)
        self.samples = round(duration * self.rates.rate_hz)
        self._text = self._encode_prompts()
        self._null_conditions: dict[tuple[int, int, int], Conditions] = {}
        self._last: tuple[LatentWindow, torch.Tensor] | None = None

    def _encode_prompts(self) -> list[torch.Tensor]:
        """Encode [prompt, negative prompt], (1, tokens, text_dim) each; an empty one is the stored empty string."""
        prompts = [self.options.prompt.strip(), self.options.negative_prompt.strip()]
        stored = self.models.network.empty_string_feat[None]
        encoded = iter(self.models.clip.encode_texts([text for text in prompts if text])) if any(prompts) else iter(())
        return [next(encoded)[None].to(stored) if text else stored for text in prompts]

    def blocks(self, frames: Iterable[Frame], advance: Callable[..., object] = lambda n: None) -> Iterator[np.ndarray]:
        """Generate the sound in order: (takes, S) float32 arrays at the model's rate, `samples` in all, in constant
        memory.

        frames: in order.  advance: called with 1 a window.
        Raises MissingDependencyError when the device has too little memory.
        """
        sizes_px = (self.models.clip.size.image_px, self.models.sync.size.img_size)
        window_frames = buffer_windows(frames, self.windows, self.rates, parse_focus(self.options.focus), sizes_px)
        pairs = zip(self.windows, window_frames, strict=True)
        step = self.rates.latent_samples

        def generate(window: Window, given: object) -> torch.Tensor:
            wave = self._generate_window(*next(pairs))
            advance(1)
            return wave

        sample_windows = [Window(window.start * step, window.stop * step) for window in self.windows]
        left = self.samples
        for block in stream_windows(sample_windows, generate):
            block, left = block[:, : min(left, block.shape[1])], left - min(left, block.shape[1])
            yield block.numpy()

    def _generate_window(self, window: LatentWindow, frames: WindowFrames) -> torch.Tensor:
        """Generate one window, (takes, S) float32 on the CPU; its latents are kept for the next one."""
        try:
            with torch.inference_mode():
                conditions, latents, waves = self._compute_conditions(window, frames), [], []
                for start in range(0, len(self.takes), TAKE_BATCH):
                    rows = range(start, min(start + TAKE_BATCH, len(self.takes)))
                    batch_latents, batch_waves = self._generate_takes(window, conditions, list(rows))
                    latents.append(batch_latents)
                    waves.append(batch_waves)
                self._last = (window, torch.cat(latents))
                return torch.cat(waves)
        except torch.OutOfMemoryError as error:
            raise MissingDependencyError(
                f"{self.options.model}: {self.models.device} has too little memory.",
                hint="Ask for fewer --takes, take a smaller --model, or use --device cpu.",
                code="out_of_memory",
                retryable=True,
            ) from error

    def _compute_conditions(self, window: LatentWindow, frames: WindowFrames) -> tuple[Conditions, Conditions]:
        """Compute the (conditional, null) conditions of a window, for one item."""
        models, count = self.models, window.stop - window.start
        clip, sync = models.clip.encode_images(frames.clip)[None], self.encode_sync_features(frames.sync)
        conditions = models.network.compute_conditions(clip, sync, self._text[0], count)
        key = (count, clip.shape[1], sync.shape[1])
        if key not in self._null_conditions:  # the same for every window of this length
            no_clip, no_sync, _ = models.network.empty(1, *key[1:])
            self._null_conditions = {key: models.network.compute_conditions(no_clip, no_sync, self._text[1], count)}
        return conditions, self._null_conditions[key]

    def encode_sync_features(self, frames: torch.Tensor) -> torch.Tensor:
        """Encode uint8 frames (F, 3, H, W) as sync features (1, features, width), a few windows at a time."""
        windows, rows = frames.unfold(0, SYNC_WINDOW, SYNC_STEP).movedim(-1, 1), []
        for start in range(0, len(windows), SYNC_BATCH):
            pixels = normalize_for_sync(windows[start : start + SYNC_BATCH].to(self.models.device))
            rows.append(self.models.sync.window(pixels.to(self.models.compute_dtype)))
        return torch.cat(rows).flatten(0, 1)[None]

    def _generate_takes(
        self, window: LatentWindow, conditions: tuple[Conditions, Conditions], takes: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Generate a window of some takes: (latents (n, N, C), waves (n, S)), resampled where there is speech.

        takes: indices.
        """
        latents = self._sample_latents(window, conditions, takes, "")
        waves = self._decode_waves(latents)
        if self.options.speech_guard == "off":
            return latents, waves
        speech = [detect_speech(wave.numpy(), self.rates.rate_hz) for wave in waves]
        for attempt in range(1, MAX_RESAMPLINGS + 1 if self.options.speech_guard == "resample" else 1):
            bad = [row for row, spans in enumerate(speech) if spans]
            if not bad:
                break
            new = self._sample_latents(window, conditions, [takes[row] for row in bad], f" again {attempt}")
            for row, latent, wave in zip(bad, new, self._decode_waves(new)):
                self.filter_reports[takes[row]].resampled_windows += 1
                spans = detect_speech(wave.numpy(), self.rates.rate_hz)
                if sum_lengths(spans) < sum_lengths(speech[row]):
                    latents[row], waves[row], speech[row] = latent, wave, spans
        start_s = float(window.start / self.rates.latent_hz)
        for row, spans in enumerate(speech):
            if spans:
                waves[row] = torch.from_numpy(attenuate_spans(waves[row].numpy(), self.rates.rate_hz, spans))
                attenuated_s = [[round(start_s + a, 2), round(start_s + b, 2)] for a, b in spans]
                self.filter_reports[takes[row]].attenuated_s += attenuated_s
        return latents, waves

    def _sample_latents(
        self, window: LatentWindow, conditions: tuple[Conditions, Conditions], takes: list[int], attempt: str
    ) -> torch.Tensor:
        """Sample standardised latents (n, N, C); those shared with the window before are kept as they are."""
        items = [f"take {self.takes[n]}{attempt}" for n in takes]
        network, options = self.models.network, self.options
        noise = draw_tick_noise(window.start, window.stop, (network.size.latent_dim,), options.seed, items)
        noise = noise.to(self.models.device)
        return sample_latents(
            network,
            noise,
            *conditions,
            strength=options.guidance,
            levels=make_flow_levels(options.steps),
            given=self._keep_overlap(window, noise, takes),
        )

    def _keep_overlap(self, window: LatentWindow, noise: torch.Tensor, takes: list[int]) -> KnownValues | None:
        """Take over the latents that a window shares with the one before; None at the start of a shot."""
        if not window.kept or self._last is None:
            return None
        before, latents = self._last
        values = torch.zeros_like(noise)
        first = window.start - before.start
        values[:, : window.kept] = latents[takes, first : first + window.kept]
        mask = torch.zeros(1, noise.shape[1], 1, dtype=torch.bool, device=noise.device)
        mask[:, : window.kept] = True
        return KnownValues(values, mask)

    def _decode_waves(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents to waves (n, S) float32 on the CPU, one at a time: together they need more memory and time."""
        models = self.models
        restored = models.network.unstandardize(latents).transpose(1, 2)
        return torch.cat([models.vocoder(models.vae.decode(one[None]))[:, 0].cpu() for one in restored])

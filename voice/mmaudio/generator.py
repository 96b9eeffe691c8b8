"""Window by window from frames to sound: features once for all takes, latents that go on from the window before, waves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
    from collections.abc import Callable, Iterator
    from fractions import Fraction

    import numpy as np

    from mouthpiece.voice.mmaudio.frame_buffer import WindowFrames
    from mouthpiece.voice.mmaudio.latent_windows import LatentWindow
    from mouthpiece.voice.mmaudio.models import MMAudioModels
    from mouthpiece.voice.mmaudio.options import SoundOptions

MIN_SHOT_S = 2  # seconds; shorter shots are heard together with a neighbour
TAKE_BATCH = 4  # a take alone and one among others differ by rounding only
SYNC_BATCH = 4  # windows of 16 frames
MAX_RESAMPLINGS = 2


@dataclass
class SpeechFilterReport:
    """What the guard did to one take.

    again: windows drawn anew.  quieter_s: pairs of seconds turned down.
    """

    again: int = 0
    quieter_s: list = field(default_factory=list)


class SoundtrackGenerator:
    """Makes the sound of a video, for all takes at once.

    models: Models.  options: SoundOptions.
    `heard` tells afterwards what the guard did, one Heard a take; `spans` where the windows lie.
    Source: MMAudio, 2412.15322; windows, takes and guard are ours.
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
        self.spans = plan_latent_windows(total, [round(cut * hz) for cut in cuts if cut < duration], *lengths, shot)
        self.samples = round(duration * self.rates.rate_hz)
        self._text, self._empty, self._last = self._encode_prompts(), {}, None

    def _encode_prompts(self) -> list[torch.Tensor]:
        """(prompt, negative prompt) as text features (1, tokens, text_dim); without words the stored empty string."""
        words = [self.options.prompt.strip(), self.options.negative_prompt.strip()]
        stored = self.models.network.empty_string_feat[None]
        made = iter(self.models.clip.texts([word for word in words if word])) if any(words) else iter(())
        return [next(made)[None].to(stored) if word else stored for word in words]

    def blocks(self, frames, advance: Callable = lambda n: None) -> Iterator[np.ndarray]:
        """The sound in order: (takes, S) float32 arrays at the model's rate, `samples` in all, in constant memory.

        frames: types.Frame in order.  advance: called with 1 a window.
        Raises Missing when the device has too little memory.
        """
        sizes_px = (self.models.clip.size.image_px, self.models.sync.size.img_size)
        seen = buffer_windows(frames, self.spans, self.rates, parse_focus(self.options.focus), sizes_px)
        pairs = zip(self.spans, seen, strict=True)
        step = self.rates.latent_samples

        def make(window: Window, given) -> torch.Tensor:
            piece = self._generate_window(*next(pairs))
            advance(1)
            return piece

        windows, left = [Window(span.start * step, span.stop * step) for span in self.spans], self.samples
        for block in stream_windows(windows, make):
            block, left = block[:, : min(left, block.shape[1])], left - min(left, block.shape[1])
            yield block.numpy()

    def _generate_window(self, span: LatentWindow, seen: WindowFrames) -> torch.Tensor:
        """(takes, S) float32 tensor of one window on the CPU; keeps its latents for the next one."""
        try:
            with torch.inference_mode():
                trees, latents, waves = self._compute_conditions(span, seen), [], []
                for start in range(0, len(self.takes), TAKE_BATCH):
                    numbers = range(start, min(start + TAKE_BATCH, len(self.takes)))
                    made = self._generate_takes(span, trees, list(numbers))
                    latents.append(made[0])
                    waves.append(made[1])
                self._last = (span, torch.cat(latents))
                return torch.cat(waves)
        except torch.OutOfMemoryError as error:
            raise MissingDependencyError(
                f"{self.options.model}: {self.models.device} has too little memory.",
                hint="Ask for fewer --takes, take a smaller --model, or use --device cpu.",
                code="out_of_memory",
                retryable=True,
            ) from error

    def _compute_conditions(
        self, span: LatentWindow, seen: WindowFrames
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """(conditional, null) trees of a window, for one item."""
        models, count = self.models, span.stop - span.start
        clip, sync = models.clip.pictures(seen.clip)[None], self.encode_sync_features(seen.sync)
        made = models.network.compute_conditions(clip, sync, self._text[0], count)
        key = (count, clip.shape[1], sync.shape[1])
        if key not in self._empty:  # the same for every window of this length
            no_clip, no_sync, _ = models.network.empty(1, *key[1:])
            self._empty = {key: models.network.compute_conditions(no_clip, no_sync, self._text[1], count)}
        return made, self._empty[key]

    def encode_sync_features(self, frames: torch.Tensor) -> torch.Tensor:
        """(1, features, width) of uint8 frames (F, 3, H, W), a few windows at a time."""
        windows, rows = frames.unfold(0, SYNC_WINDOW, SYNC_STEP).movedim(-1, 1), []
        for start in range(0, len(windows), SYNC_BATCH):
            pixels = normalize_for_sync(windows[start : start + SYNC_BATCH].to(self.models.device)).to(
                self.models.compute_dtype
            )
            rows.append(self.models.sync.window(pixels))
        return torch.cat(rows).flatten(0, 1)[None]

    def _generate_takes(
        self, span: LatentWindow, trees: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]], numbers: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(latents (n, N, C), waves (n, S)) of some takes, drawn anew where somebody speaks."""
        latents = self._sample_latents(span, trees, numbers, "")
        waves = self._decode_waves(latents)
        if self.options.speech_guard == "off":
            return latents, waves
        speech = [detect_speech(wave.numpy(), self.rates.rate_hz) for wave in waves]
        for attempt in range(1, MAX_RESAMPLINGS + 1 if self.options.speech_guard == "resample" else 1):
            bad = [row for row, found in enumerate(speech) if found]
            if not bad:
                break
            new = self._sample_latents(span, trees, [numbers[row] for row in bad], f" again {attempt}")
            for row, latent, wave in zip(bad, new, self._decode_waves(new)):
                self.filter_reports[numbers[row]].again += 1
                found = detect_speech(wave.numpy(), self.rates.rate_hz)
                if sum_lengths(found) < sum_lengths(speech[row]):
                    latents[row], waves[row], speech[row] = latent, wave, found
        for row, found in enumerate(speech):
            if found:
                waves[row] = torch.from_numpy(attenuate_spans(waves[row].numpy(), self.rates.rate_hz, found))
                start_s = float(span.start / self.rates.latent_hz)
                self.filter_reports[numbers[row]].quieter_s += [
                    [round(start_s + a, 2), round(start_s + b, 2)] for a, b in found
                ]
        return latents, waves

    def _sample_latents(
        self,
        span: LatentWindow,
        trees: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]],
        numbers: list[int],
        attempt: str,
    ) -> torch.Tensor:
        """Standardised latents (n, N, C); those shared with the window before are kept as they are."""
        items = [f"take {self.takes[n]}{attempt}" for n in numbers]
        network = self.models.network
        noise = draw_tick_noise(span.start, span.stop, (network.size.latent_dim,), self.options.seed, items).to(
            self.models.device
        )
        return sample_latents(
            network, noise, *trees, strength=self.options.guidance, levels=make_flow_levels(self.options.steps),
            given=self._given(span, noise, numbers),
        )  # fmt: skip

    def _given(self, span: LatentWindow, noise: torch.Tensor, numbers: list[int]) -> KnownValues | None:
        if not span.kept:
            return None
        before, latents = self._last
        values = torch.zeros_like(noise)
        first = span.start - before.start
        values[:, : span.kept] = latents[numbers, first : first + span.kept]
        mask = torch.zeros(1, noise.shape[1], 1, dtype=torch.bool, device=noise.device)
        mask[:, : span.kept] = True
        return KnownValues(values, mask)

    def _decode_waves(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, S) float32 on the CPU, one take at a time: together they take more memory and, on a CPU, more time."""
        models = self.models
        restored = models.network.unstandardize(latents).transpose(1, 2)
        return torch.cat([models.vocoder(models.vae.decode(one[None]))[:, 0].cpu() for one in restored])

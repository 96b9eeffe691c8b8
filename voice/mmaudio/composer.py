"""Window by window from frames to sound: features once for all takes, latents that go on from the window before, waves."""

from dataclasses import dataclass, field

import torch

from engine.errors import Missing
from engine.sampling import Given, Window, flow_levels, stream_windows, tick_noise
from voice.mmaudio.feed import watch
from voice.mmaudio.frames import sync_input
from voice.mmaudio.generation import generate
from voice.mmaudio.guard import length_of, spoken, turned_down
from voice.mmaudio.options import focus_of
from voice.mmaudio.sizes import SHORTEST, SYNC_STEP, SYNC_WINDOW, TRAINED
from voice.mmaudio.spans import spans_of

SHORTEST_SHOT_S = 2  # seconds; shorter shots are heard together with a neighbour
TAKES_AT_ONCE = 4  # a take alone and one among others differ by rounding only
SYNC_AT_ONCE = 4  # windows of 16 frames
RETRIES = 2


@dataclass
class Heard:
    """What the guard did to one take.

    again: windows drawn anew.  quieter_s: pairs of seconds turned down.
    Source: ours.
    """

    again: int = 0
    quieter_s: list = field(default_factory=list)


class Composer:
    """Makes the sound of a video, for all takes at once.

    models: Models.  options: SoundOptions.
    `heard` tells afterwards what the guard did, one Heard a take; `spans` where the windows lie.
    Source: MMAudio, 2412.15322; windows, takes and guard are ours.
    """

    def __init__(self, models, options, duration, cuts):
        self.models, self.options, self.rates = models, options, models.rates
        self.takes = [options.first_take + n for n in range(options.takes)]
        self.heard = [Heard() for _ in self.takes]
        hz = self.rates.latent_hz
        shot = max(self.rates.lengths(SHORTEST)[0], round(SHORTEST_SHOT_S * hz))
        lengths = (self.rates.lengths(TRAINED)[0], max(1, round(float(options.overlap * hz))))
        total = self.rates.lengths(duration)[0]
        self.spans = spans_of(total, [round(cut * hz) for cut in cuts if cut < duration], *lengths, shot)
        self.samples = round(duration * self.rates.rate_hz)
        self._text, self._empty, self._last = self._texts(), {}, None

    def _texts(self):
        """(prompt, negative prompt) as text features (1, tokens, text_dim); without words the stored empty string."""
        words = [self.options.prompt.strip(), self.options.negative_prompt.strip()]
        stored = self.models.network.empty_string_feat[None]
        made = iter(self.models.clip.texts([word for word in words if word])) if any(words) else iter(())
        return [next(made)[None].to(stored) if word else stored for word in words]

    def blocks(self, frames, advance=lambda n: None):
        """The sound in order: (takes, S) float32 arrays at the model's rate, `samples` in all, in constant memory.

        frames: types.Frame in order.  advance: called with 1 a window.
        Raises Missing when the device has too little memory.
        Source: ours.
        """
        sizes_px = (self.models.clip.size.image_px, self.models.sync.size.img_size)
        seen = watch(frames, self.spans, self.rates, focus_of(self.options.focus), sizes_px)
        pairs = zip(self.spans, seen, strict=True)
        step = self.rates.latent_samples

        def make(window, given):
            piece = self._piece(*next(pairs))
            advance(1)
            return piece

        windows, left = [Window(span.start * step, span.stop * step) for span in self.spans], self.samples
        for block in stream_windows(windows, make):
            block, left = block[:, : min(left, block.shape[1])], left - min(left, block.shape[1])
            yield block.numpy()

    def _piece(self, span, seen):
        """(takes, S) float32 tensor of one window on the CPU; keeps its latents for the next one."""
        try:
            with torch.inference_mode():
                trees, latents, waves = self._conditions(span, seen), [], []
                for start in range(0, len(self.takes), TAKES_AT_ONCE):
                    numbers = range(start, min(start + TAKES_AT_ONCE, len(self.takes)))
                    made = self._takes(span, trees, list(numbers))
                    latents.append(made[0])
                    waves.append(made[1])
                self._last = (span, torch.cat(latents))
                return torch.cat(waves)
        except torch.OutOfMemoryError as error:
            raise Missing(
                f"{self.options.model}: {self.models.device} has too little memory.",
                hint="Ask for fewer --takes, take a smaller --model, or use --device cpu.",
                code="out_of_memory",
                retryable=True,
            ) from error

    def _conditions(self, span, seen):
        """(conditional, null) trees of a window, for one item."""
        models, count = self.models, span.stop - span.start
        clip, sync = models.clip.pictures(seen.clip)[None], self.sync_features(seen.sync)
        made = models.network.conditions(clip, sync, self._text[0], count)
        key = (count, clip.shape[1], sync.shape[1])
        if key not in self._empty:  # the same for every window of this length
            no_clip, no_sync, _ = models.network.empty(1, *key[1:])
            self._empty = {key: models.network.conditions(no_clip, no_sync, self._text[1], count)}
        return made, self._empty[key]

    def sync_features(self, frames):
        """(1, features, width) of uint8 frames (F, 3, H, W), a few windows at a time."""
        windows, rows = frames.unfold(0, SYNC_WINDOW, SYNC_STEP).movedim(-1, 1), []
        for start in range(0, len(windows), SYNC_AT_ONCE):
            pixels = sync_input(windows[start : start + SYNC_AT_ONCE].to(self.models.device)).to(self.models.heavy)
            rows.append(self.models.sync.window(pixels))
        return torch.cat(rows).flatten(0, 1)[None]

    def _takes(self, span, trees, numbers):
        """(latents (n, N, C), waves (n, S)) of some takes, drawn anew where somebody speaks."""
        latents = self._latents(span, trees, numbers, "")
        waves = self._waves(latents)
        if self.options.speech_guard == "off":
            return latents, waves
        speech = [spoken(wave.numpy(), self.rates.rate_hz) for wave in waves]
        for attempt in range(1, RETRIES + 1 if self.options.speech_guard == "resample" else 1):
            bad = [row for row, found in enumerate(speech) if found]
            if not bad:
                break
            new = self._latents(span, trees, [numbers[row] for row in bad], f" again {attempt}")
            for row, latent, wave in zip(bad, new, self._waves(new)):
                self.heard[numbers[row]].again += 1
                found = spoken(wave.numpy(), self.rates.rate_hz)
                if length_of(found) < length_of(speech[row]):
                    latents[row], waves[row], speech[row] = latent, wave, found
        for row, found in enumerate(speech):
            if found:
                waves[row] = torch.from_numpy(turned_down(waves[row].numpy(), self.rates.rate_hz, found))
                start_s = float(span.start / self.rates.latent_hz)
                self.heard[numbers[row]].quieter_s += [[round(start_s + a, 2), round(start_s + b, 2)] for a, b in found]
        return latents, waves

    def _latents(self, span, trees, numbers, attempt):
        """Standardised latents (n, N, C); those shared with the window before are kept as they are."""
        items = [f"take {self.takes[n]}{attempt}" for n in numbers]
        network = self.models.network
        noise = tick_noise(span.start, span.stop, (network.size.latent_dim,), self.options.seed, items).to(self.models.device)
        return generate(
            network, noise, *trees, strength=self.options.guidance, levels=flow_levels(self.options.steps),
            given=self._given(span, noise, numbers),
        )  # fmt: skip

    def _given(self, span, noise, numbers):
        if not span.kept:
            return None
        before, latents = self._last
        values = torch.zeros_like(noise)
        first = span.start - before.start
        values[:, : span.kept] = latents[numbers, first : first + span.kept]
        mask = torch.zeros(1, noise.shape[1], 1, dtype=torch.bool, device=noise.device)
        mask[:, : span.kept] = True
        return Given(values, mask)

    def _waves(self, latents):
        """(n, S) float32 on the CPU, one take at a time: together they take more memory and, on a CPU, more time."""
        models = self.models
        restored = models.network.restored(latents).transpose(1, 2)
        return torch.cat([models.vocoder(models.vae.decode(one[None]))[:, 0].cpu() for one in restored])

"""Move the lips of a film to new sound: only in the spans that change, only at the mouth; all else stays as it is."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from mouthpiece.engine.encoders.motion import POSE_WIDTH
from mouthpiece.engine.errors import MouthpieceError
from mouthpiece.engine.media.mux import copy_with_sound
from mouthpiece.engine.media.reading import VideoReader, to_upright_rgb
from mouthpiece.engine.media.rewrite import SEGMENT_FRAMES, VideoRewriter
from mouthpiece.face.film_tracks import track_faces
from mouthpiece.lipsync.film.edit_plan import plan_edits, summarize_edits
from mouthpiece.lipsync.film.lipsync_job import check_length
from mouthpiece.lipsync.film.mouth_compositor import MouthCompositor, compute_jaw_flow, get_mouth_box
from mouthpiece.lipsync.portrait.mouth_patch import WORK_PX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction
    from pathlib import Path
    from typing import Any, TypeAlias

    from mouthpiece.engine.contracts import FaceTracks
    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.encoders.motion import MotionSpace
    from mouthpiece.engine.media.patches import FramePatch
    from mouthpiece.engine.progress import Progress
    from mouthpiece.lipsync.film.cache import DubCache
    from mouthpiece.lipsync.film.edit_plan import FaceEditPlan
    from mouthpiece.lipsync.film.lipsync_job import LipsyncJob
    from mouthpiece.lipsync.models import LipsyncModels
    from mouthpiece.lipsync.options import LipsyncOptions
    from mouthpiece.lipsync.portrait.frame_parts import FrameParts

    NativeFrame: TypeAlias = Any  # the decoder's own frame, whose class engine.media alone knows

CHUNK_FRAMES = 8  # frames whose mouths are rendered together
CACHED_REFERENCES = 16  # prepared reference mouths that are kept: about as many as one frame may be made of
FULL_CHANGE_FACTOR = 2.0  # a frame's patch is shown in full from a weight of 1 over this


class _MouthRender:
    """Build the patch of one mouth in one frame: its reference mouths are blended one by one, then the jaw is warped.

    pixels: (H, W, 3) uint8 frame.  key: of the patch in the cache; "" where there is none.
    """

    def __init__(self, pixels: np.ndarray, plan: FaceEditPlan, index: int, space: MotionSpace, key: str) -> None:
        self.plan, self.index, self.key = plan, index, key
        self.sources = plan.select_sources(index, space)
        self.code = plan.interpolate_code(index)
        self._compositor = MouthCompositor(pixels, plan.crop_face(index, WORK_PX))
        self._lips: Any = 0.0  # (h, w, 3) float32 once a mouth has been blended
        self._cover: Any = 0.0  # (h, w, 1) float32 likewise

    def blend(self, number: int, parts: FrameParts, grain: np.random.Generator | None) -> None:
        """Blend the reference mouth of a number, in the order of `sources.mouths`, as rendered."""
        reference = self.sources.mouths[number]
        picture, cover = self._compositor.blend((reference.decode_picture(), reference.crop), parts, grain)
        if number < len(self.sources.lips):
            share = self.sources.lips[number][1]
            self._lips, self._cover = self._lips + share * picture, self._cover + share * cover
        else:
            self._lips = self._lips + self.sources.inside_share * self._cover * (picture - self._lips)

    def make_patch(self, space: MotionSpace) -> FramePatch:
        """Warp the jaw and lay the lips over it."""
        codes = torch.from_numpy(np.stack([self.plan.source_codes[self.index], self.code]))
        current, wanted = space.to_lattice(F.pad(codes, (0, POSE_WIDTH))).numpy()
        moved, still = self._compositor.warp_jaw(compute_jaw_flow(current, wanted))
        share = min(1.0, FULL_CHANGE_FACTOR * float(self.plan.weight[self.index]))
        return self._compositor.make_patch(moved, still, self._lips, share)


class PatchRenderer:
    """Render the patches that change a film's frames, in constant memory; sizes of chunks and batches change nothing.

    plans: one for each face.  cache: patches of earlier runs, or None.
    """

    def __init__(
        self, plans: list[FaceEditPlan], models: LipsyncModels, options: LipsyncOptions, cache: DubCache | None = None
    ) -> None:
        self.plans, self.models, self.options, self.cache = plans, models, options, cache
        self._prepare = lru_cache(CACHED_REFERENCES)(
            lambda mouth: models.renderer.prepare_reference(mouth.decode_crop())
        )

    def render(
        self, frames: Iterator[tuple[int, Fraction, NativeFrame]]
    ) -> Iterator[tuple[NativeFrame, Fraction, list[FramePatch]]]:
        """Render the patches of every frame; yields (native frame, time, patches) in order.

        frames: as `VideoReader.read_native_frames` yields them.
        """
        while chunk := list(islice(frames, CHUNK_FRAMES)):
            started = [self._start_frame(index, native) for index, _, native in chunk]
            self._render_mouths([mouth for _, mouths in started for mouth in mouths])
            for (_, time, native), (patches, mouths) in zip(chunk, started):
                for mouth in mouths:
                    patches.append(mouth.make_patch(self.models.space))
                    if self.cache is not None:
                        self.cache.save_patch(mouth.key, patches[-1])
                yield native, time, patches

    def _start_frame(self, index: int, native: NativeFrame) -> tuple[list[FramePatch], list[_MouthRender]]:
        """Return the patches of a frame that are cached, and the mouths that have to be rendered."""
        patches, mouths, pixels = [], [], None
        for plan in (plan for plan in self.plans if plan.weight[index] > 0):
            key = "" if self.cache is None else make_patch_key(self.cache, plan, index, self.models.space, self.options)
            known = None if self.cache is None else self.cache.load_patch(key)
            if known is not None:
                patches.append(known)
                continue
            pixels = to_upright_rgb(native) if pixels is None else pixels
            x0, y0, x1, y1 = get_mouth_box(plan.crop_face(index, WORK_PX), pixels.shape)
            if x1 > x0 and y1 > y0:
                mouths.append(_MouthRender(pixels, plan, index, self.models.space, key))
        return patches, mouths

    def _render_mouths(self, mouths: list[_MouthRender]) -> None:
        """Render all reference mouths of some mouths in batches, and blend each into its own."""
        tasks = [(mouth, number) for mouth in mouths for number in range(len(mouth.sources.mouths))]
        for start in range(0, len(tasks), self.options.batch):
            batch = tasks[start : start + self.options.batch]
            sources = [mouth.sources.mouths[number] for mouth, number in batch]
            codes = np.stack([np.stack([source.code, mouth.code]) for source, (mouth, _) in zip(sources, batch)])
            lattices = self.models.space.to_lattice(F.pad(torch.from_numpy(codes), (0, POSE_WIDTH)))
            rendered = self.models.renderer.render(
                [self._prepare(source) for source in sources], lattices[:, 0], lattices[:, 1], paint_teeth=True
            )
            for (mouth, number), parts in zip(batch, rendered):
                grain = np.random.default_rng([self.options.seed, mouth.index]) if self.options.grain else None
                mouth.blend(number, parts, grain)


def make_patch_key(cache: DubCache, plan: FaceEditPlan, index: int, space: MotionSpace, options: LipsyncOptions) -> str:
    """Make the cache key of one face's patch in a frame."""
    return cache.make_patch_key(plan, index, plan.interpolate_code(index), plan.select_sources(index, space), options)


def make_segment_keys(
    job: LipsyncJob, tracks: FaceTracks, plans: list[FaceEditPlan], models: LipsyncModels, cache: DubCache
) -> list[str]:
    """Make the cache keys of the film's encoded segments, each of all patches in its frames and of the quality."""

    def list_parts(index: int) -> Iterator[int | str]:
        yield index
        for plan in (plan for plan in plans if plan.weight[index] > 0):
            yield make_patch_key(cache, plan, index, models.space, job.options)

    frames = range(len(tracks.times))
    return [
        cache.make_key(
            "segment",
            start,
            job.options.quality,
            *(part for index in frames[start : start + SEGMENT_FRAMES] for part in list_parts(index)),
        )
        for start in frames[::SEGMENT_FRAMES]
    ]


def resync(
    job: LipsyncJob,
    output: Path,
    models: LipsyncModels,
    placement: Placement,
    progress: Progress,
    *,
    tracks: FaceTracks | None = None,
    cache: DubCache | None = None,
    overwrite: bool = False,
    language: str | None = None,
) -> dict[str, Any]:
    """Write a film with its new sound and the lips moved to it, and return the facts for the side-car.

    The picture is copied packet by packet where no frame changes.
    job: from `prepare_lipsync`.
    output: path ending in one of VIDEO_SUFFIXES.
    models, placement: from `load_models` and `choose_device`.
    tracks: of the edits' faces in the same film; None: they are tracked.
    cache: results of earlier runs on the same film; None: nothing is reused.
    overwrite: replace an existing file.
    language: of the sound; stands in the file where the film says one of its own.
    Raises InvalidInputError for a face that is in no frame and for what the options refuse, UsageError for the name,
    OutputError for the disk.
    """
    with progress.stage("following the face", job.info.frames) as advance:
        if tracks is None and any(edit.spans_s is None or edit.spans_s for edit in job.edits):
            tracks = track_faces(job.video, [edit.face for edit in job.edits], advance)
    plans = [] if tracks is None else plan_edits(job, tracks, models, progress, cache)
    if tracks is None or not any(plan.weight.any() for plan in plans):
        duration = job.info.duration if tracks is None else tracks.end
        packets = copy_with_sound(job.video, output, job.sound, overwrite, (job.sound,), duration, language=language)
        return summarize_edits(job, tracks, plans) | {"copied": True, "frames": packets}
    check_length(job.sound, tracks.end, job.info.rate, job.options)
    inputs, quality = (job.video, job.sound), job.options.quality
    with (
        VideoReader(job.video) as reader,
        VideoRewriter(
            output, job.info, job.sound, tracks.end, crf=quality, overwrite=overwrite, inputs=inputs, language=language
        ) as writer,
        progress.stage("moving the lips", len(tracks.times)) as advance,
    ):
        frames = reader.read_native_frames()
        if cache is not None:
            keys = make_segment_keys(job, tracks, plans, models, cache)
            frames = cache.reuse_segments(frames, writer, tracks.times, advance, keys)
        for native, time, patches in PatchRenderer(plans, models, job.options, cache).render(frames):
            writer.write(native, time, patches)
            advance(1)
        if writer.frames != len(tracks.times):
            raise MouthpieceError(
                f"{job.video}: {len(tracks.times)} frames at the first look, {writer.frames} at the last."
            )
    facts = {"copied": False, "frames": len(tracks.times), "placement": placement.as_dict()}
    return summarize_edits(job, tracks, plans) | facts

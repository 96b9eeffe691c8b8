"""Mix a dub: its takes as a dialogue stem, the bed of the film beside it, both at the loudness that was asked for."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.audio.loudness_targets import parse_loudness_target
from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.files import atomic_write
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.engine.weights.records import add_model_hashes, record_models
from mouthpiece.voice.delivery import place_sound
from mouthpiece.voice.dub_project import get_current_takes
from mouthpiece.voice.mix.bed import make_bed
from mouthpiece.voice.mix.mixdown import STEM_NAMES, Programme, write_stems
from mouthpiece.voice.scripts.project import hash_facts
from mouthpiece.voice.speech_job import MIN_SLOT_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.engine.progress import Progress
    from mouthpiece.voice.dub_project import DubJob


class DubMix(NamedTuple):
    """Hold the written stems of a dub. stems: paths by name: dialogue, bed, mix.  bed, loudness: facts, JSON-ready."""

    stems: dict[str, Path]
    bed: dict[str, Any]
    loudness: dict[str, Any]


def write_mix(dub: DubJob, progress: Progress, watermark: bool) -> DubMix:
    """Write the stems of a dub into its folder.

    The models of takes and bed that are kept from earlier runs are recorded again.
    watermark: embed one in the dialogue, where its package is installed.
    Raises what make_bed and write_stems raise.
    """
    lines = []
    for _, take in get_current_takes(dub):
        add_model_hashes(take.models)
        sound = read_sound(dub.folder / take.file)
        lines.append(place_sound(sound, Fraction(repr(take.start_s)), watermark, channels=1))
    with progress.stage("bed", None, "sample") as advance:
        source, bed_facts = _prepare_bed(dub, advance)
    paths = {name: dub.folder / f"{name}.wav" for name in STEM_NAMES}
    if source is not None and source in paths.values():
        message = f"--bed {source}: that is a stem which this run writes."
        raise UsageError(message, hint="Copy it elsewhere first.", code="bad_bed")
    target = parse_loudness_target(dub.options.loudness)
    programme = Programme(tuple(lines), source, dub.speech.samples)
    return DubMix(paths, bed_facts, write_stems(programme, paths, target, overwrite=True))


def _prepare_bed(dub: DubJob, advance: Callable[[int], object]) -> tuple[Path | None, dict[str, Any]]:
    """Make the bed, or read the one of an earlier run with the same film, choice and spans: its sound and its facts."""
    choice = str(dub.options.bed)
    times = [line.times for line in dub.speech.script.lines if line.times is not None]
    spans = [(float(start), float(end)) for start, end in times if end - start >= MIN_SLOT_S]
    settings = {"film": dub.film.sha256, "bed": choice, "spans": spans if dub.options.bed == "keep" else []}
    folder = dub.folder / "bed"
    record = folder / f"{hash_facts(settings)}.json"
    if record.exists():
        known = json.loads(record.read_text(encoding="utf-8"))
        source = None
        if known["source"] is not None:
            source = Path(known["source"]) if known["own"] else folder / known["source"]
        if source is None or source.is_file():
            add_model_hashes(known.get("models", {}))
            return source, known["facts"]
    folder.mkdir(parents=True, exist_ok=True)
    with record_models() as models:
        bed = make_bed(dub.options.bed, dub.film.path, spans, folder, advance)
    users_own = bed.source is not None and bed.source.parent != folder
    name = None
    if bed.source is not None:
        name = str(bed.source) if users_own else bed.source.name
    with atomic_write(record, overwrite=True) as part:
        facts = {"source": name, "own": users_own, "facts": bed.facts, "models": models.get_hashes()}
        part.write_text(json.dumps(facts, default=str), encoding="utf-8")
    return bed.source, bed.facts

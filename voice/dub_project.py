"""dub: lines spoken, mixed over the bed, lips moved, all of it kept by line so that one changed line is one line's
work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.mastering import parse_loudness_target
from mouthpiece.engine.audio.sound import Sound, write_sound
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import atomic_write, compute_sha256
from mouthpiece.engine.media.reading import read_sound
from mouthpiece.engine.media.writing import read_delivery_blocks
from mouthpiece.engine.timeline import ARTICULATION_HZ, DELIVERY_HZ, round_half_up
from mouthpiece.engine.weights.records import add_model_hashes, get_model_hashes, record_models
from mouthpiece.voice.mix.bed import make_bed
from mouthpiece.voice.mix.mixdown import STEM_NAMES, PlacedSound, Programme, write_stems
from mouthpiece.voice.options import parse_face_map
from mouthpiece.voice.plan.articulation import articulate_plan
from mouthpiece.voice.plan.speech_plan import read_plan
from mouthpiece.voice.scripts.formats import read_script
from mouthpiece.voice.scripts.merging import merge_script
from mouthpiece.voice.scripts.project import (
    Project,
    add_take,
    create_project,
    find_changed_lines,
    hash_facts,
    parse_lines,
)
from mouthpiece.voice.scripts.project_file import parse_project, read_project, save_project
from mouthpiece.voice.speech_lines import MIN_SLOT_S, SpeechJob, add_watermark, make_speech_job, probe_film, speak_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mouthpiece.engine.progress import Progress
    from mouthpiece.voice.options import DubOptions
    from mouthpiece.voice.scripts.project import ProjectEntry
    from mouthpiece.voice.scripts.script import Script
    from mouthpiece.voice.scripts.script_format import ScriptFile
    from mouthpiece.voice.speech_lines import SpokenLine

# in the folder of a dub; the last is of what the lips keep
PROJECT_FILE, REPORT_FILE, PICTURE_FOLDER = "project.json", "report.html", "picture"
# options that a take depends on, beside its voice
TAKE_OPTIONS = {
    "speed": "speed",
    "seed": "seed",
    "prosody": "prosody",
    "register": "register",
    "register_shift": "register_shift",
    "mouth": "lip_timing",  # the key of 0.1.0, so that its projects need no new takes
    "face": "face",
}
SILENT_ENERGY = -1.5
MAX_PROJECT_SAVES = 100  # of the project while lines are spoken: one reads and checks all of it


@dataclass(frozen=True, eq=False)
class DubJob:
    """A dub ready to be made. job: Job.  project: Project.  folder: Path of what is kept between runs.  options:
    DubOptions.  todo: {line id: reasons}.
    """

    job: SpeechJob
    project: Project
    folder: Path
    options: object
    pending: dict

    @property
    def settings_hash(self) -> str:
        """Hash of the options that takes depend on."""
        return hash_take_settings(self.options)

    def plan(self) -> dict[str, Any]:
        """What will be done, JSON-ready."""
        return self.job.plan() | dict(
            project=str(self.folder / PROJECT_FILE),
            todo=self.pending,
            bed=str(self.options.bed),
            loudness=self.options.loudness,
        )


def get_project_folder(output: Path) -> Path:
    """Where the project, its takes and stems of an output lie: OUT.dub beside OUT.mp4."""
    return output.with_suffix(".dub")


def hash_take_settings(options: DubOptions) -> str:
    """Hash of the options that takes depend on."""
    told = {key: getattr(options, name) for key, name in TAKE_OPTIONS.items()}
    return hash_facts(told | dict(dictionary=compute_sha256(options.dictionary) if options.dictionary else ""))


def prepare_dub(
    video: Path, script_path: Path, output: Path, options: DubOptions, script_file: ScriptFile | None = None
) -> DubJob | None:
    """The Dub of a film and a script; the project beside the output is continued when it is there.

    video: film.  script_path, said: script or project, as for read_script.  output: Path.  options: DubOptions.
    Raises what reading them raises; UsageProblem for lines that are not there or a project of another film.
    """
    folder, (info, duration) = get_project_folder(output), probe_film(video)
    if not info.has_video:
        raise InvalidInputError(
            f"{video}: no moving picture in it.",
            hint="Give a film; 'mouthpiece speak' makes a dialogue stem without one.",
            code="no_video",
        )
    film = dict(
        name=Path(video).name,
        sha256=compute_sha256(video),
        duration_s=float(duration),
        rate=str(info.rate) if info.rate else "",
    )
    there = folder / PROJECT_FILE
    if there.exists() and Path(script_path).resolve() == there.resolve():
        project = read_project(there) if script_file is None else parse_project(script_file.text, there.name)
    else:
        script = read_script(script_path, options=options.get_script_reading(duration), file=script_file)
        if any(line.start is None for line in script.lines):
            script = make_speech_job(video, script, options).script
        project = merge_script(read_project(there), script)[0] if there.exists() else create_project(script, film)
    if project.film.get("sha256") not in (None, "", film["sha256"]):
        hint = "Give the output another name, or remove that folder."
        raise UsageError(
            f"{there}: it belongs to another film ({project.film.get('name')}).", hint=hint, code="other_film"
        )
    project = replace(project, film=project.film | film)
    own = {name: facts.get("voice", "") for name, facts in project.speakers.items()}
    job = make_speech_job(video, project.script, options, own)
    faces = parse_speaker_faces(options, project.script) | {
        name: facts["face"] for name, facts in project.speakers.items() if facts.get("face")
    }
    job = replace(job, line_voices={e.id: e.voice for e in project.entries if e.voice}, speaker_faces=faces)
    speakers = {name: project.speakers.get(name, {}) | dict(voice=spec) for name, spec in job.casting.items()}
    project = replace(project, speakers=speakers)
    wanted = find_changed_lines(project, hash_take_settings(options))
    wanted |= {
        e.id: ["its sound is missing"]
        for e in project.entries
        if e.take and not e.locked and not (folder / e.takes[e.take - 1]["file"]).is_file()
    }
    if options.lines is not None:
        asked = parse_lines(options.lines, project)
        wanted = {k: wanted.get(k, ["asked for"]) for k in asked}
    return DubJob(job, project, folder, options, wanted)


def parse_speaker_faces(options: DubOptions, script: Script) -> dict | None:
    """{speaker: face} of --faces. Raises UsageProblem for a speaker whom the script does not have."""
    faces, speakers = parse_face_map(options.faces), script.speakers
    strange = [name for name in faces if name not in speakers]
    if strange:
        known = ", ".join(filter(None, speakers)) or "none is named"
        raise UsageError(
            f"--faces: the script has no speaker '{strange[0]}'.", hint=f"Its speakers: {known}.", code="no_speaker"
        )
    return faces


def speak_pending_lines(dub: DubJob, progress: Progress) -> DubJob | None:
    """The Dub with every line of its todo spoken and kept; saved after each hundredth of the work and where it stops,
    so that a cut-off run goes on.
    """
    (dub.folder / "lines").mkdir(parents=True, exist_ok=True)
    path = dub.folder / PROJECT_FILE
    project = saved = save_project(dub.project, path)
    again = {k: len(project.get_entry(k).takes) for k, why in dub.pending.items() if why == ["asked for"]}
    unsaved, most = 0, max(1, len(dub.pending) // MAX_PROJECT_SAVES)
    try:
        for answered in speak_lines(dub.job, progress, set(dub.pending), again) if dub.pending else ():
            project, unsaved = add_takes(dub, project, answered), unsaved + bool(answered.takes)
            if unsaved >= most:
                project = saved = save_project(project, path)
                unsaved = 0
    finally:
        if project is not saved:
            project = save_project(project, path)
    return replace(dub, project=project)


def add_takes(dub: DubJob, project: Project, spoken_line: SpokenLine) -> Project:
    """The project with the takes of an Answer, whose sounds and plans are written; with the reason where there are
    none.
    """
    # the first take comes last and is in use
    for index, spoken in list(enumerate(spoken_line.takes))[::-1]:
        facts = spoken_line.as_dict()["takes"][index] | dict(models=get_model_hashes())
        plans = facts.pop("plans")
        number = len(project.get_entry(spoken_line.line.id).takes) + 1
        name = f"lines/{spoken_line.line.id}.{number}.wav"
        write_sound(dub.folder / name, spoken.sound, 24, overwrite=True)
        with atomic_write(get_plans_path(dub.folder / name), overwrite=True) as part:
            part.write_text(json.dumps(plans), encoding="utf-8")
        status = "needs_review" if spoken.needs_review else "spoken"
        take = dict(file=name, seed=dub.options.seed, facts=facts | dict(start_s=float(spoken.start_s)))
        project = add_take(project, spoken_line.line.id, take, dub.settings_hash, status)
    if not spoken_line.takes:
        entry = project.get_entry(spoken_line.line.id)
        project = project.replace_entry(
            replace(entry, status="needs_review", extra=entry.extra | dict(x_why=spoken_line.why))
        )
    return project


def get_plans_path(sound: Path) -> Path:
    """Where the plans of a take lie: beside its sound."""
    return sound.with_suffix(".plans.json")


def get_current_takes(dub: DubJob) -> list[tuple[ProjectEntry, dict]]:
    """[(Entry, facts of its take in use)] of the lines that have one."""
    return [(e, e.takes[e.take - 1]["facts"]) for e in dub.project.entries if e.take]


def write_mix(dub: DubJob, progress: Progress, watermark: bool) -> tuple[dict[str, Path], dict[str, dict]]:
    """Writes the stems into the folder; gives {name: path} and the facts of bed and loudness. Models of takes and bed
    that are kept are named again.

    watermark: whether the dialogue shall carry one, where its package is there.
    Raises what make_bed and write_stems raise.
    """
    lines = []
    for entry, facts in get_current_takes(dub):
        add_model_hashes(facts.get("models", {}))
        sound = read_sound(dub.folder / entry.takes[entry.take - 1]["file"])
        sound = Sound(np.concatenate(list(read_delivery_blocks(sound)), 1)[:1], DELIVERY_HZ)
        lines.append(
            PlacedSound(
                add_watermark(sound) if watermark else sound,
                round_half_up(Fraction(repr(facts["start_s"])) * DELIVERY_HZ),
            )
        )
    with progress.stage("bed", None, "sample") as advance:
        source, bed_facts = _prepare_bed(dub, advance)
    paths = {name: dub.folder / f"{name}.wav" for name in STEM_NAMES}
    if source is not None and source in paths.values():
        raise UsageError(
            f"--bed {source}: that is a stem which this run writes.", hint="Copy it elsewhere first.", code="bad_bed"
        )
    target = parse_loudness_target(dub.options.loudness)
    facts = write_stems(Programme(tuple(lines), source, dub.job.samples), paths, target, overwrite=True)
    return paths, dict(bed=bed_facts, loudness=facts)


def _prepare_bed(dub: DubJob, advance: Callable) -> tuple:
    """(source, facts) of the bed, made once for the same film, choice and spans."""
    spans = [
        (float(line.start), float(line.end))
        for line in dub.job.script.lines
        if line.start is not None and line.end - line.start >= MIN_SLOT_S
    ]
    key = hash_facts(
        dict(
            film=dub.project.film.get("sha256"),
            bed=str(dub.options.bed),
            spans=spans if dub.options.bed == "keep" else [],
        )
    )
    folder = dub.folder / "bed"
    record = folder / f"{key}.json"
    if record.exists():
        known = json.loads(record.read_text(encoding="utf-8"))
        source = (
            None if known["source"] is None else Path(known["source"]) if known["own"] else folder / known["source"]
        )
        if source is None or source.is_file():
            add_model_hashes(known.get("models", {}))
            return source, known["facts"]
    folder.mkdir(parents=True, exist_ok=True)
    with record_models() as models:
        bed = make_bed(dub.options.bed, dub.job.video, spans, folder, advance)
    own = bed.source is not None and bed.source.parent != folder
    with atomic_write(record, overwrite=True) as part:
        told = None if bed.source is None else str(bed.source) if own else bed.source.name
        part.write_text(
            json.dumps(
                dict(source=told, own=own, facts=bed.facts, models=models.get_hashes()),
                default=str,
            ),
            encoding="utf-8",
        )
    return bed.source, bed.facts


def select_lip_lines(dub: DubJob) -> list[dict[str, Any]]:
    """The lines whose lips must move anew, those that are seen and do not follow the actor's own timing, as dicts.

    id, speaker · start_s, end_s: seconds in which the mouth may change · tick, articulation: (n, 43) float32 from that
    tick on at 50 Hz, what the
    line's plans articulate; None where a voice told no plan, and the dialogue must be listened to.
    """
    lines = []
    for entry, facts in get_current_takes(dub):
        line = entry.line
        if facts["timed_by"] == "source" or line.on_screen == "off":
            continue
        start, end = facts["start_s"], facts["start_s"] + facts["duration_s"]
        start, end = max(0.0, min(start, float(line.start))), min(max(end, float(line.end)), float(dub.job.duration))
        if end > start:
            tick, articulation = read_articulation(get_plans_path(dub.folder / entry.takes[entry.take - 1]["file"]))
            lines.append(
                dict(id=line.id, speaker=line.speaker, start_s=start, end_s=end, tick=tick, articulation=articulation)
            )
    return sorted(lines, key=lambda line: (line["start_s"], line["end_s"]))


def read_articulation(path: Path) -> tuple[int, np.ndarray]:
    """(first tick, (n, 43) float32 at 50 Hz) of the plans of a take; (0, None) where there are none. path: of the file."""
    plans = (
        [(read_plan(told), told["start_s"]) for told in json.loads(path.read_text(encoding="utf-8"))]
        if path.is_file()
        else []
    )
    if not plans:
        return 0, None
    first = max(0, int(np.floor(min(at for _, at in plans) * ARTICULATION_HZ)))
    ticks = max(1, int(np.ceil(max(at + float(plan.duration) for plan, at in plans) * ARTICULATION_HZ)) + 1 - first)
    whole = np.zeros((ticks, 43), np.float32)
    whole[:, 0], whole[:, -1] = 1, SILENT_ENERGY
    for plan, at in plans:
        a = max(0, int(np.floor(at * ARTICULATION_HZ)) - first)
        b = min(ticks, int(np.ceil((at + float(plan.duration)) * ARTICULATION_HZ)) + 1 - first)
        if b > a:
            whole[a:b] = articulate_plan(plan, at - (first + a) / ARTICULATION_HZ, b - a).values
    return first, whole


def get_speaker_faces(dub: DubJob) -> dict[str, str]:
    """{speaker: face} for the lips: those given, else the one of --face."""
    return {
        speaker: dub.job.speaker_faces.get(speaker, dub.options.face)
        for speaker in {line.speaker for line in dub.job.script.lines}
    }


def write_draft(video: Path, path: Path, options: DubOptions) -> None:
    """Writes a draft script of a film without one; gives the Script.

    Raises Refused where nobody speaks.
    """
    from mouthpiece.voice.asr.script_draft import draft_script as lines_of
    from mouthpiece.voice.asr.transcription import open_transcriber
    from mouthpiece.voice.scripts.formats import write_script

    phrases = open_transcriber(
        "auto" if options.recognizer == "off" else options.recognizer, options.language
    ).transcribe(video)
    if not phrases:
        raise InvalidInputError(
            f"{video}: nobody speaks in it, so there is no script to draft.", hint="Give a script.", code="no_speech"
        )
    script = lines_of(phrases)
    write_script(script, path)
    return script

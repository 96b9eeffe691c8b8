"""Speak the lines of a dub and keep each in the project's folder, so that a changed line is one line's work."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mouthpiece.engine.audio.sound import write_sound
from mouthpiece.engine.contracts import Articulation, DubLine, Take
from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import atomic_write, compute_sha256
from mouthpiece.engine.timeline import ARTICULATION_HZ
from mouthpiece.engine.weights.records import get_model_hashes
from mouthpiece.voice.options import parse_face_map
from mouthpiece.voice.plan.articulation import articulate_plan
from mouthpiece.voice.plan.speech_plan import read_plan
from mouthpiece.voice.scripts.formats import read_script
from mouthpiece.voice.scripts.merging import merge_script
from mouthpiece.voice.scripts.project import (
    add_take,
    create_project,
    find_changed_lines,
    hash_facts,
    parse_lines,
)
from mouthpiece.voice.scripts.project_file import parse_project, read_project, save_project
from mouthpiece.voice.speech_job import make_speech_job, time_script
from mouthpiece.voice.speech_lines import speak_lines

if TYPE_CHECKING:
    from typing import Any

    from mouthpiece.engine.media.film import Film
    from mouthpiece.engine.progress import Progress
    from mouthpiece.voice.options import DubOptions
    from mouthpiece.voice.scripts.project import Project, ProjectEntry
    from mouthpiece.voice.scripts.script import Script
    from mouthpiece.voice.scripts.script_format import ScriptFile
    from mouthpiece.voice.speech_job import SpeechJob
    from mouthpiece.voice.speech_lines import SpokenLine

PROJECT_FILE = "project.json"  # in the folder of a dub
REPORT_FILE = "report.html"
PICTURE_FOLDER = "picture"  # what lip-sync and face tracking keep
TAKE_OPTIONS = {  # options that a take depends on beside its voice: name in a project file, name
    "speed": "speed",
    "seed": "seed",
    "prosody": "prosody",
    "register": "register",
    "register_shift": "register_shift",
    "mouth": "lip_timing",  # the key of 0.1.0, so that its projects need no new takes
    "face": "face",
}
MAX_PROJECT_SAVES = 100  # while lines are spoken: each save reads and checks the whole project
ON_REQUEST = "asked for"  # reason to speak a line again


@dataclass(frozen=True, eq=False)
class DubJob:
    """Hold a dub that is ready to be made.

    speech: the dialogue.  project: its lines and takes.  folder: what is kept between runs.
    options: of the dub.  pending: why a line must be spoken, by line id.
    """

    speech: SpeechJob
    project: Project
    folder: Path
    options: DubOptions
    pending: dict[str, tuple[str, ...]]

    @property
    def film(self) -> Film:
        """Get the film."""
        return self.speech.film

    @property
    def picture_folder(self) -> Path:
        """Get the folder of what lip-sync and face tracking keep."""
        return self.folder / PICTURE_FOLDER

    @property
    def project_path(self) -> Path:
        """Get the path of the project file."""
        return self.folder / PROJECT_FILE

    @property
    def settings_hash(self) -> str:
        """Get the hash of the options that takes depend on."""
        return hash_take_settings(self.options)

    def plan(self) -> dict[str, Any]:
        """Describe what will be done, JSON-ready."""
        return self.speech.plan() | {
            "project": str(self.project_path),
            "todo": self.pending,
            "bed": str(self.options.bed),
            "loudness": self.options.loudness,
        }


def get_project_folder(output: Path) -> Path:
    """Get the folder of an output's project, takes and stems: OUT.dub beside OUT.mp4."""
    return output.with_suffix(".dub")


def hash_take_settings(options: DubOptions) -> str:
    """Hash the options that takes depend on."""
    settings = {key: getattr(options, name) for key, name in TAKE_OPTIONS.items()}
    return hash_facts(settings | {"dictionary": compute_sha256(options.dictionary) if options.dictionary else ""})


def prepare_dub(
    film: Film,
    script_path: str | Path,
    output: Path,
    options: DubOptions,
    script_file: ScriptFile | None = None,
) -> DubJob:
    """Prepare the dub of a film by a script; continue the project beside the output where there is one.

    script_path, script_file: script or project, as for mouthpiece.voice.scripts.formats.read_script.
    Raises what reading them raises; UsageError for lines that are not there or a project of another film.
    """
    folder, duration = get_project_folder(output), film.duration
    if not film.info.has_video:
        hint = "Give a film; 'mouthpiece speak' makes a dialogue stem without one."
        raise InvalidInputError(f"{film.path}: no moving picture in it.", hint=hint, code="no_video")
    project = _continue_project(film, script_path, folder / PROJECT_FILE, options, script_file)
    rate = str(film.info.rate) if film.info.rate else ""
    facts = {"name": film.path.name, "sha256": film.sha256, "duration_s": float(duration), "rate": rate}
    project = replace(project, film=project.film | facts)
    voices = {name: speaker.get("voice", "") for name, speaker in project.speakers.items()}
    speech = make_speech_job(film, project.script, options, voices)
    faces = parse_speaker_faces(options, project.script)
    faces |= {name: speaker["face"] for name, speaker in project.speakers.items() if speaker.get("face")}
    line_voices = {entry.id: entry.voice for entry in project.entries if entry.voice}
    speech = replace(speech, line_voices=line_voices, speaker_faces=faces)
    speakers = {name: project.speakers.get(name, {}) | {"voice": spec} for name, spec in speech.casting.items()}
    project = replace(project, speakers=speakers)
    return DubJob(speech, project, folder, options, _find_pending_lines(project, folder, options))


def _continue_project(
    film: Film, script_path: str | Path, path: Path, options: DubOptions, script_file: ScriptFile | None
) -> Project:
    """Read the project where the script is one, else lay the script over it; make a new one where there is none."""
    if path.exists() and Path(script_path).resolve() == path.resolve():
        project = read_project(path) if script_file is None else parse_project(script_file.text, path.name)
    else:
        script = read_script(script_path, options=options.get_script_reading(film.duration), file=script_file)
        script = time_script(script, film, options)
        project = merge_script(read_project(path), script)[0] if path.exists() else create_project(script, {})
    if project.film.get("sha256") not in (None, "", film.sha256):
        hint = "Give the output another name, or remove that folder."
        message = f"{path}: it belongs to another film ({project.film.get('name')})."
        raise UsageError(message, hint=hint, code="other_film")
    return project


def _find_pending_lines(project: Project, folder: Path, options: DubOptions) -> dict[str, tuple[str, ...]]:
    """Find the lines that must be spoken, with the reasons, by line id."""
    pending = find_changed_lines(project, hash_take_settings(options))
    for entry in project.entries:
        take = entry.current_take
        if take is not None and not entry.locked and not (folder / take.file).is_file():
            pending[entry.id] = ("its sound is missing",)
    if options.lines is None:
        return pending
    return {line_id: pending.get(line_id, (ON_REQUEST,)) for line_id in parse_lines(options.lines, project)}


def parse_speaker_faces(options: DubOptions, script: Script) -> dict[str, str]:
    """Parse the faces of speakers, by speaker; raise UsageError for a speaker whom the script does not have."""
    faces, speakers = parse_face_map(options.faces), script.speakers
    unknown = [name for name in faces if name not in speakers]
    if unknown:
        known = ", ".join(filter(None, speakers)) or "none is named"
        message = f"--faces: the script has no speaker '{unknown[0]}'."
        raise UsageError(message, hint=f"Its speakers: {known}.", code="no_speaker")
    return faces


def speak_pending_lines(dub: DubJob, progress: Progress) -> DubJob:
    """Speak every pending line and keep it; saved after each hundredth of the work, so that a cut-off run goes on."""
    (dub.folder / "lines").mkdir(parents=True, exist_ok=True)
    path = dub.project_path
    project = saved = save_project(dub.project, path)
    first_takes = {k: len(project.get_entry(k).takes) for k, why in dub.pending.items() if why == (ON_REQUEST,)}
    unsaved, save_after = 0, max(1, len(dub.pending) // MAX_PROJECT_SAVES)
    try:
        for spoken in speak_lines(dub.speech, progress, set(dub.pending), first_takes) if dub.pending else ():
            project, unsaved = add_takes(dub, project, spoken), unsaved + bool(spoken.takes)
            if unsaved >= save_after:
                project = saved = save_project(project, path)
                unsaved = 0
    finally:
        if project is not saved:
            project = save_project(project, path)
    return replace(dub, project=project)


def add_takes(dub: DubJob, project: Project, spoken: SpokenLine) -> Project:
    """Write a line's takes, sounds and plans, and add them to the project; note the reason where there are none."""
    line_id = spoken.line.id
    for take in reversed(spoken.takes):  # the first take comes last and is in use
        number = len(project.get_entry(line_id).takes) + 1
        record = Take(
            file=f"lines/{line_id}.{number}.wav",
            seed=dub.options.seed,
            start_s=float(take.start_s),
            duration_s=round(float(take.sound.duration), 4),
            timed_by=take.timed_by,
            needs_review=take.needs_review,
            why=take.why,
            models=get_model_hashes(),
            details=take.facts,
        )
        write_sound(dub.folder / record.file, take.sound, 24, overwrite=True)
        with atomic_write(get_plans_path(dub.folder / record.file), overwrite=True) as part:
            part.write_text(json.dumps(take.plan_records), encoding="utf-8")
        status = "needs_review" if take.needs_review else "spoken"
        project = add_take(project, line_id, record.as_dict(), dub.settings_hash, status)
    if not spoken.takes:
        entry = project.get_entry(line_id)
        extra = entry.extra | {"x_why": spoken.why}
        project = project.replace_entry(replace(entry, status="needs_review", extra=extra))
    return project


def get_plans_path(sound: Path) -> Path:
    """Get the path of the plans of a take: beside its sound."""
    return sound.with_suffix(".plans.json")


def get_current_takes(dub: DubJob) -> list[tuple[ProjectEntry, Take]]:
    """Get the lines that have a take, each with the take in use."""
    entries = dub.project.entries
    return [(entry, take) for entry in entries if (take := entry.current_take) is not None]


def select_lip_lines(dub: DubJob) -> list[DubLine]:
    """Select the lines whose lips must move: those that are seen and do not follow the actor's own timing."""
    lines = []
    for entry, take in get_current_takes(dub):
        line = entry.line
        if take.timed_by == "source" or line.on_screen == "off" or line.times is None:
            continue
        slot_start_s, slot_end_s = map(float, line.times)
        start_s = max(0.0, min(take.start_s, slot_start_s))
        end_s = min(max(take.end_s, slot_end_s), float(dub.film.duration))
        if end_s > start_s:
            first_tick, articulation = read_articulation(get_plans_path(dub.folder / take.file))
            face = dub.speech.get_face(line.speaker)
            lines.append(DubLine(line.id, line.speaker, face, start_s, end_s, first_tick, articulation))
    return sorted(lines, key=lambda line: (line.start_s, line.end_s))


def read_articulation(path: Path) -> tuple[int, Articulation | None]:
    """Read the plans of a take as an articulation, with the tick of the film at which it begins.

    Gives (0, None) where the take has no plans.
    """
    records = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    if not records:
        return 0, None
    plans = [(read_plan(record), record["start_s"]) for record in records]
    first = max(0, int(np.floor(min(at for _, at in plans) * ARTICULATION_HZ)))
    end_s = max(at + float(plan.duration) for plan, at in plans)
    ticks = max(1, int(np.ceil(end_s * ARTICULATION_HZ)) + 1 - first)
    values = Articulation.silence(ticks).values
    for plan, at in plans:
        start = max(0, int(np.floor(at * ARTICULATION_HZ)) - first)
        stop = min(ticks, int(np.ceil((at + float(plan.duration)) * ARTICULATION_HZ)) + 1 - first)
        if stop > start:
            offset_s = at - (first + start) / ARTICULATION_HZ
            values[start:stop] = articulate_plan(plan, offset_s, stop - start).values
    return first, Articulation(values)


def write_draft(film: Film, path: Path, options: DubOptions) -> Script:
    """Write a draft script of a film from what is recognized in it; raise InvalidInputError where nobody speaks."""
    from mouthpiece.voice.asr.script_draft import draft_script
    from mouthpiece.voice.asr.transcription import open_transcriber
    from mouthpiece.voice.scripts.formats import write_script

    recognizer = "auto" if options.recognizer == "off" else options.recognizer
    phrases = open_transcriber(recognizer, options.language).transcribe(film.path)
    if not phrases:
        message = f"{film.path}: nobody speaks in it, so there is no script to draft."
        raise InvalidInputError(message, hint="Give a script.", code="no_speech")
    script = draft_script(phrases)
    write_script(script, path)
    return script

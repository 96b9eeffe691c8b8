"""dub: lines spoken, mixed over the bed, lips moved, all of it kept by line so that one changed line is one line's work."""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from engine import weights
from engine.errors import Refused, UsageProblem
from engine.files import replacing, sha256_of
from engine.media import DELIVERY_HZ, delivery_blocks, read_sound
from engine.sound import Sound, write_sound
from engine.timeline import ARTICULATION_HZ, nearest
from voice.articulate import articulation_of_plan
from voice.bed import make_bed
from voice.loudness import target_of
from voice.merging import merge
from voice.mix import STEMS, Placed, Programme, write_stems
from voice.options import faces_of
from voice.pipeline import LEAST_SLOT_S, Job, answers, film_of, job_of, marked
from voice.plan import plan_from_dict
from voice.project import (
    Project,
    changed_lines,
    hash_of,
    parse_lines,
    project_of,
    project_of_text,
    read_project,
    save_project,
    with_take,
)
from voice.script import read_script

PROJECT, PAGE, PICTURE = "project.json", "report.html", "picture"   # in the folder of a dub; the last is of what the lips keep
SPOKEN_WITH = ("speed", "seed", "prosody", "register", "register_shift", "mouth", "face")   # options that a take depends on, beside its voice
SILENT_ENERGY = -1.5
SAVES = 100            # of the project while lines are spoken: one reads and checks all of it


@dataclass(frozen=True, eq=False)
class Dub:
    """A dub ready to be made. job: Job.  project: Project.  folder: Path of what is kept between runs.  options: DubOptions.  todo: {line id: reasons}. Source: ours."""

    job: Job
    project: Project
    folder: Path
    options: object
    todo: dict

    @property
    def settings_hash(self):
        """Hash of the options that takes depend on."""
        return settings_hash_of(self.options)

    def plan(self):
        """What will be done, JSON-ready."""
        return self.job.plan() | dict(project=str(self.folder / PROJECT), todo=self.todo, bed=str(self.options.bed), loudness=self.options.loudness)


def folder_of(output):
    """Where the project, its takes and stems of an output lie: OUT.dub beside OUT.mp4. Source: ours."""
    return output.with_suffix(".dub")


def settings_hash_of(options):
    """Hash of the options that takes depend on. Source: ours."""
    told = {name: getattr(options, name) for name in SPOKEN_WITH}
    return hash_of(told | dict(dictionary=sha256_of(options.dictionary) if options.dictionary else ""))


def prepare(video, script_path, output, options, said=None):
    """The Dub of a film and a script; the project beside the output is continued when it is there.

    video: film.  script_path, said: script or project, as for read_script.  output: Path.  options: DubOptions.
    Raises what reading them raises; UsageProblem for lines that are not there or a project of another film.
    Source: ours.
    """
    folder, (info, duration) = folder_of(output), film_of(video)
    if not info.has_video:
        raise Refused(f"{video}: no moving picture in it.", hint="Give a film; 'mouthpiece speak' makes a dialogue stem without one.", code="no_video")
    film = dict(name=Path(video).name, sha256=sha256_of(video), duration_s=float(duration), rate=str(info.rate) if info.rate else "")
    there = folder / PROJECT
    if there.exists() and Path(script_path).resolve() == there.resolve():
        project = read_project(there) if said is None else project_of_text(said[0], there.name)
    else:
        script = read_script(script_path, reading=options.reading(duration), said=said)
        if any(line.start is None for line in script.lines):
            script = job_of(video, script, options).script
        project = merge(read_project(there), script)[0] if there.exists() else project_of(script, film)
    if project.film.get("sha256") not in (None, "", film["sha256"]):
        hint = "Give the output another name, or remove that folder."
        raise UsageProblem(f"{there}: it belongs to another film ({project.film.get('name')}).", hint=hint, code="other_film")
    project = replace(project, film=project.film | film)
    own = {name: facts.get("voice", "") for name, facts in project.speakers.items()}
    job = job_of(video, project.script, options, own)
    faces = faces_given(options, project.script) | {name: facts["face"] for name, facts in project.speakers.items() if facts.get("face")}
    job = replace(job, voices={e.id: e.voice for e in project.entries if e.voice}, faces=faces)
    speakers = {name: project.speakers.get(name, {}) | dict(voice=spec) for name, spec in job.casting.items()}
    project = replace(project, speakers=speakers)
    wanted = changed_lines(project, settings_hash_of(options))
    wanted |= {e.id: ["its sound is missing"] for e in project.entries if e.take and not e.locked and not (folder / e.takes[e.take - 1]["file"]).is_file()}
    if options.lines is not None:
        asked = parse_lines(options.lines, project)
        wanted = {k: wanted.get(k, ["asked for"]) for k in asked}
    return Dub(job, project, folder, options, wanted)


def faces_given(options, script):
    """{speaker: face} of --map. Raises UsageProblem for a speaker whom the script does not have. Source: ours."""
    faces, speakers = faces_of(options.map), script.speakers
    strange = [name for name in faces if name not in speakers]
    if strange:
        known = ", ".join(filter(None, speakers)) or "none is named"
        raise UsageProblem(f"--map: the script has no speaker '{strange[0]}'.", hint=f"Its speakers: {known}.", code="no_speaker")
    return faces


def speak_changed(dub, progress):
    """The Dub with every line of its todo spoken and kept; saved after each hundredth of the work and where it stops, so that a cut-off run goes on.

    Source: ours.
    """
    (dub.folder / "lines").mkdir(parents=True, exist_ok=True)
    path = dub.folder / PROJECT
    project = saved = save_project(dub.project, path)
    again = {k: len(project.entry(k).takes) for k, why in dub.todo.items() if why == ["asked for"]}
    unsaved, most = 0, max(1, len(dub.todo) // SAVES)
    try:
        for answered in answers(dub.job, progress, set(dub.todo), again) if dub.todo else ():
            project, unsaved = with_answer(dub, project, answered), unsaved + bool(answered.takes)
            if unsaved >= most:
                project = saved = save_project(project, path)
                unsaved = 0
    finally:
        if project is not saved:
            project = save_project(project, path)
    return replace(dub, project=project)


def with_answer(dub, project, answered):
    """The project with the takes of an Answer, whose sounds and plans are written; with the reason where there are none. Source: ours."""
    for index, spoken in list(enumerate(answered.takes))[::-1]:               # the first take comes last and is in use
        facts = answered.as_dict()["takes"][index] | dict(models=weights.hashes())
        plans = facts.pop("plans")
        number = len(project.entry(answered.line.id).takes) + 1
        name = f"lines/{answered.line.id}.{number}.wav"
        write_sound(dub.folder / name, spoken.sound, 24, overwrite=True)
        with replacing(plans_path(dub.folder / name), overwrite=True) as part:
            part.write_text(json.dumps(plans), encoding="utf-8")
        status = "needs_review" if spoken.needs_review else "spoken"
        take = dict(file=name, seed=dub.options.seed, facts=facts | dict(start_s=float(spoken.start_s)))
        project = with_take(project, answered.line.id, take, dub.settings_hash, status)
    if not answered.takes:
        entry = project.entry(answered.line.id)
        project = project.with_entry(replace(entry, status="needs_review", extra=entry.extra | dict(x_why=answered.why)))
    return project


def plans_path(sound):
    """Where the plans of a take lie: beside its sound. Source: ours."""
    return sound.with_suffix(".plans.json")


def takes_in_use(dub):
    """[(Entry, facts of its take in use)] of the lines that have one. Source: ours."""
    return [(e, e.takes[e.take - 1]["facts"]) for e in dub.project.entries if e.take]


def mixed(dub, progress, watermark):
    """Writes the stems into the folder; gives {name: path} and the facts of bed and loudness. Models of takes and bed that are kept are named again.

    watermark: whether the dialogue shall carry one, where its package is there.
    Raises what make_bed and write_stems raise.
    Source: ours.
    """
    lines = []
    for entry, facts in takes_in_use(dub):
        weights.name_again(facts.get("models", {}))
        sound = read_sound(dub.folder / entry.takes[entry.take - 1]["file"])
        sound = Sound(np.concatenate(list(delivery_blocks(sound)), 1)[:1], DELIVERY_HZ)
        lines.append(Placed(marked(sound) if watermark else sound, nearest(Fraction(repr(facts["start_s"])) * DELIVERY_HZ)))
    with progress.stage("bed", None, "sample") as advance:
        source, bed_facts = _bed(dub, advance)
    paths = {name: dub.folder / f"{name}.wav" for name in STEMS}
    if source is not None and source in paths.values():
        raise UsageProblem(f"--bed {source}: that is a stem which this run writes.", hint="Copy it elsewhere first.", code="bad_bed")
    target = target_of(dub.options.loudness)
    facts = write_stems(Programme(tuple(lines), source, dub.job.samples), paths, target, overwrite=True)
    return paths, dict(bed=bed_facts, loudness=facts)


def _bed(dub, advance):
    """(source, facts) of the bed, made once for the same film, choice and spans."""
    spans = [(float(line.start), float(line.end)) for line in dub.job.script.lines if line.start is not None and line.end - line.start >= LEAST_SLOT_S]
    key = hash_of(dict(film=dub.project.film.get("sha256"), bed=str(dub.options.bed), spans=spans if dub.options.bed == "keep" else []))
    folder = dub.folder / "bed"
    record = folder / f"{key}.json"
    if record.exists():
        known = json.loads(record.read_text(encoding="utf-8"))
        source = None if known["source"] is None else Path(known["source"]) if known["own"] else folder / known["source"]
        if source is None or source.is_file():
            weights.name_again(known.get("models", {}))
            return source, known["facts"]
    folder.mkdir(parents=True, exist_ok=True)
    with weights.noted() as models:
        bed = make_bed(dub.options.bed, dub.job.video, spans, folder, advance)
    own = bed.source is not None and bed.source.parent != folder
    with replacing(record, overwrite=True) as part:
        told = None if bed.source is None else str(bed.source) if own else bed.source.name
        part.write_text(json.dumps(dict(source=told, own=own, facts=bed.facts, models={name: digest for (name, _), digest in models.items()}), default=str), encoding="utf-8")
    return bed.source, bed.facts


def lip_lines(dub):
    """The lines whose lips must move anew, those that are seen and do not follow the actor's own timing, as dicts.

    id, speaker · start_s, end_s: seconds in which the mouth may change · tick, articulation: (n, 43) float32 from that tick on at 50 Hz, what the
    line's plans articulate; None where a voice told no plan, and the dialogue must be listened to.
    Source: ours.
    """
    lines = []
    for entry, facts in takes_in_use(dub):
        line = entry.line
        if facts["timed_by"] == "source" or line.on_screen == "off":
            continue
        start, end = facts["start_s"], facts["start_s"] + facts["duration_s"]
        start, end = max(0.0, min(start, float(line.start))), min(max(end, float(line.end)), float(dub.job.duration))
        if end > start:
            tick, articulation = articulation_of(plans_path(dub.folder / entry.takes[entry.take - 1]["file"]))
            lines.append(dict(id=line.id, speaker=line.speaker, start_s=start, end_s=end, tick=tick, articulation=articulation))
    return sorted(lines, key=lambda line: (line["start_s"], line["end_s"]))


def articulation_of(path):
    """(first tick, (n, 43) float32 at 50 Hz) of the plans of a take; (0, None) where there are none. path: of the file. Source: ours."""
    plans = [(plan_from_dict(told), told["start_s"]) for told in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []
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
            whole[a:b] = articulation_of_plan(plan, at - (first + a) / ARTICULATION_HZ, b - a).values
    return first, whole


def faces_for(dub):
    """{speaker: face} for the lips: those given, else the one of --face. Source: ours."""
    return {speaker: dub.job.faces.get(speaker, dub.options.face) for speaker in {line.speaker for line in dub.job.script.lines}}


def draft(video, path, options):
    """Writes a draft script of a film without one; gives the Script.

    Raises Refused where nobody speaks.
    Source: ours.
    """
    from voice.draft import draft as lines_of
    from voice.listen import recogniser
    from voice.script import write_script

    phrases = recogniser("auto" if options.listen == "off" else options.listen, options.language).transcribe(video)
    if not phrases:
        raise Refused(f"{video}: nobody speaks in it, so there is no script to draft.", hint="Give a script.", code="no_speech")
    script = lines_of(phrases)
    write_script(script, path)
    return script

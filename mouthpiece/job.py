"""One run of a use case: what all share, from the checks before the work to the mark and the side-car after it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mouthpiece.engine.errors import ExitCode, UsageError
from mouthpiece.engine.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mouthpiece.engine.config import Options
    from mouthpiece.engine.device import Placement
    from mouthpiece.engine.provenance.manifest import Marking


@dataclass(frozen=True)
class OutputSettings:
    """How an output is written, whatever is in it.

    overwrite: replace an output that is there.  dry_run: check everything, write nothing.
    provenance: False leaves the output without a mark; the side-car says so.
    consent: file that says who allowed what.
    signing_key, signing_cert: PEM files to sign with instead of the installation's own key.
    """

    overwrite: bool = False
    dry_run: bool = False
    provenance: bool = True
    consent: Path | None = None
    signing_key: Path | None = None
    signing_cert: Path | None = None


@dataclass(frozen=True)
class Result:
    """What a use case answers.

    command: name of the use case.
    document: JSON-ready; what `--json` shows, and, where an output was written, the contents of its side-car.
    summary: the same for people, a line or a table.
    facts: what was measured, or with a dry run what is planned.
    output: the file written; None where nothing was.  sidecar: the JSON file beside it.
    takes: further outputs of the same run, in order.
    notes: remarks made on the way, in order.
    exit_code: DONE, or PARTLY when a part failed.
    """

    command: str
    document: Any = field(repr=False)
    summary: str
    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    output: Path | None = None
    sidecar: Path | None = None
    takes: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    exit_code: ExitCode = ExitCode.DONE


class Job:
    """One run of a use case: its settings, the files it reads, its progress, and the marking of its output.

    command: name of the use case.  inputs: paths of the files that are read.
    settings: how outputs are written.  progress: None is silent.
    verbose: note the device and every setting in use.
    """

    def __init__(
        self,
        command: str,
        inputs: Iterable[Path] = (),
        settings: OutputSettings | None = None,
        progress: Progress | None = None,
        *,
        verbose: bool = False,
    ) -> None:
        self.command = command
        self.inputs = tuple(inputs)
        self.settings = settings or OutputSettings()
        self.progress = progress or Progress("none")
        self.verbose = verbose
        self._marking: Marking | None = None

    @property
    def marking(self) -> Marking:
        """The marking of the output, once prepare_marking has decided it."""
        if self._marking is None:
            raise RuntimeError("prepare_marking comes first")
        return self._marking

    def check_output(self, output: Path, suffixes: Iterable[str] = ()) -> Path:
        """Check that an output and its side-car can be written; return the path of the side-car.

        output: Path.  suffixes: endings that are accepted, with their dot; empty accepts all.
        Raises UsageError, OutputError and InvalidInputError as files.check_output_file does.
        """
        from mouthpiece.engine.files import check_output_file
        from mouthpiece.engine.provenance.sidecar import get_sidecar_path

        check_output_file(output, self.settings.overwrite, self.inputs, tuple(suffixes))
        return check_output_file(get_sidecar_path(output), self.settings.overwrite, self.inputs)

    def choose_device(self, name: str) -> Placement:
        """Choose where networks run. name: auto, cpu, or a GPU by name and number. Raises as device.choose_device."""
        from mouthpiece.engine.device import choose_device

        return choose_device(name)

    def prepare_marking(self, output: Path | None, languages: Iterable[str] = ()) -> Marking:
        """Decide how the output will be marked, before the work: consent and key are checked now.

        output: Path.  languages: codes of what will be spoken, where known.
        Nothing is written with a dry run.  Raises as make_marking does.
        """
        self._marking = make_marking(self.settings, self.command, output, self.inputs, tuple(languages))
        return self._marking

    def note_settings(self, placement: Placement, settings: dict[str, Any]) -> None:
        """Note the device and every setting, where the run is verbose."""
        if self.verbose:
            self.progress.note(f"{placement.device}: {placement.reason}")
            self.progress.note(" ".join(f"{name}={value}" for name, value in settings.items()))

    def finalize(
        self, output: Path, options: Options, facts: dict[str, Any], summary: str, marking: Marking | None = None
    ) -> Result:
        """Mark a finished output and write its side-car; return the Result. Without them the output is removed.

        facts: what was measured.  summary: one line for people.
        marking: where it is another than that of prepare_marking, as for a changed video.
        Raises as finalize_output does.
        """
        from mouthpiece.engine.provenance.sidecar import get_sidecar_path

        payload = finalize_output(output, self.command, options, self.inputs, facts, marking or self._marking)
        sidecar = get_sidecar_path(output)
        document = payload | {"output": str(output), "sidecar": str(sidecar)}
        return Result(self.command, document, summary, facts, output, sidecar)

    def preview(self, document: dict[str, Any], summary: str) -> Result:
        """Return the Result of a dry run. document: without its "dry_run", which comes first."""
        return Result(self.command, {"dry_run": True} | document, summary, document.get("facts", {}))


def make_marking(
    settings: OutputSettings,
    command: str,
    output: Path | None = None,
    inputs: tuple[Path, ...] = (),
    languages: tuple[str, ...] = (),
) -> Marking:
    """Decide how an output is to be marked, before the work, so that what is refused is refused early.

    command: name of the use case.  output: a manifest that must lie beside it must not replace another file.
    inputs: paths of what is read.  languages: codes of what will be spoken, where known; both for the consent.
    Nothing is written with a dry run.
    Raises what consent.read_consent and signing.load_credentials raise; UsageError for a key without a mark,
    InvalidInputError for credentials that cannot sign.
    """
    from mouthpiece.engine.files import check_output_file
    from mouthpiece.engine.provenance.consent import read_consent
    from mouthpiece.engine.provenance.manifest import Marking, check_credentials, get_manifest_path
    from mouthpiece.engine.provenance.signing import load_credentials

    consent = None
    if settings.consent is not None:
        from mouthpiece.use_cases import list_marking_commands

        known_commands = list_marking_commands()
        consent = read_consent(settings.consent, command, inputs, languages, known_commands=known_commands)
    if not settings.provenance:
        if settings.signing_key is not None or settings.signing_cert is not None:
            raise UsageError(
                "--no-provenance with --signing-key: nothing will be signed.", hint="Leave one out.", code="usage"
            )
        return Marking(None, consent)
    if output is not None and get_manifest_path(output) != output:
        check_output_file(get_manifest_path(output), settings.overwrite, inputs)
    if settings.dry_run and settings.signing_key is None:
        return Marking(None, consent)
    credentials = load_credentials(settings.signing_key, settings.signing_cert)
    if credentials.is_users:
        check_credentials(credentials)
    return Marking(credentials, consent)


def finalize_output(
    output: Path,
    command: str,
    options: Options,
    inputs: Sequence[Path],
    facts: dict[str, Any],
    marking: Marking | None = None,
) -> dict[str, Any]:
    """Mark a finished output and write its side-car; return the side-car's contents.

    command: its name.  options: option dataclass with a seed.
    inputs: paths of the files read.  facts: what was measured.
    marking: None marks with the installation's own key.
    The output is removed when either fails.
    Raises what manifest.mark_output and sidecar.write_sidecar raise.
    """
    from mouthpiece.engine.provenance.manifest import Marking, get_manifest_path, mark_output
    from mouthpiece.engine.provenance.sidecar import build_sidecar, write_sidecar
    from mouthpiece.engine.provenance.signing import load_credentials

    try:
        settings = options.settings()
        payload = build_sidecar(command, settings, settings["seed"], inputs, facts)
        payload["provenance"] = mark_output(output, payload, marking or Marking(load_credentials()), inputs)
        write_sidecar(output, payload)
        return payload
    except BaseException:
        for path in {output, get_manifest_path(output)}:
            path.unlink(missing_ok=True)
        raise


def format_line_count(lines: int) -> str:
    """Format a number of lines: "1 line", "2 lines"."""
    return f"{lines} line{'s' * (lines != 1)}"

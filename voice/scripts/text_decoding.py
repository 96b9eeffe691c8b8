"""The text of a script file, whatever its bytes."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import check_input_file
from mouthpiece.voice.scripts.script import Remark

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 64 * 2**20
MAX_ROWS = 250_000  # of text that is neither JSON nor XML: more than a day of subtitles
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY_SIGNATURES = (
    (b"PK\x03\x04", "a spreadsheet, document or archive"),
    (b"RIFF", "a WAV or AVI file"),
    (b"%PDF", "a PDF"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"{\\rtf", "an RTF document"),
)
_CONTROL = {c for c in range(32)} - {9, 10, 11, 12, 13, 26, 27}
_HINT = "Give SRT, WebVTT, ASS, CSV, DAPT or TTML, plain text, or a project file; from a spreadsheet export CSV."
_LEGACY_CHARSETS = (
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "shift_jis",
    "gb18030",
    "big5",
    "euc_kr",
)
_SAMPLE_BYTES = 200_000
# Cyrillic, Greek; Polish
_NOT_WESTERN = re.compile("\ufffd|[\xc0-\xff]{4}|[A-Za-z][\xa5\xb3\xb9\xbc\xbe\xbf\xa3][a-z]")


def read_text(path: Path, encoding=None) -> tuple | None:
    """(text, bytes, remarks) of a script file; rows end in "\\n".

    path: str or Path.
    encoding: name of a character set; None finds it out: marks at the start, UTF-8, else the likeliest older set, with
    a remark.
    Raises Refused for a missing, empty, binary or endless file and bytes that are not in `encoding`; UsageProblem for
    an unknown encoding.
    """
    path = check_input_file(path, "script")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InvalidInputError(
            f"{path}: {size / 2**20:.0f} MiB, too large for a script.", hint=_HINT, code="too_large"
        )
    raw = path.read_bytes()
    kind = next(
        (what for magic, what in _BINARY_SIGNATURES if raw.startswith(magic)), "a video" if raw[4:8] == b"ftyp" else ""
    )
    if kind:
        raise _make_binary_error(path, f"this is {kind}")
    text, remarks = (_decode_as(path, raw, encoding), ()) if encoding else _detect_encoding(path, raw)
    odd = sum(text.count(chr(c)) for c in _CONTROL)
    if odd * 1000 > len(text):
        raise _make_binary_error(path, "it holds binary data")
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise InvalidInputError(
            f"{path}: nothing but white space in it.", hint="Give a script with lines of dialogue.", code="empty_script"
        )
    rows = text.count("\n")
    if rows > MAX_ROWS and not text.lstrip().startswith(("{", "<")):
        raise InvalidInputError(
            f"{path}: {rows} rows, too long for a script (at most {MAX_ROWS}).",
            hint="Give the script of one film.",
            code="too_large",
        )
    return text, raw, remarks


def _decode_as(path: Path, raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except LookupError as error:
        raise UsageError(
            f"--encoding {encoding}: unknown.", hint="Use a name such as utf-8, cp1252 or utf-16.", code="bad_encoding"
        ) from error
    except UnicodeDecodeError as error:
        where = f"byte {error.start} cannot be read as {encoding}"
        raise InvalidInputError(
            f"{path}: {where}.", hint="Leave --encoding out, or give the right one.", code="bad_encoding"
        ) from error


def _detect_encoding(path: Path, raw: bytes) -> tuple:
    """Text and remarks of bytes in an unknown character set."""
    for mark, name in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            try:
                return raw.decode(name), ()
            except UnicodeDecodeError as error:
                raise _make_binary_error(
                    path, f"its start says {name}, byte {error.start} is something else"
                ) from error
    if b"\0" in raw:
        return _detect_utf16(path, raw)
    try:
        return raw.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        text, name = _guess_legacy_charset(raw)
        said = f"{path.name}: not UTF-8 (byte {error.start}); read as {name}. Look at its accents, or say --encoding."
        return text, (Remark("encoding", said),)


def _detect_utf16(path: Path, raw: bytes) -> tuple[str, tuple[Remark]] | None:
    """UTF-16 without a mark: nearly all zeros lie on one side."""
    even, odd = raw[::2].count(0), raw[1::2].count(0)
    name = "utf-16-le" if odd > 4 * even else "utf-16-be" if even > 4 * odd else ""
    try:
        if name and max(even, odd) * 8 > len(raw):
            return raw.decode(name), (
                Remark("encoding", f"{path.name}: read as {name}, which it does not say itself."),
            )
    except UnicodeDecodeError:
        pass
    raise _make_binary_error(path, "it holds binary data")


def _guess_legacy_charset(raw: bytes) -> tuple[str, str]:
    """Text and name of the older character set that makes most sense: cp1252 unless its letters stand as they never do."""
    western = raw.decode("cp1252", errors="replace")
    if not _NOT_WESTERN.search(western):
        return western, "cp1252"
    from charset_normalizer import from_bytes

    best = from_bytes(raw[:_SAMPLE_BYTES], cp_isolation=list(_LEGACY_CHARSETS), threshold=0.3).best()
    for name in filter(None, (best and best.encoding, "cp1252")):
        try:
            return raw.decode(name), name
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1"), "latin-1"


def _make_binary_error(path: Path, what: str) -> InvalidInputError:
    return InvalidInputError(f"{path}: not a script: {what}.", hint=_HINT, code="not_a_script")

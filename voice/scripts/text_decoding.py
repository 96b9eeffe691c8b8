"""Decoding of script files: any usual character set to text, binary files refused."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import check_input_file
from mouthpiece.voice.scripts.script import Remark

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
_CONTROL_CODES = set(range(32)) - {9, 10, 11, 12, 13, 26, 27}  # below the space, without white space, EOF and escape
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
_SAMPLE_BYTES = 200_000  # of a file, for the guess of its character set
# letters that cp1252 shows for Cyrillic and Greek (four accented in a row), then for Polish
_NOT_WESTERN = re.compile("\ufffd|[\xc0-\xff]{4}|[A-Za-z][\xa5\xb3\xb9\xbc\xbe\xbf\xa3][a-z]")


def read_bytes(path: str | Path, hint: str) -> tuple[Path, bytes]:
    """Read all bytes of a script file; return its Path and them.

    path: of the file.
    hint: which files are accepted, for the error.
    Raises InvalidInputError for a file that is missing, empty or larger than MAX_BYTES.
    """
    path = check_input_file(Path(path), "script")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InvalidInputError(f"{path}: {size / 2**20:.0f} MiB, too large for a script.", hint=hint, code="too_large")
    return path, path.read_bytes()


def decode_text(path: Path, raw: bytes, encoding: str | None, hint: str) -> tuple[str, tuple[Remark, ...]]:
    """Decode the bytes of a script to text whose rows end in "\\n"; return it with remarks.

    path: of the file, for errors and remarks.
    raw: all its bytes.
    encoding: name of a character set; None detects it: byte order marks, UTF-8, else the likeliest older set, with a
    remark.
    hint: which files are accepted, for the error.
    Raises InvalidInputError for binary or empty text, more than MAX_ROWS rows, and bytes that are not in `encoding`;
    UsageError for an unknown encoding.
    """
    found = next((what for magic, what in _BINARY_SIGNATURES if raw.startswith(magic)), "")
    found = found or ("a video" if raw[4:8] == b"ftyp" else "")
    if found:
        raise _make_binary_error(path, f"this is {found}", hint)
    remarks: tuple[Remark, ...]
    if encoding:
        text, remarks = _decode_as(path, raw, encoding), ()
    else:
        text, remarks = _detect_encoding(path, raw, hint)
    if sum(text.count(chr(code)) for code in _CONTROL_CODES) * 1000 > len(text):
        raise _make_binary_error(path, "it holds binary data", hint)
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
    return text, remarks


def _decode_as(path: Path, raw: bytes, encoding: str) -> str:
    """Decode bytes in a character set that the user named. Raises as decode_text does."""
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


def _detect_encoding(path: Path, raw: bytes, hint: str) -> tuple[str, tuple[Remark, ...]]:
    """Decode bytes in an unknown character set; return text and remarks. Raises InvalidInputError for binary data."""
    for mark, name in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            try:
                return raw.decode(name), ()
            except UnicodeDecodeError as error:
                what = f"its start says {name}, byte {error.start} is something else"
                raise _make_binary_error(path, what, hint) from error
    if b"\0" in raw:
        return _detect_utf16(path, raw, hint)
    try:
        return raw.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        text, name = _guess_legacy_charset(raw)
        note = f"{path.name}: not UTF-8 (byte {error.start}); read as {name}. Look at its accents, or say --encoding."
        return text, (Remark("encoding", note),)


def _detect_utf16(path: Path, raw: bytes, hint: str) -> tuple[str, tuple[Remark, ...]]:
    """Decode UTF-16 without a byte order mark, whose zero bytes nearly all lie on one side.

    Raises InvalidInputError for other bytes with zeros.
    """
    even, odd = raw[::2].count(0), raw[1::2].count(0)
    name = "utf-16-le" if odd > 4 * even else "utf-16-be" if even > 4 * odd else ""
    try:
        if name and max(even, odd) * 8 > len(raw):
            note = f"{path.name}: read as {name}, which it does not say itself."
            return raw.decode(name), (Remark("encoding", note),)
    except UnicodeDecodeError:
        pass
    raise _make_binary_error(path, "it holds binary data", hint)


def _guess_legacy_charset(raw: bytes) -> tuple[str, str]:
    """Decode bytes in the likeliest older character set; return text and its name.

    cp1252 is taken unless its letters stand where they never do in western languages.
    """
    western = raw.decode("cp1252", errors="replace")
    if not _NOT_WESTERN.search(western):
        return western, "cp1252"
    from charset_normalizer import from_bytes

    best = from_bytes(raw[:_SAMPLE_BYTES], cp_isolation=list(_LEGACY_CHARSETS), threshold=0.3).best()
    for name in (best.encoding, "cp1252") if best else ("cp1252",):
        try:
            return raw.decode(name), name
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1"), "latin-1"


def _make_binary_error(path: Path, what: str, hint: str) -> InvalidInputError:
    return InvalidInputError(f"{path}: not a script: {what}.", hint=hint, code="not_a_script")

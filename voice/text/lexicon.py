"""Pronunciation dictionary of the user's own words, in phones or in another spelling."""

from __future__ import annotations

import csv
import tomllib
from functools import cache
from importlib.util import find_spec
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError
from mouthpiece.engine.files import check_input_file
from mouthpiece.voice.plan.speech_plan import PAUSE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_PHONETIC_LETTERS = "ˈˌːəɛɪʊʌɔɑæθðʃʒŋʤʧ"  # no respelling has them
_HINT = 'Write one word a line: word = "/phones/" or word = "respelling" (TOML), or both with a tab between (TSV).'


@cache
def load_alphabet() -> dict[str, int]:
    """Load the alphabet of Kokoro and of all voices made after it: {symbol: number}; PAUSE is 0.

    Source: hibari-tts, assets/vocab.json.
    """
    spec = find_spec("hibari")
    assert spec is not None and spec.submodule_search_locations  # installed with this package
    folder = Path(spec.submodule_search_locations[0])
    return {PAUSE: 0} | loads((folder / "assets" / "vocab.json").read_text(encoding="utf-8"))


class PronunciationDictionary:
    """Pronunciations of words.

    entries: {word: "/phones/" in the voices' alphabet, or a respelling of it}.
    Raises InvalidInputError for a word with a space in it, an empty pronunciation or symbols that the voices do not
    know.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries: dict[str, str] = {}
        self._casefolded: dict[str, str] = {}
        for word, pronunciation in entries.items():
            self._entries[word] = self._casefolded[word.casefold()] = _check_entry(word, pronunciation)

    def find(self, word: str) -> str | None:
        """Find the pronunciation of a word, or None: the same spelling first, then without regard to capitals."""
        return self._entries.get(word) or self._casefolded.get(word.casefold())

    def __bool__(self) -> bool:
        return bool(self._entries)


def parse_phones(pronunciation: str) -> str | None:
    """Parse phones between slashes; None for a respelling."""
    if len(pronunciation) > 2 and pronunciation[0] == pronunciation[-1] == "/":
        return pronunciation[1:-1]
    return None


def _check_entry(word: str, said: Any) -> str:
    """Check one word and its pronunciation; return that stripped. Raises InvalidInputError."""
    if not isinstance(said, str) or not said.strip() or not word.strip() or len(word.split()) > 1:
        raise InvalidInputError(
            f"dictionary: '{word}' = {said!r}: need one word and how it is said.", hint=_HINT, code="bad_dictionary"
        )
    pronunciation = said.strip()
    phones = parse_phones(pronunciation)
    if phones is not None:
        unknown = sorted({symbol for symbol in phones if symbol not in load_alphabet() or symbol == PAUSE})
        if unknown:
            raise InvalidInputError(
                f"dictionary: '{word}': {' '.join(unknown)} is not a phone of the voices.",
                hint=f"Phones are: {''.join(load_alphabet())}",
                code="bad_dictionary",
            )
    elif any(symbol in _PHONETIC_LETTERS for symbol in pronunciation):
        raise InvalidInputError(
            f"dictionary: '{word}': '{pronunciation}' looks like phones.",
            hint=f"Put them between slashes: /{pronunciation}/.",
            code="bad_dictionary",
        )
    return pronunciation


def read_dictionary(path: str | Path) -> PronunciationDictionary:
    """Read a PronunciationDictionary from a file.

    path: .toml with word = "pronunciation" a line, or .tsv with word, tab, pronunciation a line; # starts a comment.
    Raises InvalidInputError for a file that is missing or not readable as such, naming the line or word.
    """
    path = check_input_file(Path(path), "dictionary")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".toml":
            return PronunciationDictionary(tomllib.loads(text))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInputError(
            f"{path}: not readable as a dictionary ({error}).", hint=_HINT, code="bad_dictionary"
        ) from error
    entries = {}
    for number, row in enumerate(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE), 1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) != 2:
            raise InvalidInputError(
                f"{path}, line {number}: {len(row)} columns, need 2.", hint=_HINT, code="bad_dictionary"
            )
        entries[row[0].strip()] = row[1]
    return PronunciationDictionary(entries)

"""The user's own words: how they are said, in phones or in another spelling."""

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
    from typing import Any

_HINT = 'Write one word a line: word = "/phones/" or word = "respelling" (TOML), or both with a tab between (TSV).'


@cache
def load_alphabet() -> dict[str, int]:
    """Symbol -> number, of Kokoro and of all voices made after it; PAUSE is 0.

    Source: hibari-tts, assets/vocab.json.
    """
    folder = Path(find_spec("hibari").submodule_search_locations[0])
    return {PAUSE: 0} | loads((folder / "assets" / "vocab.json").read_text(encoding="utf-8"))


class PronunciationDictionary:
    """Words and how they are said.

    entries: dict, word -> "/phones/" in the voices' alphabet, or another spelling of it.
    Raises Refused for a word with a space in it, an empty saying or symbols that the voices do not know.
    """

    def __init__(self, entries: dict[str, Any]) -> None:
        self._entries, self._casefolded = {}, {}
        for word, said in entries.items():
            self._entries[word] = self._casefolded[word.casefold()] = _check_entry(word, said)

    def find(self, word: str) -> str | None:
        """How a word is said, or None: the same spelling first, then without regard to capitals."""
        return self._entries.get(word) or self._casefolded.get(word.casefold())

    def __bool__(self) -> bool:
        return bool(self._entries)


def parse_phones(said: str) -> str | None:
    """The phones of a saying between slashes, or None for another spelling."""
    return said[1:-1] if len(said) > 2 and said[0] == said[-1] == "/" else None


def _check_entry(word: str, said: str | int) -> str | None:
    if not isinstance(said, str) or not said.strip() or not word.strip() or len(word.split()) > 1:
        raise InvalidInputError(
            f"dictionary: '{word}' = {said!r}: need one word and how it is said.", hint=_HINT, code="bad_dictionary"
        )
    said = said.strip()
    phones = parse_phones(said)
    if phones is not None:
        strange = sorted({p for p in phones if p not in load_alphabet() or p == PAUSE})
        if strange:
            hint = f"Phones are: {''.join(load_alphabet())}"
            raise InvalidInputError(
                f"dictionary: '{word}': {' '.join(strange)} is no phone of the voices.",
                hint=hint,
                code="bad_dictionary",
            )
    elif any(p in "ˈˌːəɛɪʊʌɔɑæθðʃʒŋʤʧ" for p in said):
        raise InvalidInputError(
            f"dictionary: '{word}': '{said}' looks like phones.",
            hint=f"Put them between slashes: /{said}/.",
            code="bad_dictionary",
        )
    return said


def read_dictionary(path: Path) -> PronunciationDictionary | None:
    """A Dictionary from a file.

    path: .toml with word = "said" a line, or .tsv with word, tab, said a line; # starts a comment line.
    Raises Refused for a file that is not there or not readable as such, naming the line or word.
    """
    path = check_input_file(path, "dictionary")
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

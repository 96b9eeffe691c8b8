"""The user's own words: how they are said, in phones or in another spelling."""

import csv
import tomllib
from functools import cache
from importlib.util import find_spec
from json import loads
from pathlib import Path

from engine.errors import Refused
from engine.files import input_file
from voice.plan import PAUSE

_HINT = 'Write one word a line: word = "/phones/" or word = "respelling" (TOML), or both with a tab between (TSV).'


@cache
def alphabet():
    """Symbol -> number, of Kokoro and of all voices made after it; PAUSE is 0.

    Source: hibari-tts, assets/vocab.json.
    """
    folder = Path(find_spec("hibari").submodule_search_locations[0])
    return {PAUSE: 0} | loads((folder / "assets" / "vocab.json").read_text(encoding="utf-8"))


class Dictionary:
    """Words and how they are said.

    entries: dict, word -> "/phones/" in the voices' alphabet, or another spelling of it.
    Raises Refused for a word with a space in it, an empty saying or symbols that the voices do not know.
    Source: ours.
    """

    def __init__(self, entries):
        self._said, self._folded = {}, {}
        for word, said in entries.items():
            self._said[word] = self._folded[word.casefold()] = _checked(word, said)

    def find(self, word):
        """How a word is said, or None: the same spelling first, then without regard to capitals. Source: ours."""
        return self._said.get(word) or self._folded.get(word.casefold())

    def __bool__(self):
        return bool(self._said)


def phones_in(said):
    """The phones of a saying between slashes, or None for another spelling. Source: ours."""
    return said[1:-1] if len(said) > 2 and said[0] == said[-1] == "/" else None


def _checked(word, said):
    if not isinstance(said, str) or not said.strip() or not word.strip() or len(word.split()) > 1:
        raise Refused(f"dictionary: '{word}' = {said!r}: need one word and how it is said.", hint=_HINT, code="bad_dictionary")
    said = said.strip()
    phones = phones_in(said)
    if phones is not None:
        strange = sorted({p for p in phones if p not in alphabet() or p == PAUSE})
        if strange:
            hint = f"Phones are: {''.join(alphabet())}"
            raise Refused(f"dictionary: '{word}': {' '.join(strange)} is no phone of the voices.", hint=hint, code="bad_dictionary")
    elif any(p in "ˈˌːəɛɪʊʌɔɑæθðʃʒŋʤʧ" for p in said):
        raise Refused(f"dictionary: '{word}': '{said}' looks like phones.", hint=f"Put them between slashes: /{said}/.", code="bad_dictionary")
    return said


def read_dictionary(path):
    """A Dictionary from a file.

    path: .toml with word = "said" a line, or .tsv with word, tab, said a line; # starts a comment line.
    Raises Refused for a file that is not there or not readable as such, naming the line or word.
    Source: ours.
    """
    path = input_file(path, "dictionary")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".toml":
            return Dictionary(tomllib.loads(text))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refused(f"{path}: not readable as a dictionary ({error}).", hint=_HINT, code="bad_dictionary") from error
    entries = {}
    for number, row in enumerate(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE), 1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) != 2:
            raise Refused(f"{path}, line {number}: {len(row)} columns, need 2.", hint=_HINT, code="bad_dictionary")
        entries[row[0].strip()] = row[1]
    return Dictionary(entries)

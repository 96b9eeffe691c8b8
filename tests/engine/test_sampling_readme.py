"""The README of the sampling library says what is true: its examples run, and its table names what is exported."""

import doctest
import re
from pathlib import Path

from mouthpiece.engine import sampling

README = Path(sampling.__file__).parent / "README.md"


def test_the_examples_run_as_they_are_printed():
    result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted >= 12 and result.failed == 0


def test_every_function_that_the_readme_names_is_exported_or_a_solver():
    names = set(re.findall(r"`((?:make|draw|plan|stream|overlap|compute)_\w+)`", README.read_text(encoding="utf-8")))
    assert names and names <= set(sampling.__all__)
    solvers = re.search(r"\| `solvers` \| (.*), in `SOLVERS`", README.read_text(encoding="utf-8")).group(1)
    assert re.findall(r"`(\w+)`", solvers) == list(sampling.SOLVERS)


def test_all_that_is_exported_is_there():
    assert all(hasattr(sampling, name) for name in sampling.__all__)

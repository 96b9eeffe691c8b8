import json
import pickle

import pytest

from mouthpiece.engine.errors import (
    ExitCode,
    InvalidInputError,
    MissingDependencyError,
    MouthpieceError,
    OutputError,
    UsageError,
)


@pytest.mark.parametrize(
    "error, kind, code",
    [
        (MouthpieceError, "internal", 1),
        (UsageError, "usage", 2),
        (MissingDependencyError, "missing", 3),
        (InvalidInputError, "refused", 5),
        (OutputError, "write", 5),
    ],
)
def test_each_error_knows_its_kind_and_its_exit_code(error, kind, code):
    assert error("x").kind == kind
    assert int(error("x").exit_code) == code


def test_the_exit_codes_are_those_of_the_contract():
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 5, 6, 130]


def test_the_sentence_holds_cause_then_remedy():
    error = InvalidInputError("a.wav: empty file.", hint="Give a recording.")
    assert str(error) == "a.wav: empty file. Give a recording."
    assert str(InvalidInputError("a.wav: empty file.")) == "a.wav: empty file."


def test_an_error_as_dict_is_json_with_the_five_fields():
    error = MissingDependencyError("no GPU.", hint="Use --device cpu.", code="no_gpu", retryable=True)
    back = json.loads(json.dumps(error.as_dict()))
    assert back == {
        "kind": "missing",
        "code": "no_gpu",
        "message": "no GPU.",
        "hint": "Use --device cpu.",
        "retryable": True,
    }
    assert MissingDependencyError("x").as_dict()["code"] == "missing"


def test_an_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(InvalidInputError("a", hint="b", code="c", retryable=True)))
    assert type(error) is InvalidInputError
    assert error.as_dict() == InvalidInputError("a", hint="b", code="c", retryable=True).as_dict()


def test_a_forgotten_full_stop_stands_between_message_and_hint():
    assert str(InvalidInputError("a.srt: nothing in it", hint="Give another.")) == "a.srt: nothing in it. Give another."
    assert str(InvalidInputError("Is it one?", hint="Look.")) == "Is it one? Look."
    assert (
        str(InvalidInputError("2 bad rows:\n  3: no sound\n", hint="Correct them."))
        == "2 bad rows:\n  3: no sound\nCorrect them."
    )

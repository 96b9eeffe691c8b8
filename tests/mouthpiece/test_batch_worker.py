"""What a worker of a batch does with a Request, and the command from a batch file to marked outputs."""

import json
import pickle

import pytest

from mouthpiece.batch.worker import run_request
from mouthpiece.use_cases import USE_CASES


@pytest.fixture
def jobs(tmp_path):
    """A batch file of two texts to be spoken by the embedded voice, one of them under a former option name."""
    row = {"command": "speak", "voice": "hibari", "no-provenance": True}
    rows = [
        row | {"id": "a", "text": "Go.", "recognizer": "off", "output": "a.wav"},
        row | {"id": "b", "text": "Go.", "listen": "off", "output": "deep/b.wav"},
    ]
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "jobs.jsonl"


def test_a_batch_file_becomes_outputs_with_side_cars_and_is_done_once(call, jobs):
    out = jobs.parent / "out"
    words = ("batch", str(jobs), "-o", str(out), "--workers", "1", "--json", "--progress", "json")
    first = call(*words)
    result = json.loads(first.out)["result"]
    assert first.code == 0 and (result["done"], result["skipped"], result["failed"]) == (2, 0, 0)
    assert "--listen is now --recognizer" in first.err
    sidecars = [json.loads((out / name).read_text()) for name in ("a.json", "deep/b.json")]
    assert [one["command"] for one in sidecars] == ["speak", "speak"] and list(sidecars[0]["models"]) == ["hibari"]
    hashes = [one["provenance"]["sha256_unmarked"] for one in sidecars]
    assert hashes[0] == hashes[1] and sidecars[0]["models"] == sidecars[1]["models"], "a kept model is named again"
    result = json.loads(call(*words).out)["result"]
    assert (result["done"], result["skipped"]) == (0, 2)
    plan = json.loads(call(*words, "--dry-run").out)["result"]
    assert (plan["todo"], plan["skipped"], plan["outputs"]) == (0, 2, [])


def test_a_plan_measures_and_keeps_nothing(call, jobs):
    out = jobs.parent / "out"
    answer = call("batch", str(jobs), "-o", str(out), "--dry-run", "--json", "-q")
    plan = json.loads(answer.out)["result"]
    assert answer.code == 0 and (plan["items"], plan["todo"]) == (2, 2) and not out.exists()
    (model,) = plan["models"]
    assert (model["command"], model["ready"], model["weights"]) == ("speak", True, ["hibari"])
    assert [row["output"] for row in plan["outputs"]] == [str(out / "a.wav"), str(out / "deep" / "b.wav")]


def test_a_request_that_fails_is_answered_with_its_error(tmp_path):
    case = USE_CASES["speak"]
    request = case.from_fields({"text": "Go.", "voice": "nobody", "output": tmp_path / "a.wav"})
    code, document = run_request(pickle.loads(pickle.dumps(request)))
    assert code == 2 and document["ok"] is False and "nobody" in document["error"]["message"]


def test_an_error_of_the_program_is_answered_as_internal(tmp_path, monkeypatch):
    request = USE_CASES["speak"].from_fields({"text": "Go.", "voice": "hibari", "output": tmp_path / "a.wav"})
    monkeypatch.setattr("mouthpiece.job.Job.check_output", lambda *words: 1 // 0)
    code, document = run_request(request)
    assert code == 1 and document["error"]["kind"] == "internal"
    assert "ZeroDivisionError" in document["error"]["message"]

import hashlib
import json
from fractions import Fraction

import pytest

from mouthpiece.engine import __version__
from mouthpiece.engine.errors import OutputError, UsageError
from mouthpiece.engine.provenance import sidecar


def test_a_side_car_holds_what_was_asked_used_and_measured(tmp_path):
    (tmp_path / "in.wav").write_bytes(b"abc")
    payload = sidecar.build_sidecar("animate", {"steps": 4}, 7, [tmp_path / "in.wav"], {"rate": Fraction(30000, 1001)})
    path = sidecar.write_sidecar(tmp_path / "out.mp4", payload)
    assert path == tmp_path / "out.json"
    back = json.loads(path.read_text())
    assert back["mouthpiece"] == __version__
    assert (back["command"], back["settings"], back["seed"]) == ("animate", {"steps": 4}, 7)
    assert back["inputs"] == [{"path": str(tmp_path / "in.wav"), "sha256": hashlib.sha256(b"abc").hexdigest()}]
    assert back["facts"] == {"rate": "30000/1001"} and isinstance(back["models"], dict)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.wav", "out.json"]


def test_an_older_side_car_is_replaced_and_a_file_of_the_user_never(tmp_path):
    sidecar.write_sidecar(tmp_path / "out.mp4", {"seed": 1})
    sidecar.write_sidecar(tmp_path / "out.mp4", {"seed": 2})
    assert json.loads((tmp_path / "out.json").read_text())["seed"] == 2
    for text in ('{"lines": []}', "not json", "[1]", "3"):
        (tmp_path / "film.json").write_text(text)
        with pytest.raises(UsageError, match="film.json.*another name"):
            sidecar.write_sidecar(tmp_path / "film.mp4", {"seed": 1})
        assert (tmp_path / "film.json").read_text() == text


def test_the_second_output_of_a_stem_gets_a_side_car_of_its_full_name_and_both_are_found(tmp_path):
    first, second = tmp_path / "take.wav", tmp_path / "take.mp4"
    assert sidecar.write_sidecar(first, {"seed": 1, "provenance": {"file": first.name}}) == tmp_path / "take.json"
    assert sidecar.write_sidecar(second, {"seed": 2, "provenance": {"file": second.name}}) == tmp_path / "take.mp4.json"
    assert sidecar.write_sidecar(first, {"seed": 3, "file": first.name}) == tmp_path / "take.json"
    assert [sidecar.find_sidecar(path)[1]["seed"] for path in (first, second)] == [3, 2]
    (tmp_path / "take.json").unlink()
    assert sidecar.get_sidecar_path(second) == tmp_path / "take.mp4.json", "it keeps its own"
    assert sidecar.find_sidecar(first) == (tmp_path / "take.json", {})


def test_a_side_car_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        sidecar.write_sidecar(tmp_path / "no" / "out.mp4", {})
    with pytest.raises(UsageError, match="input"):
        sidecar.write_sidecar(tmp_path / "out.json", {})
    assert list(tmp_path.iterdir()) == []

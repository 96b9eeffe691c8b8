import json

import pytest

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.training.data.manifest import is_common_speaker, is_held_out, load_held_out, read_rows, require_stage

SPEECH = {"path": "a/one.ogg", "kind": "speech", "licence": "CC0-1.0", "source": "me"}
TALK = {
    "path": "b/two.mp4",
    "kind": "talk",
    "audio": "b/two.flac",
    "licence": "CC0-1.0",
    "source": "me",
    "speaker": "x",
}


def folder_with(tmp_path, *lines):
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_rows_of_the_kinds_asked_for_come_in_file_order(tmp_path):
    other = SPEECH | {"path": "a/é.ogg"}
    data = folder_with(tmp_path, json.dumps(SPEECH), "", json.dumps(TALK), json.dumps(other, ensure_ascii=False))
    assert read_rows(data, ("speech",)) == [SPEECH, other]
    assert read_rows(data, ("talk", "speech")) == [SPEECH, TALK, other] and read_rows(data, ("portrait",)) == []


def test_a_folder_without_manifest_is_a_mistake_of_the_caller_with_the_way_out(tmp_path):
    with pytest.raises(UsageError, match="no manifest") as caught:
        read_rows(tmp_path, ("speech",))
    assert "--data" in caught.value.hint


@pytest.mark.parametrize(
    "line, what",
    [
        ("{not json", "line 2: no JSON"),
        ("[1, 2]", "line 2: list instead"),
        (json.dumps({k: v for k, v in SPEECH.items() if k != "licence"}), "line 2: field 'licence'"),
        (json.dumps({k: v for k, v in TALK.items() if k != "audio"}), "line 2: field 'audio'"),
        (json.dumps({"path": "x"}), "line 2: field 'kind'"),
    ],
)
def test_a_broken_line_is_refused_by_number_and_field(tmp_path, line, what):
    with pytest.raises(InvalidInputError, match=what) as caught:
        read_rows(folder_with(tmp_path, json.dumps(SPEECH), line), ("speech",))
    assert "docs/training.md" in caught.value.hint


def test_the_shipped_split_keeps_people_out_and_an_own_one_may_be_given(tmp_path):
    split = load_held_out()
    assert split["talk"] and split["readers"] and 0 <= split["portraits_at"] < split["portraits_every"]
    assert is_held_out(f"talk/x/{split['talk'][0]}.mp4", "anybody", split)
    assert is_held_out("speech/a.ogg", split["readers"][0], split) and not is_held_out("speech/a.ogg", "anybody", split)
    (tmp_path / "own.toml").write_text('talk = ["clip"]\nreaders = []\n')
    assert load_held_out(tmp_path / "own.toml") == {"talk": ["clip"], "readers": []}


def test_the_speaker_there_is_most_of_is_known_by_file_name():
    assert is_common_speaker("talk__grid_s1__bbaf2n.npz") and not is_common_speaker("talk__s22__lbbc2a.npz")


def test_a_missing_stage_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(UsageError, match="phones.npz: not there") as caught:
        require_stage("align", tmp_path / "phones.npz")
    assert "mouthpiece train align" in caught.value.hint
    assert require_stage("align", tmp_path) == tmp_path

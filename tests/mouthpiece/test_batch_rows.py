"""Batch files: what is accepted, and that everything else is refused with its line before anything runs."""

import json
import pickle
import random
import struct

import pytest
import tiny_jobs

from mouthpiece.batch.job_list import compute_item_key, read_job_list
from mouthpiece.engine.config import RenamedOptionWarning
from mouthpiece.engine.errors import InvalidInputError, MouthpieceError, UsageError
from mouthpiece.job import OutputSettings
from mouthpiece.use_cases import get_marking_use_cases


@pytest.fixture
def desk(tmp_path):
    """A folder with two scripts and something like a film, and the batch's folder."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("a.srt", "b.srt"):
        (tmp_path / "jobs" / name).write_text("ok")
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x20ftyp" + bytes(64))
    return tmp_path


@pytest.fixture
def read(desk):
    def read(text, name="jobs.jsonl"):
        path = desk / "jobs" / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_job_list(path, desk / "out", tiny_jobs.USE_CASES)

    return read


GOOD = {"id": "one", "command": "speak", "script": "a.srt", "output": "a.wav"}


def line(**changes):
    return json.dumps({key: value for key, value in (GOOD | changes).items() if value is not ...})


def test_rows_become_requests_with_absolute_paths(read, desk):
    item = read("\ufeff" + line(video="../film.mp4", seed=3, pace=1.5, gate=False, **{"no-provenance": True}))[0]
    script, film, output = desk / "jobs" / "a.srt", desk / "film.mp4", desk / "out" / "a.wav"
    request = item.request
    assert request.options == tiny_jobs.TinyOptions(seed=3, pace=1.5, gate=False)
    assert (request.video, request.script, request.output) == (film, script, output)
    assert request.settings == OutputSettings(provenance=False) and set(request.given) == {"seed", "pace", "gate"}
    assert set(item.inputs) == {script, film} and item.output == output and item.line == 1


def test_an_option_spelled_out_at_its_default_and_a_former_name_have_the_same_key(read, desk):
    def key(**more):
        return compute_item_key(read(line(**more))[0], desk / "out", ["c"], "1")

    assert key() == key(seed=0) and key(pace=1.5) != key()
    with pytest.warns(RenamedOptionWarning, match="--tempo is now --pace"):
        assert key(tempo=1.5) == key(pace=1.5)


def test_a_file_named_by_an_option_counts_from_the_batch_file_and_is_an_input(read, desk):
    words = desk / "jobs" / "words.toml"
    words.write_text("a = 1")
    item = read(line(dictionary="words.toml"))[0]
    assert item.request.options.dictionary == words and words in item.inputs
    assert read(line(dictionary="/nowhere/words.toml"))[0].inputs == (desk / "jobs" / "a.srt",)


def test_a_request_of_every_row_can_be_sent_to_another_process(read):
    item = read(line(seed=3, gate=False))[0]
    assert pickle.loads(pickle.dumps(item)) == item


def test_a_table_says_the_same_as_json_lines(read):
    table = read(
        "id,command,script,output,seed,gate\none,speak,a.srt,a.wav,3,false\n\ntwo,speak,b.srt,b.wav,,\n", "jobs.csv"
    )
    rows = read(line(seed=3, gate=False) + "\n\n" + line(id="two", script="b.srt", output="b.wav"))
    assert [(item.id, item.request, item.inputs) for item in table] == [
        (item.id, item.request, item.inputs) for item in rows
    ]
    assert [item.line for item in table] == [2, 4] and [item.line for item in rows] == [1, 3]
    assert read("id;command;script;output\n1;speak;a.srt;x.wav\n", "jobs.csv")[0].id == "1"


def test_an_output_may_lie_deeper_in_the_folder_or_be_named_in_full(read, desk):
    items = read(line(output="x/y/a.wav") + "\n" + line(id=2, output=str(desk / "out" / "b.wav")))
    assert [item.output.relative_to(desk / "out").as_posix() for item in items] == ["x/y/a.wav", "b.wav"]


def test_the_key_follows_contents_options_output_and_version_but_not_places(read, desk):
    def key(text, contents=("c",), version="1"):
        return compute_item_key(read(text)[0], desk / "out", contents, version)

    keys = [key(line()), key(line(), ("d",)), key(line(), version="2"), key(line(seed=1)), key(line(output="b.wav"))]
    assert len(set(keys)) == 5
    assert key(line(script="b.srt")) == keys[0] == key(line(id="other name")), (
        "a file of the same contents under another name is the same"
    )


BAD = [
    ("{", "line 1: is not JSON"),
    ("[]", "is not an object"),
    ("3", "is not an object"),
    ('{"id": "a", "id": "b"}', "id: given twice"),
    (line(id=...), "id: is missing"),
    (line(id=""), "id: need text"),
    (line(id="x\n"), "id: need at most"),
    (line(id=True), "id: need text"),
    (line(id="x" * 300), "id: need at most"),
    (line(command="fly"), "'fly' is none of speak"),
    (line(command="dub"), "'dub' is none of speak"),
    (line(command=["speak"]), "command: need text"),
    (line(script=...), "script: is missing"),
    (line(script="none.srt"), "no such file"),
    (line(script="."), "this is a folder"),
    (line(script="\0"), "is not a path"),
    (line(script="x" * 5000), "is not a path"),
    (line(script=3), "no such file"),
    (line(script={"a": 1}), "script: need text"),
    (line(script=["a.srt", "b.srt"]), "script: need one value"),
    (line(video="a.srt"), "video: a.srt is plain text"),
    (line(output="../../etc/x.wav"), "outside of the batch's folder"),
    (line(output="/etc/x.wav"), "outside"),
    (line(output="x/../../y.wav"), "outside"),
    (line(output=""), "output: need text"),
    (line(output="."), "outside"),
    (line(output="a\0.wav"), "characters that can be printed"),
    (line(output="results.jsonl"), "kept for what the batch itself writes"),
    (line(output="summary.wav"), "kept for"),
    (line(output="x" * 300), "longer than 200 bytes"),
    (line(output="link/x.wav"), "outside"),
    (line(wings=2), "wings: speak has no such"),
    (line(force=True), "force: is not for single rows"),
    (line(json=True), "json: is not for"),
    (line(dry_run=True), "not for single rows"),
    (line(seed="many"), "--seed many: need a whole number"),
    (line(seed=-1), "--seed -1: need at least 0"),
    (line(pace=9), "need 0.5 to 2.0"),
    (line(pace=float("nan")), "NaN is not a number"),
    (line(gate="maybe"), "gate: need true or false"),
    (line(preset="none.toml"), "no such file"),
    ('{"id": ' + "9" * 5000 + "}", "is not JSON"),
    ("[" * 200_000, "too deep"),
    (line(id="x" * 1_100_000), "need at most 1048576"),
    (b"\xff\xfe", "is not UTF-8"),
    (b'\xef\xbb\xbf{"id": "\xff"}', "is not UTF-8"),
    (line() + "\n" + line(output="b.wav"), "line 2: id: 'one' is that of line 1"),
    (line() + "\n" + line(id=2), "writes a.wav, as line 1 does"),
    (line() + "\n" + line(id=2, output="A.WAV"), "as line 1 does"),
    (line() + "\n" + line(id=2, output="a.mp4"), "writes a.json, as line 1 does"),
    (line() + "\n" + line(id=2, output="a.wav/b.wav"), "is a file, not a folder"),
    (line(output="in.wav"), "an input of line 2"),
    (
        line(output="chain1.wav") + "\n" + line(id=2, script="../out/chain1.wav", output="chain2.wav"),
        "an input of line 2; outputs feed no other row",
    ),
]


@pytest.mark.parametrize("text, wanted", BAD, ids=[str(number) for number in range(len(BAD))])
def test_a_bad_row_is_refused_with_its_line(read, desk, text, wanted):
    (desk / "out" / "link").symlink_to(desk)
    (desk / "out" / "chain1.wav").write_text("ok")
    if wanted == "an input of line 2":
        (desk / "out" / "in.wav").write_text("ok")
        text += "\n" + line(id=2, script=str(desk / "out" / "in.wav"), output="z.wav")
    before = sorted(desk.rglob("*"))
    with pytest.raises(UsageError) as caught:
        read(text)
    assert wanted in str(caught.value) and "nothing was run" in str(caught.value) and caught.value.code == "bad_rows"
    assert set(desk.rglob("*")) - set(before) <= {desk / "jobs" / "jobs.jsonl"}


BAD_TABLES = [
    ("id,id\n1,2\n", "line 1: column 'id': given twice"),
    ("id,,command\n", "without a name"),
    ("id,command,script,output\n1,speak,a.srt,a.wav,more\n", "line 2: 5 cells"),
    ('id,command,script,output\n1,speak,"a.srt,a.wav\n', "is not CSV"),
    ("id,command,script,output\n1,speak,a.srt\n", "line 2: output: is missing"),
    (b"id,command\n\xff,speak\n", "line 2: is not UTF-8"),
    ("id,command,script,output,wings\n1,speak,a.srt,a.wav,2\n", "line 2: wings"),
]


@pytest.mark.parametrize("text, wanted", BAD_TABLES, ids=[str(number) for number in range(len(BAD_TABLES))])
def test_a_bad_table_is_refused_with_its_line(read, text, wanted):
    with pytest.raises(UsageError) as caught:
        read(text, "jobs.csv")
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    "name, text, wanted",
    [
        ("jobs.txt", "x", "cannot be read as '.txt'"),
        ("jobs.jsonl", "\n\n", "it has no row"),
        ("jobs.csv", "id,command\n", "has no row"),
        ("jobs.jsonl", "", "0 bytes"),
    ],
)
def test_a_file_without_rows_is_refused(read, name, text, wanted):
    with pytest.raises(InvalidInputError, match=wanted):
        read(text, name)


def test_every_bad_row_is_listed(read):
    rows = [
        line(id=number, output=f"{number}.wav") if number % 3 else line(id=number, output=f"../{number}.wav")
        for number in range(12)
    ]
    with pytest.raises(UsageError) as caught:
        read("\n".join(rows))
    assert [f"line {number}: " in str(caught.value) for number in range(1, 13)] == [
        number % 3 == 0 for number in range(12)
    ]
    assert "4 bad rows" in str(caught.value)


STRANGE = [
    1e308,
    "",
    "\0",
    "../../etc/passwd",
    "x" * 70_000,
    "\u202e",
    "-rf",
    "--force",
    True,
    [None],
    "nul\n",
    "//",
    "~",
]
STRANGE += ["$HOME/x", "%s%n"]
NO_TEXT = [None, [], {}, [[1]], 1e308]
FIELDS_NOT_KNOWN = ["wings", "force", "json", "--help", "o", "", "output2", "command "]
OUTPUTS_TAKEN = ["0.wav", "2.WAV", "0.mp4", "./0.wav", "a/../0.wav", "results.jsonl", ".", "..", "0.wav/x.wav"]


def spoil_row(draw, kind, rows):
    """The second of three rows with something wrong; kind: 0 to 5."""
    if kind == 0:
        return rows[1][: draw.randrange(1, len(rows[1]) - 1)]
    if kind == 4:
        return rows[draw.choice([0, 2])]
    if kind == 1:
        change = {draw.choice(["id", "command", "script", "output"]): draw.choice(NO_TEXT)}
    elif kind == 2:
        path = "../" * draw.randrange(1, 9) + "x/y.wav"
        places = ["../../etc/passwd", path, "\0", "x" * 70_000, "//"]
        change = {draw.choice(["output", "script", "seed", "pace"]): draw.choice(places)}
    elif kind == 3:
        change = {draw.choice(FIELDS_NOT_KNOWN): draw.choice(STRANGE)}
    else:
        change = {"output": draw.choice(OUTPUTS_TAKEN)}
    return json.dumps(GOOD | {"id": 1, "output": "1.wav"} | change)


def spoilt(seed):
    """A batch of three rows with something wrong in the second, by a seed; gives bytes."""
    draw = random.Random(seed)
    rows = [line(id=number, output=f"{number}.wav") for number in range(3)]
    kind = draw.randrange(7)
    if kind < 6:
        rows[1] = spoil_row(draw, kind, rows)
        return "\n".join(rows).encode()
    data = bytearray(rows[1].encode())
    data[draw.randrange(len(data))] = draw.choice([0x00, 0xFF, 0x80, 0x0B])
    return b"\n".join([rows[0].encode(), bytes(data), rows[2].encode()])


def test_two_hundred_spoilt_batch_files_are_all_refused_with_their_line_and_nothing_is_written(read, desk):
    before = {path: path.read_bytes() for path in desk.rglob("*") if path.is_file()}
    for seed in range(200):
        data = spoilt(seed)
        with pytest.raises(MouthpieceError) as caught:
            pytest.fail(f"accepted {seed}: {data[:300]} {read(data)}")
        assert int(caught.value.exit_code) == 2 and (
            "line 2: " in str(caught.value) or "line 3: " in str(caught.value)
        ), (seed, data[:300])
    (desk / "jobs" / "jobs.jsonl").unlink()
    assert {path: path.read_bytes() for path in desk.rglob("*") if path.is_file()} == before


def test_noise_is_refused_in_words(read):
    for seed in range(40):
        noise = random.Random(seed).randbytes(400)
        for name in ("jobs.jsonl", "jobs.csv"):
            with pytest.raises(MouthpieceError):
                read(noise + struct.pack("<H", seed), name)


def test_the_commands_of_rows_are_those_that_write_media():
    assert list(get_marking_use_cases()) == ["animate", "lipsync", "speak", "dub", "sound"]


def test_the_command_refuses_before_anything_runs_and_lists_lines(call, desk):
    from mouthpiece.engine.media.images import write_image

    write_image(desk / "p.png", __import__("numpy").zeros((40, 40, 3), "uint8"))
    row = {"id": 1, "command": "animate", "portrait": "p.png", "sound": "p.png", "output": "a.mp4"}
    (desk / "jobs.jsonl").write_text(
        "\n".join(
            json.dumps(row | more)
            for more in ({}, {"id": 2, "fps": 0, "output": "b.mp4"}, {"id": 3, "output": "../c.mp4"})
        )
    )
    answer = call("batch", str(desk / "jobs.jsonl"), "-o", str(desk / "new"), "--json", "-q")
    error = json.loads(answer.out)["error"]
    assert answer.code == 2 and not (desk / "new").exists()
    assert (
        "line 2: --fps 0: need a rate" in error["message"]
        and "line 3: output: ../c.mp4 lies outside" in error["message"]
        and "line 1" not in error["message"]
    )
    for words, wanted in (
        (("--shard", "3/2"), "need K/N"),
        (("--cluster", "moon"), "need local, ray"),
        (("--workers", "0"), "need 1 to 4096"),
        (("--max-retries", "-1"), "need 0 to 20"),
    ):
        answer = call("batch", str(desk / "jobs.jsonl"), "-o", str(desk / "new"), *words)
        assert answer.code == 2 and wanted in answer.err


def test_titles_of_columns_and_keys_are_read_as_people_type_them(read):
    table = "ID,Command,SCRIPT,Output,Seed\none,speak,a.srt,a.wav,3\n"
    for item in (
        read(table, "jobs.csv")[0],
        read(json.dumps({k.upper(): v for k, v in GOOD.items()} | {"Seed": 3}))[0],
    ):
        assert (item.id, item.command, item.request.options.seed) == ("one", "speak", 3)
    with pytest.raises(UsageError, match="'id': given twice"):
        read("ID,id,command\n1,2,speak\n", "jobs.csv")
    with pytest.raises(UsageError, match="id: given twice"):
        read(line(ID="two"))

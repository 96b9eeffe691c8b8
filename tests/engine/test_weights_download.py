import http.server
import io
import json
import shutil
import threading

import pytest

from mouthpiece.commands import models
from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, OutputError, UsageError
from mouthpiece.engine.files import compute_sha256
from mouthpiece.engine.progress import Progress
from mouthpiece.engine.weights import download as pulling

CONTENT = bytes(range(256)) * 4000
QUIET = Progress("none")


class Home(http.server.BaseHTTPRequestHandler):
    """A server of one file that can break off, and remembers what it was asked for."""

    protocol_version = "HTTP/1.0"

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.resumes else 0
        if start >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.breaks:
            self.server.breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def home(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Home)
    server.content, server.asked, server.breaks, server.resumes = CONTENT, [], 0, True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def entry(home, tmp_path):
    whole = tmp_path / "whole"
    whole.write_bytes(CONTENT)
    url = f"http://127.0.0.1:{home.server_port}/net.bin"
    file = {"url": url, "path": "net.bin", "bytes": len(CONTENT), "sha256": compute_sha256(whole)}
    return {"title": "a net", "licence": "MIT", "licence_url": "https://example.org", "consent": False, "files": [file]}


def test_a_pull_gives_the_file_verified_and_leaves_no_part(entry, tmp_path):
    (row,) = pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert (tmp_path / "net" / "net.bin").read_bytes() == CONTENT
    assert row["known"] == "pinned" and row["sha256"] == entry["files"][0]["sha256"]
    assert not list((tmp_path / "net").glob("*.part"))
    assert pulling.is_complete(entry, tmp_path / "net")


def test_what_is_there_and_right_is_not_fetched_again(entry, home, tmp_path):
    for _ in range(2):
        pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert home.asked == [None]


def test_a_connection_that_breaks_off_is_taken_up_where_it_stopped(entry, home, tmp_path):
    home.breaks = 2
    pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert (tmp_path / "net" / "net.bin").read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert home.asked == [None, f"bytes={half}-", f"bytes={half + (len(CONTENT) - half) // 2}-"]


def test_a_pull_that_was_given_up_goes_on_in_the_next_run(entry, home, tmp_path):
    home.breaks = pulling.MAX_TRIES
    with pytest.raises(MissingDependencyError, match="MB are kept.*run it again") as caught:
        pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert caught.value.retryable and not (tmp_path / "net" / "net.bin").exists()
    kept = (tmp_path / "net" / "net.bin.part").stat().st_size
    assert 0 < kept < len(CONTENT)
    pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert home.asked[-1] == f"bytes={kept}-"
    assert (tmp_path / "net" / "net.bin").read_bytes() == CONTENT


def test_a_server_that_cannot_resume_sends_the_whole_file_again(entry, home, tmp_path):
    home.breaks, home.resumes = 1, False
    pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert (tmp_path / "net" / "net.bin").read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_taken_as_it_is(entry, tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "net.bin.part").write_bytes(CONTENT)
    pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert (tmp_path / "net" / "net.bin").read_bytes() == CONTENT


def test_another_file_than_the_pinned_one_is_refused_and_deleted(entry, home, tmp_path):
    home.content = CONTENT[:-1] + b"x"
    with pytest.raises(InvalidInputError, match="another file"):
        pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert not list((tmp_path / "net").glob("net.bin*"))


def test_a_damaged_file_is_fetched_anew(entry, home, tmp_path):
    pulling.download_model("net", entry, tmp_path / "net", QUIET)
    (tmp_path / "net" / "net.bin").write_bytes(CONTENT[:100])
    assert not pulling.is_complete(entry, tmp_path / "net")
    pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert (tmp_path / "net" / "net.bin").read_bytes() == CONTENT


def test_a_file_without_pinned_hash_is_recorded_and_held_to_it(entry, home, tmp_path):
    wanted = entry["files"][0].pop("sha256")
    del entry["files"][0]["bytes"]
    assert pulling.get_download_bytes(entry) == len(CONTENT)
    (row,) = pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert row["known"] == "recorded" and row["sha256"] == wanted
    assert json.loads((tmp_path / "net" / pulling.RECORDED_FILE).read_text()) == {"net.bin": wanted}
    (tmp_path / "net" / "net.bin").unlink()
    home.content = CONTENT + b"more"
    with pytest.raises(InvalidInputError, match="another file"):
        pulling.download_model("net", entry, tmp_path / "net", QUIET)


def test_a_full_disk_is_told_before_anything_is_fetched(entry, home, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(OutputError, match="needs 1 MB.*0 MB are free"):
        pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert home.asked == []


def test_an_interrupted_pull_keeps_its_part(entry, home, tmp_path):
    class Impatient(Progress):
        def stage(self, *words):
            class Stage:
                def __enter__(self):
                    return self.advance

                def advance(self, n=1):
                    if n:
                        raise KeyboardInterrupt

                def __exit__(self, *error):
                    return False

            return Stage()

    with pytest.raises(KeyboardInterrupt):
        pulling.download_model("net", entry, tmp_path / "net", Impatient("none"))
    assert (tmp_path / "net" / "net.bin.part").stat().st_size > 0
    assert not (tmp_path / "net" / "net.bin").exists()
    pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert (tmp_path / "net" / "net.bin").read_bytes() == CONTENT


def test_a_licence_that_wants_consent_is_asked_for_once(entry, home, tmp_path):
    entry |= {"consent": True, "licence": "CC BY-NC 4.0"}
    with pytest.raises(MissingDependencyError, match="CC BY-NC.*--accept-licence"):
        pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert home.asked == []
    pulling.download_model("net", entry, tmp_path / "net", QUIET, accepted=True)
    (tmp_path / "net" / "net.bin").unlink()
    pulling.download_model("net", entry, tmp_path / "net", QUIET)
    assert pulling.is_licence_accepted(tmp_path / "net", entry)
    assert not pulling.is_licence_accepted(tmp_path / "net", entry | {"licence": "another"})


def test_a_server_that_is_not_there_is_missing_with_a_remedy(entry, tmp_path):
    entry["files"][0]["url"] = "http://127.0.0.1:9/net.bin"
    with pytest.raises(MissingDependencyError, match="cannot be fetched.*run it again"):
        pulling.download_model("net", entry, tmp_path / "net", QUIET)


def test_only_the_web_is_fetched_from(entry, tmp_path):
    entry["files"][0]["url"] = "file:///etc/hostname"
    with pytest.raises(InvalidInputError, match="only http"):
        pulling.download_model("net", entry, tmp_path / "net", QUIET)


def test_every_entry_of_the_registry_says_what_a_user_must_know():
    for name, entry in pulling.load_model_registry().items():
        assert entry["title"] and entry["licence"] and entry["licence_url"].startswith("https://"), name
        assert isinstance(entry["consent"], bool) and entry["files"], name
        for file in entry["files"]:
            assert file["url"].startswith("https://") and not file["path"].startswith(("/", "..")), name
            assert len(file.get("sha256", "0" * 64)) == 64, name
        if "NC" in entry["licence"]:
            assert entry["consent"], f"{name}: a non-commercial licence wants consent"


class Words:
    action, name, yes, accept_licence = "pull", "net", False, False


@pytest.fixture
def known(entry, monkeypatch, tmp_path):
    monkeypatch.setenv("MOUTHPIECE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(pulling, "load_model_registry", lambda: {"net": entry})
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return Words()


def test_the_command_fetches_nothing_until_somebody_says_yes(known, home):
    with pytest.raises(UsageError, match="1.0 MB, licence MIT.*Add --yes"):
        models.run(known, QUIET)
    assert home.asked == []
    known.yes = True
    outcome = models.run(known, QUIET)
    assert outcome.document["fetched"] and outcome.summary.startswith("net: 1 file(s)")
    known.yes = False
    assert models.run(known, QUIET).document["fetched"] is False


def test_the_command_asks_at_a_terminal_and_yes_accepts_the_licence(known, entry, monkeypatch):
    entry["consent"] = True
    terminal = io.StringIO("y\n")
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    assert models.run(known, QUIET).document["fetched"]
    assert pulling.is_licence_accepted(pulling.get_model_folder("net"), entry)


def test_the_path_of_a_model_is_told_once_it_is_there(known):
    known.action = "path"
    with pytest.raises(MissingDependencyError, match="models pull net"):
        models.run(known, QUIET)
    known.action, known.yes = "pull", True
    models.run(known, QUIET)
    known.action, known.yes = "path", False
    assert models.run(known, QUIET).summary.endswith("net.bin")


def test_a_converter_runs_after_a_pull_and_on_demand(known, monkeypatch):
    monkeypatch.setattr("mouthpiece.models.get_converters", lambda: {"net": lambda folder: folder / "made"})
    known.yes = True
    assert models.run(known, QUIET).document["converted"].endswith("made")
    known.action, known.yes = "convert", False
    assert models.run(known, QUIET).summary.endswith("made")
    monkeypatch.setattr("mouthpiece.models.get_converters", dict)
    with pytest.raises(UsageError, match="used as it comes"):
        models.run(known, QUIET)

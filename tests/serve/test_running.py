"""The command as a process: how it begins and ends, many clients at once, and hostile ones."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from serve_samples import grow, peak_memory, serving

from clip_feature_codec import ClipCodec
from clip_feature_codec.cli.main import main as command

CLIENTS = 50
ROUNDS = 2
MOST_MEMORY = 600 * 1024 * 1024


def get(
    link: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    request = urllib.request.Request(link + path, data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def raw(link: str, sent: bytes, wait: float = 10) -> bytes:
    """What comes back for bytes that need not be HTTP."""
    place = urlsplit(link)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=wait) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            found = b""
            while part := connection.recv(65536):
                found += part
        except OSError:  # hung up on
            return b""
        return found


@pytest.fixture(scope="module")
def server(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with serving(folder / "store", "--port", 0, "--max-upload", 1, "--max-pixels", 1_000_000) as running:
        yield running


def test_it_says_where_it_is_and_ends_with_an_interrupt(store: Path):
    with serving(store, "--port", 0) as (process, link):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", link)
        assert get(link, "api/store")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_port_in_use_is_one_line(store: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(command, ["serve", str(store), "--port", str(port), "--quiet"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: port {port} of 127.0.0.1 is in use: name another one, or --port 0\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--host", "192.0.2.1"], "cannot listen"),
        ([], "is not a store"),
        (["--token", "short"], "expected 16"),
        (["--token", "with a space in it"], "expected 16"),
    ],
)
def test_what_cannot_be_served_is_one_line(store: Path, tmp_path: Path, options: list[str], expected: str):
    result = CliRunner().invoke(command, ["serve", str(store if options else tmp_path), *options, "--quiet"])
    assert (result.exit_code, result.stderr.count("\n"), expected in result.stderr) == (2, 1, True), (
        result.stderr
    )


def test_a_token_that_turned_out_empty_opens_nothing(store: Path):
    result = CliRunner(env={"CLIP_CODEC_TOKEN": ""}).invoke(command, ["serve", str(store), "--port", "0"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "CLIP_CODEC_TOKEN" in result.stderr


@pytest.mark.parametrize("options", [["--host", "0.0.0.0"], ["--token", "one.of-my_own~17"]])
def test_beyond_this_machine_or_where_one_is_named_the_link_has_a_token(store: Path, options: list[str]):
    with serving(store, *options, "--port", 0) as (_, link):
        address, _, token = link.partition("#token=")
        here = f"http://127.0.0.1:{urlsplit(address).port}/"
        assert len(token) >= 16
        assert token == options[1] or "--host" in options
        assert get(here, "api/store")[0] == 401
        assert get(here, "api/store", headers={"Authorization": f"Bearer {token}"})[0] == 200


def test_fifty_clients_at_once(server: tuple[subprocess.Popen[str], str], folder: Path, codec: ClipCodec):
    """Each is answered, or told when to come again; what is answered is right; the page stays quick."""
    process, link = server
    photo, blob = (folder / "photos/p1.png").read_bytes(), (folder / "store/p1.clp").read_bytes()
    expected = {
        "api/encode?max_bytes=140": codec.encode(folder / "photos/p1.png", max_bytes=140),
        "api/preview?size=32": None,
        "api/decode?size=32&steps=1": None,
        "api/search?count=3": None,
        "api/search?text=snow&count=3": None,
        "api/streams": None,
    }
    bodies = {"api/encode?max_bytes=140": photo, "api/search?count=3": photo}
    bodies |= {"api/preview?size=32": blob, "api/decode?size=32&steps=1": blob}
    asked = [list(expected)[i % len(expected)] for i in range(CLIENTS * ROUNDS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        work = [pool.submit(lambda path=path: (path, *get(link, path, bodies.get(path)))) for path in asked]
        pages = [get(link, "")[0] for _ in range(3)]
        assert not all(one.done() for one in work)  # the page comes while there is much to do
        answers = [one.result() for one in work]
    assert pages == [200] * 3
    assert {status for _, status, _ in answers} <= {200, 429}
    assert sum(status == 200 for _, status, _ in answers) >= len(answers) // 2
    for path, status, body in answers:
        if status == 200 and expected[path] is not None:
            assert len(body) <= 140
            assert codec.vector(body) @ codec.vector(expected[path]) > 0.999
        if status == 429:
            assert b"ask again" in body
    assert peak_memory(process.pid) < MOST_MEMORY


POST = b"POST /api/encode HTTP/1.1\r\nHost: localhost\r\n"
HOSTILE = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "no host": b"GET /api/store HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "traversal": b"GET /page/../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "encoded traversal": b"GET /web/%2e%2e/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "absolute": b"GET //etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "NUL": b"GET /page/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "not UTF-8": b"GET /api/pictures/%ff%fe?limit=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "long path": b"GET /api/pictures/" + b"A" * 12_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "long head": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n",
    "many fields": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
    "length of minus one": POST + b"Content-Length: -1\r\n\r\n",
    "length of a planet": POST + b"Content-Length: 9999999999999\r\n\r\nx",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "bad chunks": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx",
    "cut short": POST + b"Content-Length: 100\r\n\r\nx",
    "websocket": b"GET /api/store HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "unknown method": b"BREW /api/store HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_gets_a_refusal_or_nothing(server: tuple[subprocess.Popen[str], str], name: str):
    process, link = server
    answer = raw(link, HOSTILE[name])
    assert answer == b"" or re.match(rb"HTTP/1\.1 4\d\d ", answer), answer[:200]
    assert b"root:" not in answer
    assert process.poll() is None
    assert get(link, "api/store")[0] == 200


def test_many_large_uploads_at_once_take_no_more_memory_than_is_allowed(
    server: tuple[subprocess.Popen[str], str],
):
    process, link = server
    place = urlsplit(link)
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    found: list[bytes] = []

    def flood() -> None:
        address = place.hostname or "", place.port or 0
        with suppress(OSError), socket.create_connection(address, timeout=20) as connection:
            connection.sendall(head)
            for _ in range(400):  # 26 MB each, where 1 MB is allowed; until it is hung up on
                connection.sendall(chunk)
            found.append(connection.recv(100))

    threads = [threading.Thread(target=flood) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer for answer in found if answer and not answer.startswith(b"HTTP/1.1 4")] == []
    assert peak_memory(process.pid) < MOST_MEMORY
    assert get(link, "api/store")[0] == 200


@pytest.mark.slow
def test_slow_clients_are_hung_up_on_and_keep_nobody_out(folder: Path):
    """Heads and bodies of one byte a second, from more connections than are served at a time."""
    with serving(folder / "store", "--port", 0) as (process, link):
        place = urlsplit(link)
        slow = [socket.create_connection((place.hostname or "", place.port or 0)) for _ in range(300)]
        began = time.monotonic()
        bodies = slow[:20]
        for connection in bodies:
            connection.sendall(POST + b"Content-Length: 1000\r\n\r\n")
        while time.monotonic() - began < 14:
            for i, connection in enumerate(slow):
                with suppress(OSError):
                    connection.sendall(b"x" if i < len(bodies) else b"G")
            time.sleep(1)
        assert get(link, "api/store")[0] == 200  # the heads are gone
        while time.monotonic() - began < 34:
            for connection in bodies:
                with suppress(OSError):
                    connection.sendall(b"x")
            time.sleep(1)
        for connection in bodies:
            connection.settimeout(5)
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        for connection in slow:
            connection.close()
        assert peak_memory(process.pid) < MOST_MEMORY


@pytest.mark.slow
def test_a_store_of_twenty_thousand_is_paged_quickly(tmp_path: Path, codec: ClipCodec):
    codec.features.save(tmp_path / "store/codec.json")
    grow(tmp_path / "store", codec, 20_000)
    with serving(tmp_path / "store", "--port", 0) as (_, link):
        assert json.loads(get(link, "api/store")[1])["pictures"] == 20_000
        began = time.monotonic()
        for offset in range(0, 20_000, 1000):
            assert get(link, f"api/pictures?offset={offset}&limit=1000")[0] == 200
            assert get(link, f"api/streams?offset={offset}&limit=1000")[0] == 200
        assert time.monotonic() - began < 30

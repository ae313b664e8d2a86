"""A model hub on the loopback interface: as much of its interface as huggingface_hub uses, and its faults."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 1000
"""Bytes from which a file is kept in LFS, known by its SHA-256; the others by git's SHA-1."""


def digest_of(data: bytes) -> str:
    """How the hub calls a file's contents."""
    if len(data) >= LARGE:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(ThreadingHTTPServer):
    """Repositories by name: their commits, oldest first, each with its files.

    Attributes:
        repositories: name -> commit -> file's name -> contents.
        requests: method and path of everything that was asked for.
        damaged: names of files that arrive with a bit turned.
        cut: names of files of which half is sent, and then nothing until `let_go` is set.
        half_sent: set when that has happened.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.damaged: set[str] = set()
        self.cut: set[str] = set()
        self.half_sent, self.let_go = threading.Event(), threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, files: dict[str, bytes]) -> str:
        """A new commit of a repository, with these files alone; its hash."""
        commits = self.repositories.setdefault(name, {})
        told = json.dumps([name, len(commits), {file: digest_of(data) for file, data in files.items()}])
        commit = hashlib.sha1(told.encode()).hexdigest()
        commits[commit] = files
        return commit

    def sent(self, ending: str) -> int:
        """How many times the contents of files with this ending were asked for."""
        return sum(
            one.startswith("GET ") and "/resolve/" in one and one.endswith(ending) for one in self.requests
        )


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield hub
        finally:
            hub.let_go.set()
            hub.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {url.path}")
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:], parse_qs(url.query))
        elif parts == ["api", "repos", "create"]:
            self._create()
        elif parts[0] == "uploads":
            self.server.uploads[parts[1]] = self.body
            self._send(200, b"")
        elif parts[-3:] == ["lfs", "objects", "batch"]:
            self._batch()
        elif parts[2:3] == ["resolve"]:
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._json({"error": f"this hub knows no {self.path}"}, 404)

    def _files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A commit and its files; None, and the answer is given, where there is none."""
        commits = self.server.repositories.get(name)
        if commits is None:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return None
        commit = list(commits)[-1] if revision == "main" and commits else revision
        if commit not in commits and not (revision == "main" and not commits):
            self._json({"error": "no such revision"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit, commits.get(commit, {})

    def _api(self, name: str, rest: list[str], query: dict[str, list[str]]) -> None:
        revision = unquote(rest[1]) if len(rest) > 1 else "main"
        found = self._files(name, revision)
        if found is None:
            return
        commit, files = found
        kind = rest[0] if rest else "revision"
        if kind == "revision":
            siblings = [_sibling(file, data) for file, data in files.items()]
            self._json({"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []})
        elif kind == "tree":
            self._json([_tree_entry(file, data) for file, data in files.items()])
        elif kind == "preupload":
            asked = json.loads(self.body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                }
                for file in asked
            ]
            self._json({"files": modes})
        elif kind == "commit":
            self._commit(name, files)
        else:
            self._json({"error": f"this hub knows no {kind}"}, 404)

    def _create(self) -> None:
        asked = json.loads(self.body)
        name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        there = name in self.server.repositories
        self.server.repositories.setdefault(name, {})
        self._json({"url": f"{self.server.endpoint}/{name}", "name": name}, 409 if there else 200)

    def _batch(self) -> None:
        asked = json.loads(self.body)["objects"]
        place = f"{self.server.endpoint}/uploads"
        objects = [
            {**one, "actions": {"upload": {"href": f"{place}/{one['oid']}", "header": {}}}} for one in asked
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, files: dict[str, bytes]) -> None:
        files = dict(files)
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                data = self.server.uploads[value["oid"]]
                assert hashlib.sha256(data).hexdigest() == value["oid"]
                files[value["path"]] = data
        commit = self.server.add(name, files)
        self._json(
            {
                "success": True,
                "commitOid": commit,
                "commitUrl": f"{self.server.endpoint}/{name}/commit/{commit}",
            }
        )

    def _resolve(self, name: str, revision: str, file: str) -> None:
        found = self._files(name, revision)
        if found is None:
            return
        commit, files = found
        if file not in files:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        data, digest = files[file], digest_of(files[file])
        if file in self.server.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers = {"X-Repo-Commit": commit, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        if len(data) >= LARGE:
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        status, first = 200, 0
        if asked := self.headers.get("Range"):
            first = int(asked.removeprefix("bytes=").partition("-")[0])
            status = 206
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self._send(status, data[first:], headers, cut=file in self.server.cut)

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(
            status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def _send(
        self, status: int, data: bytes, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.server.half_sent.set()
            self.server.let_go.wait(60)
            self.close_connection = True
            return
        self.wfile.write(data)


def _sibling(name: str, data: bytes) -> dict[str, Any]:
    entry = _tree_entry(name, data)
    return {
        "rfilename": name,
        "size": entry["size"],
        "blobId": entry["oid"],
        **({"lfs": entry["lfs"]} if "lfs" in entry else {}),
    }


def _tree_entry(name: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": digest_of(data)}
    if len(data) >= LARGE:
        pointer = f"pointer to {digest_of(data)}".encode()
        entry["oid"] = hashlib.sha1(pointer).hexdigest()
        entry["lfs"] = {
            "oid": digest_of(data),
            "sha256": digest_of(data),
            "size": len(data),
            "pointerSize": len(pointer),
        }
    return entry

"""Repositories on a model hub: told of before they are downloaded, and checked when they are there.

huggingface_hub's own client compares the size of what it downloaded over HTTP, and not its hash. So every
file is hashed here, once, and compared with what the hub said of it: the SHA-256 of files in LFS, git's SHA-1
of the others. What was found is kept beside the files in the hub's cache, for runs without a connection.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clip_feature_codec.errors import HubError, reason
from clip_feature_codec.files import write_atomic
from clip_feature_codec.names import CARD_FILE, HUB_NAME

log = logging.getLogger(__name__)

_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256_DIGITS = 64
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_BLOCK = 1 << 20


class RemoteFile(NamedTuple):
    """What the hub says of a file: its size in bytes, and its SHA-256 or git's SHA-1 in hex."""

    size: int
    digest: str


@dataclass(frozen=True)
class Repository:
    """A model's repository at one commit; made by `look`.

    Attributes:
        name: ``user/name``.
        commit: 40 hex digits.
        files: what is in it, by name.
        revision: what was asked for: a branch, a tag, or the commit itself.
        cache: the hub's cache, a folder.
        token: that of the user; None: the one that was stored at login.
        offline: nothing is to be downloaded.
    """

    name: str
    commit: str
    files: Mapping[str, RemoteFile]
    revision: str
    cache: Path
    token: str | bool | None = None
    offline: bool = False

    @property
    def pinned(self) -> str:
        """The name that always means this commit: ``user/name@`` and its hash."""
        return f"{self.name}@{self.commit}"

    @property
    def folder(self) -> Path:
        """Where its files are, once they are downloaded."""
        return _storage(self.name, self.cache) / "snapshots" / self.commit

    def require_safe(self, folder: str = "") -> None:
        """Refuse a folder of it whose weights are pickles only.

        Args:
            folder: its name with a slash at the end; empty for the repository's own.

        Raises:
            HubError: there are pickles, and no safetensors beside them.
        """
        beside = [name for name in self.files if name.rpartition("/")[0] == folder.rstrip("/")]
        pickles = [name for name in beside if name.endswith(_PICKLES)]
        if pickles and not any(name.endswith(".safetensors") for name in beside):
            raise HubError(
                f"{self.name}: its weights are a pickle ({pickles[0]}), which can run anything when it is "
                "loaded; from a hub, only safetensors are taken"
            )

    def download(self, wanted: Iterable[str]) -> Path:
        """Bring files into the cache, those that are not in it, and check all of them.

        Args:
            wanted: names in ``files``.

        Returns:
            The folder that holds them by their names.

        Raises:
            HubError: they cannot be had, or one is not what the hub says that it is: that one is deleted.
        """
        names = sorted(wanted)
        missing = [name for name in names if not (self.folder / name).is_file()]
        if missing:
            self._fetch(missing)
        self._check(names)
        return self.folder

    def _fetch(self, missing: list[str]) -> None:
        from huggingface_hub import snapshot_download

        if self.offline:
            raise HubError(
                f"{self.name}: {len(missing)} of its files are not in the cache ({self.cache}), the first is "
                f"{missing[0]}; nothing is downloaded offline"
            )
        blobs = _storage(self.name, self.cache) / "blobs"
        new = [self.files[name].size for name in missing if not (blobs / self.files[name].digest).is_file()]
        count = f"{len(new)} file{'s' if len(new) != 1 else ''}"
        log.info("downloading %s: %s, %s, into %s", self.pinned, count, _size(sum(new)), self.cache)
        with _in_one_line(self.name, self.commit):
            snapshot_download(
                self.name,
                revision=self.commit,
                cache_dir=self.cache,
                token=self.token,
                allow_patterns=[_literally(name) for name in missing],
            )

    def _check(self, names: list[str]) -> None:
        """Hash what has not been hashed since it was written."""
        known = _read_record(self.name, self.commit, self.cache)
        checked = dict(known.checked) if known else {}
        for name in names:
            path = self.folder / name
            stamp = path.stat().st_mtime_ns
            if checked.get(name) == stamp:
                continue
            expected = self.files[name].digest
            found = _digest(path, len(expected)) if expected else ""
            if found != expected:
                path.resolve().unlink()
                path.unlink(missing_ok=True)
                raise HubError(
                    f"{self.name}: {name} was damaged on its way: its hash is {found}, expected {expected}; "
                    "it was deleted, nothing of it was used: run the same command again"
                )
            checked[name] = stamp
        record = _Record(self.files, checked)
        if record != known:
            self._note(record)

    def _note(self, record: _Record) -> None:
        """Keep what was found, and what commit the revision is: asked by commit, the client does not."""
        with suppress(OSError):  # in a cache that cannot be written, files are hashed each time
            data = json.dumps(record._asdict()).encode()
            write_atomic(_record_file(self.name, self.commit, self.cache), data)
            if self.revision != self.commit:
                write_atomic(_storage(self.name, self.cache) / "refs" / self.revision, self.commit.encode())


def look(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Repository:
    """See what is in a repository, without downloading any of its files.

    A commit that has been looked at before is not asked for again; where the hub cannot be reached, the last
    one that was downloaded is taken.

    Args:
        name: ``user/name``, or ``user/name@revision``.
        revision: branch, tag or commit, where the name does not have one; by default ``main``.
        cache_dir: the hub's cache; by default that of all programs (``HF_HUB_CACHE``).
        token: that of the user; None: the one that was stored at login.
        local_files_only: nothing is asked of the network, as with ``HF_HUB_OFFLINE=1``.

    Raises:
        HubError: there is no such repository or revision, it may not be read, or it cannot be had now.
    """
    from huggingface_hub import HfApi, constants

    found = re.fullmatch(HUB_NAME, name)
    if found is None:
        raise HubError(f"{name!r} is no name on a hub: they are like user/name, or user/name@revision")
    name, wanted = found["name"], found["revision"] or revision or constants.DEFAULT_REVISION
    cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    offline = local_files_only or constants.HF_HUB_OFFLINE
    cached = _cached(name, wanted, cache, token, offline)
    if cached and (offline or cached.commit == wanted):
        return cached
    if offline:
        raise HubError(
            f"{name} is neither here nor, as {wanted}, in the cache ({cache}); nothing is downloaded offline"
        )
    try:
        with _in_one_line(name, wanted):
            info = HfApi(token=token).model_info(name, revision=wanted, files_metadata=True)
    except _UnreachableError as error:
        if cached is None:
            raise
        log.warning("%s; taking what is in the cache, commit %s", error, cached.commit)
        return cached
    files = {
        file.rfilename: RemoteFile(file.size or 0, file.lfs.sha256 if file.lfs else file.blob_id or "")
        for file in info.siblings or ()
    }
    return Repository(name, str(info.sha), files, wanted, cache, token)


def upload(
    folder: Path,
    name: str,
    *,
    message: str,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
) -> str:
    """Put the files of a folder into a repository, in one commit.

    Args:
        folder: what is uploaded. A model card that the repository has already stays as it is.
        name: ``user/name``; made if it is not there.
        message: of the commit.
        private: of a repository that is made; by default what the user's settings say.
        token: that may write; None: the one that was stored at login.
        revision: branch, made if it is not there; by default ``main``.

    Returns:
        ``user/name@commit``.

    Raises:
        HubError: the hub cannot be reached, or does not allow it.
    """
    from huggingface_hub import HfApi, constants

    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    log.info("uploading %d files, %s, to %s/%s", len(sizes), _size(sum(sizes)), constants.ENDPOINT, name)
    api = HfApi(token=token)
    with _in_one_line(name, revision or constants.DEFAULT_REVISION):
        api.create_repo(name, private=private, exist_ok=True)
        if revision:
            api.create_branch(name, branch=revision, exist_ok=True)
        known = api.file_exists(name, CARD_FILE, revision=revision)
        done = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message=message,
            revision=revision,
            ignore_patterns=[CARD_FILE] if known else None,
        )
    return f"{name}@{done.oid}"


class _UnreachableError(HubError):
    """The hub cannot be asked."""


@contextmanager
def _in_one_line(name: str, revision: str) -> Iterator[None]:
    """Say in one line what the hub's client raises, whatever the library behind it calls it."""
    from huggingface_hub import constants
    from huggingface_hub import errors as client

    place = f"{constants.ENDPOINT}/{name}"
    try:
        yield
    except client.GatedRepoError:
        raise HubError(
            f"{name}: ask for access at {place} and log in (hf auth login), then try again"
        ) from None
    except client.RepositoryNotFoundError:
        raise HubError(
            f"{name} is neither here nor at {place}; if it is private, log in (hf auth login) or give a token"
        ) from None
    except client.RevisionNotFoundError:
        raise HubError(f"{name} has no revision {revision!r} at {place}") from None
    except client.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "unknown")
        way_out = "; log in with a token that may do this (hf auth login)" if status in (401, 403) else ""
        raise _UnreachableError(f"{name}: {place} answers with status {status}{way_out}") from None
    except Exception as error:  # what there is depends on the client's version
        raise _UnreachableError(f"{name}: {place} cannot be reached: {reason(error)}") from error


class _Record(NamedTuple):
    """What is kept of a commit: what the hub said of it, and when each file was written that was checked."""

    files: Mapping[str, RemoteFile]
    checked: Mapping[str, int]


def _storage(name: str, cache: Path) -> Path:
    from huggingface_hub.file_download import repo_folder_name

    return cache / repo_folder_name(repo_id=name, repo_type="model")


def _record_file(name: str, commit: str, cache: Path) -> Path:
    return _storage(name, cache) / "checked" / f"{commit}.json"


def _cached(
    name: str, revision: str, cache: Path, token: str | bool | None, offline: bool
) -> Repository | None:
    """A revision as it was when it was downloaded last; None where it never was."""
    storage = _storage(name, cache)
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = (storage / "refs" / revision).read_text("utf-8").strip()
        except OSError:
            return None
    record = _read_record(name, commit, cache)
    folder = storage / "snapshots" / commit
    if record is None and folder.is_dir():  # another program has downloaded it
        files = [path for path in folder.rglob("*") if path.is_file()]
        known = {path.relative_to(folder).as_posix(): _named_by_digest(path) for path in files}
        record = _Record(known, {})
    return Repository(name, commit, record.files, revision, cache, token, offline) if record else None


def _named_by_digest(path: Path) -> RemoteFile:
    """A file in the cache: a link to one that is called by its hash, but on Windows."""
    real = path.resolve()
    return RemoteFile(real.stat().st_size, real.name if re.fullmatch("[0-9a-f]{40,64}", real.name) else "")


def _read_record(name: str, commit: str, cache: Path) -> _Record | None:
    try:
        data = json.loads(_record_file(name, commit, cache).read_bytes())
        files = {name: RemoteFile(int(size), str(digest)) for name, (size, digest) in data["files"].items()}
        return _Record(files, {name: int(stamp) for name, stamp in data["checked"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(path: Path, digits: int) -> str:
    """SHA-256 of a file, or what git calls it by, by the number of hex digits that are wanted."""
    if digits == _SHA256_DIGITS:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _literally(name: str) -> str:
    """A pattern that matches this name alone."""
    return re.sub(r"([\[*?])", r"[\1]", name)


def _size(count: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"

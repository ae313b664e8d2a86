"""Repositories on a model hub: told of before they are downloaded, and checked when they are there.

huggingface_hub's own client compares the size of what it downloaded over HTTP, and not its hash. So every
file is hashed here, once, and compared with what the hub said of it: the SHA-256 of files in LFS, git's SHA-1
of the others. What was found is kept beside the files in the hub's cache, for runs without a connection.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clip_feature_codec.errors import HubError
from clip_feature_codec.hub.cache import CachedCommit, Record, RemoteFile, digest_of
from clip_feature_codec.hub.client import UnreachableError, in_one_line, readable_size
from clip_feature_codec.names import HUB_NAME

log = logging.getLogger(__name__)

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


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
        return self._cached.folder

    @property
    def _cached(self) -> CachedCommit:
        return CachedCommit(self.cache, self.name, self.commit)

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
        new = [self.files[name].size for name in missing if not self._cached.holds(self.files[name].digest)]
        count = f"{len(new)} file{'s' if len(new) != 1 else ''}"
        log.info("downloading %s: %s, %s, into %s", self.pinned, count, readable_size(sum(new)), self.cache)
        with in_one_line(self.name, self.commit):
            snapshot_download(
                self.name,
                revision=self.commit,
                cache_dir=self.cache,
                token=self.token,
                allow_patterns=[_literally(name) for name in missing],
            )

    def _check(self, names: list[str]) -> None:
        """Hash what has not been hashed since it was written."""
        known = self._cached.own_record()
        checked = dict(known.checked) if known else {}
        for name in names:
            path = self.folder / name
            stamp = path.stat().st_mtime_ns
            if checked.get(name) == stamp:
                continue
            expected = self.files[name].digest
            found = digest_of(path, len(expected)) if expected else ""
            if found != expected:
                path.resolve().unlink()
                path.unlink(missing_ok=True)
                raise HubError(
                    f"{self.name}: {name} was damaged on its way: its hash is {found}, expected {expected}; "
                    "it was deleted, nothing of it was used: run the same command again"
                )
            checked[name] = stamp
        record = Record(self.files, checked)
        if record != known:
            self._cached.note(record, self.revision)


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
        HubError: there is no such repository or revision, it may not be read, or it cannot be had now; or a
            file of it has a name that leads out of it.
    """
    from huggingface_hub import HfApi, constants

    found = re.fullmatch(HUB_NAME, name)
    if found is None:
        raise HubError(f"{name!r} is no name on a hub: they are like user/name, or user/name@revision")
    name, wanted = found["name"], found["revision"] or revision or constants.DEFAULT_REVISION
    cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    offline = local_files_only or constants.HF_HUB_OFFLINE
    cached = _downloaded(name, wanted, cache, token, offline)
    if cached and (offline or cached.commit == wanted):
        return cached
    if offline:
        raise HubError(
            f"{name} is neither here nor, as {wanted}, in the cache ({cache}); nothing is downloaded offline"
        )
    try:
        with in_one_line(name, wanted):
            info = HfApi(token=token).model_info(name, revision=wanted, files_metadata=True)
    except UnreachableError as error:
        if cached is None:
            raise
        log.warning("%s; taking what is in the cache, commit %s", error, cached.commit)
        return cached
    files = {
        file.rfilename: RemoteFile(file.size or 0, file.lfs.sha256 if file.lfs else file.blob_id or "")
        for file in info.siblings or ()
    }
    for file in files:  # or what is there would be taken for a damaged download, and deleted
        if Path(file).anchor or ".." in Path(file).parts:
            raise HubError(f"{name}: the name {file!r} leads out of the repository")
    return Repository(name, str(info.sha), files, wanted, cache, token)


def _downloaded(
    name: str, revision: str, cache: Path, token: str | bool | None, offline: bool
) -> Repository | None:
    """A revision as it was when it was downloaded last; None where it never was."""
    commit = CachedCommit.find(cache, name, revision)
    record = commit.record() if commit else None
    if commit is None or record is None:
        return None
    return Repository(name, commit.commit, record.files, revision, cache, token, offline)


def _literally(name: str) -> str:
    """A pattern that matches this name alone."""
    return re.sub(r"([\[*?])", r"[\1]", name)

"""A folder to a repository on a hub."""

from __future__ import annotations

import logging
from pathlib import Path

from clip_feature_codec.hub.client import in_one_line, readable_size
from clip_feature_codec.names import CARD_FILE

log = logging.getLogger(__name__)


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
    log.info(
        "uploading %d files, %s, to %s/%s", len(sizes), readable_size(sum(sizes)), constants.ENDPOINT, name
    )
    api = HfApi(token=token)
    with in_one_line(name, revision or constants.DEFAULT_REVISION):
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

"""The hub's cache on disk: `models--OWNER--NAME/snapshots/REVISION/FILE`, each a link to a blob of the same cache.

Rules: what lies in such a folder comes from the repository and revision that the folder's name says, and its links may lead to
blobs of that repository's cache and nowhere else.
"""

import re
from pathlib import Path

_FOLDER = re.compile(r"(?:models|datasets)--([A-Za-z0-9_.-]+?)--([A-Za-z0-9_.-]+)")
_REVISION = re.compile(r"[0-9a-f]{40}")


def cache_of(path: Path) -> Path | None:
    """Return the repository's cache folder that *path* (a snapshot, or what is below one) lies in, None outside of one."""
    for folder in (path, *path.parents):
        snapshots = folder.parent
        if snapshots.name == "snapshots" and _FOLDER.fullmatch(snapshots.parent.name) and _REVISION.fullmatch(folder.name):
            return snapshots.parent
    return None


def origin_of(path: Path) -> tuple[str, str] | None:
    """Return repository and revision that *path* lies in the cache of, None outside of one."""
    cache = cache_of(path)
    if cache is None:
        return None
    named = _FOLDER.fullmatch(cache.name)
    revision = path.relative_to(cache / "snapshots").parts[0]
    return (f"{named[1]}/{named[2]}", revision) if named else None

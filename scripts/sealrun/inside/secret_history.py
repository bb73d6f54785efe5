"""git's history as bytes: every object that the tips reach, once.

Rules: the tips are named by the caller, so a repository that is committed to meanwhile changes nothing; git runs with nobody's
configuration and fetches nothing; what git cannot read ends the program.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

KEPT = 32 * 1024 * 1024  # bytes of an object that are kept in memory
AHEAD = 24  # ids: twice as many fit in the smallest pipe, else git and we would wait for each other
_STOPPED = "scan_secrets: git stopped in the middle of an object; run `git fsck`"
PIECE = 1024 * 1024


class Item(NamedTuple):
    """A blob, commit or tag: its id, kind, size, and the first name it is reached by."""

    oid: str
    kind: str
    size: int
    name: str


class Repository:
    """One repository, read by git itself."""

    def __init__(self, git: str, root: str, scratch: Path) -> None:
        self.scratch = scratch
        self.reader: subprocess.Popen[bytes] | None = None  # of this process; ends when it does
        (scratch / ".gitconfig").write_text("[safe]\n\tdirectory = *\n", "utf-8")
        self.argv = (git, "-C", root, "-c", "core.fsmonitor=false", "--no-replace-objects")
        self.environment = {
            "PATH": os.defpath, "HOME": str(scratch), "LC_ALL": "C", "GIT_CONFIG_GLOBAL": str(scratch / ".gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0",
        }  # fmt: skip

    def start(self, *arguments: str, stdin: int | IO[bytes] = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """Start git."""
        return subprocess.Popen(
            [*self.argv, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.environment,
            bufsize=PIECE,
        )  # fmt: skip

    def objects(self, tips: Sequence[str], since: str) -> list[Item]:
        """Return every blob, commit and tag that *tips* reach, those that *since* reaches aside."""
        with tempfile.TemporaryFile(dir=self.scratch) as wanted:
            wanted.write("\n".join([*tips, *([f"^{since}"] if since else []), ""]).encode())
            wanted.seek(0)
            listing = self.start("rev-list", "--objects", "--stdin", stdin=wanted)
            assert listing.stdout
            check = self.start(
                "cat-file", "--batch-check=%(objecttype) %(objectname) %(objectsize) %(rest)", "--buffer", stdin=listing.stdout
            )
            assert check.stdout
            found = [item for line in check.stdout if (item := self.item(line.rstrip(b"\n")))]
            if check.wait() or listing.wait():
                raise SystemExit("scan_secrets: git cannot list the history; run `git fsck`, or fetch what is missing")
        return found

    @staticmethod
    def item(line: bytes) -> Item | None:
        """Return what *line* of git's listing is about, None for a folder."""
        kind, oid, size, *name = line.split(b" ", 3)
        if oid in (b"missing",) or kind not in (b"blob", b"tree", b"commit", b"tag"):
            raise SystemExit(
                "scan_secrets: an object of the history is missing; fetch it (`git fetch --refetch`) or mend the repository"
            )
        shown = name[0].decode("utf-8", "backslashreplace") if name else ""
        return None if kind == b"tree" else Item(oid.decode(), kind.decode(), int(size), shown)

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes | IO[bytes]]]:
        """Yield each object with its bytes, of a large one a stream; of commits and tags the message alone."""
        if self.reader is None:
            self.reader = self.start("cat-file", "--batch")
        source, wanted = self.reader.stdout, self.reader.stdin
        assert source
        assert wanted
        ids = [item.oid.encode() + b"\n" for item in items]
        for number, item in enumerate(items):
            if number % AHEAD == 0:
                wanted.write(b"".join(ids[number + AHEAD if number else 0 : number + 2 * AHEAD]))
                wanted.flush()
            head = source.readline().split()
            if len(head) != 3:
                raise SystemExit("scan_secrets: git cannot read an object of the history; run `git fsck`")
            size = int(head[2])
            if size > KEPT:
                yield item, self.spooled(source, size)
            else:
                data = source.read(size)
                if len(data) < size:
                    raise SystemExit(_STOPPED)
                yield item, data if item.kind == "blob" else data.partition(b"\n\n")[2]
            source.read(1)

    def spooled(self, source: IO[bytes], left: int) -> IO[bytes]:
        """Return the next *left* bytes of *source* as a file that is gone when it is closed."""
        copy = tempfile.TemporaryFile(dir=self.scratch)  # noqa: SIM115 - closed by whom it is given to
        while left:
            data = source.read(min(left, PIECE))
            if not data:
                raise SystemExit(_STOPPED)
            left -= len(data)
            copy.write(data)
        copy.seek(0)
        return copy

    def introduced(self, tips: Sequence[str], since: str, wanted: set[str]) -> dict[str, tuple[int, str, str]]:
        """Return for each wanted blob the first commit that holds it: its place in the order, its id, and the path."""
        end = [f"^{since}"] if since else []
        log = self.start(
            "log", "--reverse", "--topo-order", "--format=%x00%H", "--raw", "--no-abbrev", "--no-renames", "-m", "--root", "-z",
            "--no-show-signature", *tips, *end, "--", stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert log.stdout
        found: dict[str, tuple[int, str, str]] = {}
        commit, order, fields = "", 0, log.stdout.read().split(b"\0")
        for number, field in enumerate(fields):
            text = field.strip(b"\n")
            if text.startswith(b":"):
                oid = text.split()[3].decode()
                if oid in wanted and oid not in found:
                    found[oid] = order, commit, fields[number + 1].decode("utf-8", "backslashreplace")
            elif len(text) in (40, 64) and not text.strip(b"0123456789abcdef"):
                commit, order = text.decode(), order + 1
        if log.wait():
            raise SystemExit("scan_secrets: git cannot read the history; run `git fsck`")
        return found

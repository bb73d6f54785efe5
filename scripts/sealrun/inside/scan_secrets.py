"""Scan files and a git history for secrets and keep what was found as fingerprints. Runs inside the `secrets` environment.

    python scan_secrets.py JOB.json SCRATCH SCAN.json

The job names `files` (`path` to report, `file` to read, `sha256` expected), `policy` (the folder of rules), `allow` (the
entries of its allow list), and where they apply `history` (`root`, `git`, `tips`, `since`), `blobs` (id and path of those to
scan in place of the history), `cache` and `filters` (folders with an earlier run's SCRATCH/cache and SCRATCH/filters),
`pragmas` (whether inline pragmas count) and `filter` (false: no Vectorscan). With `shard` (K and N) only what git's ids put in
the K-th of N equal ranges is scanned, and SCAN.json is what was found there; `parts` are such files of other runs.

Rules: trufflehog3's code decides what a rule matches; every text ends in a canary that the filter must report, so one that
is not read to its end is noticed; nothing this program prints or writes holds a secret, not even when it fails. A fingerprint
is slow to compute (scrypt), so that a weak password cannot be guessed from it cheaply; the cache holds fingerprints alone.
"""

import hashlib
import json
import multiprocessing
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, Self

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from sealrun.inside.secret_engine import Engine, Scanned
from sealrun.inside.secret_filter import CANARY
from sealrun.inside.secret_history import Item, Repository
from sealrun.inside.secret_rules import Rules, load
from sealrun.inside.secret_text import parts, stream_of

REPORTED = 1000  # distinct secrets; a tree with more has failed anyway
WHOLE = 64 * 1024 * 1024  # bytes of a file that are read at once
FOUND = "found.json"  # in the cache: what was found, by content
FEW = 24  # files and objects that are scanned in one process
SMALL = 1024 * 1024  # bytes of a file or object that is read together with others
SHARE = 512  # files or objects handed to a process at once
BATCH = 4 * 1024 * 1024  # bytes that are handed to a process at once

type Entry = dict[str, Any]  # what became of one content: the fields of Scanned


class Scan:
    """One run: the engine, the history, and what is known from an earlier run."""

    def __init__(self, job: dict[str, Any], scratch: Path) -> None:
        self.job, self.scratch = job, scratch
        for name in ("cache", "filters"):
            (scratch / name).mkdir()
        kept = Path(job.get("filters", scratch / "filters")), scratch / "filters"
        self.rules: Rules = load(Path(job["policy"]), filtered=job.get("filter", True), kept=kept)
        self.engine = Engine(self.rules, job["allow"], pragmas=job.get("pragmas", False))
        said = job.get("history")
        self.repository = Repository(said["git"], said["root"], scratch) if said else None
        self.key = hashlib.sha256(json.dumps([self.rules.sha256, job["allow"], job.get("pragmas", False)]).encode()).hexdigest()
        self.cached = self.earlier()
        self.entries: dict[str, Entry] = {}
        self.unreported: set[tuple[int, str]] = set()
        self.partial: set[str] = set()  # the entries that say less than was found

    def earlier(self) -> dict[str, Entry]:
        """Return what earlier runs under the same rules found: the last one here, and the shards."""
        known: dict[str, Entry] = {}
        cached = [str(Path(self.job["cache"], FOUND))] if "cache" in self.job else []
        for path in cached + self.job.get("parts", []):
            try:
                said = json.loads(Path(path).read_bytes())
                known |= said["entries"] if said["key"] == self.key else {}
            except (KeyError, OSError, ValueError, TypeError):
                continue
        return known

    def found(self) -> str:
        """Return what was found, for a later run: entries that are not whole are scanned again."""
        whole = {key: entry for key, entry in self.entries.items() if key not in self.partial}
        return json.dumps({"key": self.key, "entries": whole}, sort_keys=True)

    def is_ours(self, oid: str) -> bool:
        """Return whether what git's id (or a sha256) names is in the shard of this run."""
        number, of = self.job.get("shard", (1, 1))
        return bool(int(oid[:8], 16) * of >> 32 == number - 1)

    def id_of(self, entry: dict[str, str]) -> str:
        """Return git's id of a file, as its blob in the history has it; of one that is too large its sha256."""
        path = Path(entry["file"])
        return git_id(path.read_bytes(), self.job) if path.stat().st_size <= WHOLE else entry["sha256"]

    def file(self, entry: dict[str, str]) -> tuple[str, Scanned]:
        """Return the git id of a file, and what is in it."""
        path = Path(entry["file"])
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            source: Any = stream_of(stream.read()) if size <= WHOLE else stream
            scanned = self.engine.scan(parts(source), entry["path"])
            source.seek(0)
            if hashlib.file_digest(source, "sha256").hexdigest() != entry["sha256"]:
                changed(entry)
            source.seek(0)
            return git_id(source.read(), self.job) if size <= WHOLE else "", scanned

    def blobs(self, items: list[Item]) -> list[tuple[Item, Scanned]]:
        """Return what is in each object of *items*."""
        assert self.repository
        small: list[tuple[Item, bytes]] = []
        found = []
        for item, data in self.repository.read(items):
            if isinstance(data, bytes) and len(data) <= SMALL:
                small.append((item, data))
                continue
            with stream_of(data) if isinstance(data, bytes) else data as stream:
                found.append((item, self.engine.scan(parts(stream), shown(item))))
        scanned = self.engine.scan_all([(data, shown(item)) for item, data in small])
        return [*found, *zip((item for item, _ in small), scanned, strict=True)]

    def files(self, entries: list[dict[str, str]]) -> list[tuple[str, Scanned]]:
        """Return the git id of each file, and what is in it."""
        found: dict[str, tuple[str, Scanned]] = {}
        small: list[tuple[dict[str, str], bytes]] = []
        for entry in entries:
            if Path(entry["file"]).stat().st_size > SMALL:
                found[entry["path"]] = self.file(entry)
                continue
            data = Path(entry["file"]).read_bytes()
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                changed(entry)
            small.append((entry, data))
        scanned = self.engine.scan_all([(data, entry["path"]) for entry, data in small])
        for (entry, data), what in zip(small, scanned, strict=True):
            found[entry["path"]] = git_id(data, self.job), what
        return [found[entry["path"]] for entry in entries]

    def keep(self, fresh: dict[str, Scanned], pool: Any) -> None:
        """Take what was scanned, each secret replaced by its fingerprint."""
        pairs = sorted({(hit.rule, hit.secret) for scanned in fresh.values() for hit in scanned.hits})
        named = [(self.rules.rules[rule].id, secret) for rule, secret in pairs]
        self.unreported |= set(pairs[REPORTED:])
        prints = dict(zip(pairs[:REPORTED], pool.map(fingerprint, named[:REPORTED], chunksize=1), strict=True))
        for key, scanned in fresh.items():
            hits = [
                [self.rules.rules[hit.rule].id, hit.line, list(hit.layers), prints[hit.rule, hit.secret]]
                for hit in scanned.hits if (hit.rule, hit.secret) in prints
            ]  # fmt: skip
            if len(hits) < len(scanned.hits):
                self.partial.add(key)
            self.entries[key] = {**scanned._asdict(), "hits": hits, "skipped": [list(pair) for pair in scanned.skipped]}


RUN: Scan


def main(job_file: str, scratch: str, report_file: str) -> None:
    """Scan what the job names and write the report."""
    global RUN
    RUN = Scan(json.loads(Path(job_file).read_bytes()), Path(scratch))
    check_canary(RUN.rules)
    items = [item for item in listed(RUN) if RUN.is_ours(item.oid)]
    if "shard" in RUN.job:
        RUN.job["files"] = [entry for entry in RUN.job["files"] if RUN.is_ours(RUN.id_of(entry))]
    few = len(items) + len(RUN.job["files"]) <= FEW
    with Here() if few else multiprocessing.Pool(len(os.sched_getaffinity(0))) as pool:
        keys = scan_files(RUN, pool)
        scan_history(RUN, items, pool)
    Path(scratch, "cache", FOUND).write_text(RUN.found(), "utf-8")
    if "shard" in RUN.job:
        Path(report_file).write_text(RUN.found(), "utf-8")
        return
    report = reported(RUN, keys, items)
    Path(report_file).write_text(json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


class Here:
    """What a pool does, done in this process: quicker where there is little to do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @staticmethod
    def imap[A, R](work: Callable[[A], R], arguments: Iterable[A], chunksize: int = 1) -> Iterable[R]:
        return [work(argument) for argument in arguments]

    map = imap


def listed(run: Scan) -> list[Item]:
    """Return the objects of the history, or the blobs that the job names."""
    if run.repository is None:
        return []
    if "blobs" in run.job:
        return [Item(oid, "blob", 0, path) for oid, path in run.job["blobs"]]
    return run.repository.objects(run.job["history"]["tips"], run.job["history"]["since"])


def scan_files(run: Scan, pool: Any) -> dict[str, str]:
    """Scan the files of the job; return for each path the key of its entry."""
    keys = {entry["path"]: f"{entry['sha256']} {run.engine.scope(entry['path'])}" for entry in run.job["files"]}
    once = {keys[entry["path"]]: entry for entry in run.job["files"]}
    run.entries |= {key: run.cached[key] for key in once if key in run.cached}
    todo = [(key, entry) for key, entry in sorted(once.items()) if key not in run.entries]
    fresh = {}
    ids = {}
    shares = shared([entry for _, entry in todo], [Path(entry["file"]).stat().st_size for _, entry in todo])
    done = [pair for share in pool.imap(some_files, shares) for pair in share]
    for (key, entry), (oid, scanned) in zip(todo, done, strict=True):
        fresh[key] = scanned
        ids[key] = f"{oid} {run.engine.scope(entry['path'])}" if oid else ""
    run.keep(fresh, pool)
    for key, same in ids.items():
        if same:
            run.entries[same] = run.entries[key]
            if key in run.partial:
                run.partial.add(same)
    return keys


def scan_history(run: Scan, items: list[Item], pool: Any) -> None:
    """Scan the objects of the history that no file of the tree and no earlier run answers for."""
    keys = {item: f"{item.oid} {run.engine.scope(shown(item))}" for item in items}
    run.entries |= {key: run.cached[key] for key in keys.values() if key in run.cached}
    once = {keys[item]: item for item in reversed(items) if keys[item] not in run.entries}
    todo = sorted(once.values(), key=lambda item: item.name)  # git keeps versions of one file as differences: near is quick
    shares = shared(todo, [item.size for item in todo])
    found = [pair for share in pool.imap(some_blobs, shares) for pair in share]
    run.keep({keys[item]: scanned for item, scanned in found}, pool)


def shared[T](things: list[T], sizes: list[int]) -> list[list[T]]:
    """Return *things* in shares of about BATCH bytes, at most SHARE of them."""
    shares: list[list[T]] = []
    room = 0
    for thing, size in zip(things, sizes, strict=True):
        if room <= 0 or len(shares[-1]) == SHARE:
            shares.append([])
            room = BATCH
        shares[-1].append(thing)
        room -= size
    return shares


def some_files(entries: list[dict[str, str]]) -> list[tuple[str, Scanned]]:
    return told(RUN.files, entries)


def some_blobs(items: list[Item]) -> list[tuple[Item, Scanned]]:
    return told(RUN.blobs, items)


def told[A, R](work: Callable[[A], R], argument: A) -> R:
    """Do the work; what goes wrong is told without the values that a message might repeat."""
    try:
        return work(argument)
    except BaseException as error:  # noqa: BLE001 - a pool hands over exceptions, not ends
        raise RuntimeError(words(error)) from None


def shown(item: Item) -> str:
    """Return the path of a blob; messages have none."""
    return item.name if item.kind == "blob" else ""


def git_id(data: bytes, job: dict[str, Any]) -> str:
    """Return the id that git gives *data*, in the kind of digest that the history uses."""
    tips = (job.get("history") or {}).get("tips") or [""]
    maker = hashlib.sha256 if len(tips[0]) == 64 else hashlib.sha1
    return maker(b"blob %d\0" % len(data) + data).hexdigest()


def reported(run: Scan, keys: dict[str, str], items: list[Item]) -> dict[str, Any]:
    """Return the report."""
    files = [(path, run.entries[key]) for path, key in sorted(keys.items())]
    past = [(item, run.entries[f"{item.oid} {run.engine.scope(shown(item))}"]) for item in items]
    sums = {name: total(entry[name] for _, entry in files) for name in ("aside", "allowed")}
    digests = {entry["path"]: entry["sha256"] for entry in run.job["files"]}
    return {
        "format": "sealrun/secret-scan-v3",
        "rules": len(run.rules.rules),
        "rules_sha256": run.rules.sha256,
        "scanned": [
            {"path": path, "sha256": digests[path], "read_as": entry["read_as"], "members": entry["members"],
             "decoded": entry["decoded"], "skipped": dict(entry["skipped"])}
            for path, entry in files
        ],
        "history": in_history(past) if run.repository else None,
        "findings": findings(run, files, past),
        "unreported": len(run.unreported),
        "aside": sums["aside"],
        "allowlisted": {entry["id"]: sums["allowed"].get(entry["id"], 0) for entry in run.job["allow"]},
        "pragmas": pragmas(files, past),
    }  # fmt: skip


def in_history(past: list[tuple[Item, Entry]]) -> dict[str, Any]:
    """Return how much of the history was scanned, by kind, and what was not."""
    kinds = Counter(item.kind for item, _ in past)
    skipped = {f"{item.name}{member}": reason for item, entry in past for member, reason in entry["skipped"]}
    decoded = total(entry["decoded"] for _, entry in past)
    return {
        **{f"{kind}s": kinds[kind] for kind in ("blob", "commit", "tag")},
        "scanned": len(past), "decoded": decoded, "skipped": skipped,
    }  # fmt: skip


def pragmas(files: list[tuple[str, Entry]], past: list[tuple[Item, Entry]]) -> list[dict[str, Any]]:
    """Return where an inline comment takes a finding: in the tree, and where it stands in the history alone."""
    tree = {(path, line) for path, entry in files for line in entry["pragmas"]}
    older = {(shown(item), line) for item, entry in past for line in entry["pragmas"]} - tree
    places = [*((*place, "tree") for place in tree), *((*place, "history") for place in older)]
    ordered = sorted(places, key=lambda place: (place[0], place[1] or 0, place[2]))
    return [dict(zip(("path", "line", "where"), place, strict=True)) for place in ordered]


def total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Return the sum of *counts*."""
    summed: Counter[str] = Counter()
    for count in counts:
        summed.update(count)
    return dict(sorted(summed.items()))


def findings(run: Scan, files: list[tuple[str, Entry]], past: list[tuple[Item, Entry]]) -> list[dict[str, Any]]:
    """Return every finding: in the tree each at its place, those of the history alone where they came in."""
    holders: dict[tuple[str, str], list[Item]] = {}
    for item, entry in past:
        for rule, _, _, mark in entry["hits"]:
            holders.setdefault((rule, mark), []).append(item)
    wanted = {item.oid for found in holders.values() for item in found if item.kind == "blob"}
    origin = (
        run.repository.introduced(run.job["history"]["tips"], run.job["history"]["since"], wanted)
        if run.repository and wanted and "blobs" not in run.job
        else {}
    )
    models = {rule.id: rule for rule in reversed(run.rules.rules)}
    known = {(hit[0], hit[3]) for _, entry in files for hit in entry["hits"]}
    found = [
        told_of(models, hit, path, commit_of(holders.get((hit[0], hit[3]), []), origin), "tree")
        for path, entry in files
        for hit in entry["hits"]
    ]
    for key, items in holders.items():
        if key in known:
            continue
        item = min(items, key=lambda one: (origin.get(one.oid, (0 if one.kind != "blob" else len(origin), "", ""))[0], one.oid))
        entry = next(entry for other, entry in past if other is item)
        hit = next(hit for hit in entry["hits"] if (hit[0], hit[3]) == key)
        if item.kind == "blob":
            found.append(
                told_of(models, hit, origin.get(item.oid, (0, "", item.name))[2], commit_of([item], origin), "history")
            )
        else:
            found.append(told_of(models, hit, f"{item.kind} message", item.oid, "message"))
    return sorted(found, key=lambda one: (one["path"], one["line"] or 0, one["rule"], one["fingerprint"]))


def commit_of(items: list[Item], origin: dict[str, tuple[int, str, str]]) -> str | None:
    """Return the first commit that holds one of *items*."""
    return min((origin[item.oid] for item in items if item.oid in origin), default=(0, None, ""))[1]


def told_of(models: dict[str, Any], hit: list[Any], path: str, commit: str | None, where_found: str) -> dict[str, Any]:
    """Return one finding."""
    rule, line, layers, mark = hit
    model = models[rule].model
    return {
        "rule": rule, "message": model.message, "severity": str(model.severity).lower(), "path": path, "line": line,
        "commit": commit, "layers": layers, "where": where_found, "fingerprint": mark,
    }  # fmt: skip


def check_canary(rules: Rules) -> None:
    """End the program unless trufflehog3's code reports what it must."""
    key = CANARY.decode().strip()
    if not any(match.secret == key for rule in rules.rules if rule.id == "amazon.aws-api-key" for match in rule.matches(key)):
        give_up("trufflehog3 did not report the canary, so it cannot be trusted with the rest")


def fingerprint(found: tuple[str, str]) -> str:
    """Return the fingerprint of a (rule, secret) pair; about 50 ms and 16 MB, wherever the secret stands."""
    rule, secret = found
    salt = b"sealrun secret fingerprint 1\0" + rule.encode()
    return "scrypt:" + hashlib.scrypt(secret.encode("utf-8", "backslashreplace"), salt=salt, n=2**14, r=8, p=1, dklen=16).hex()


def changed(entry: dict[str, str]) -> NoReturn:
    give_up(f"{entry['path']}: changed while it was scanned; run the stage again")


def give_up(why: str) -> NoReturn:
    raise SystemExit(f"scan_secrets: {why}")


def words(error: BaseException) -> str:
    """Return what we said ourselves, else what kind of error it is and where; never words that may repeat a secret."""
    if isinstance(error, SystemExit | RuntimeError) and str(error).startswith("scan_secrets: "):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"scan_secrets: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}"


def silence(scratch: str) -> int:
    """Send what this process and its children print into SCRATCH; return a descriptor of the real standard error."""
    kept = os.dup(2)
    log = os.open(Path(scratch, "trufflehog3.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return kept


if __name__ == "__main__":
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"  # trufflehog3 looks for git when it is imported; it is not asked to use it
    out = silence(sys.argv[2])
    try:
        main(*sys.argv[1:])
    except BaseException as error:  # noqa: BLE001 - its words may repeat a secret: only our own are told, else the place
        os.write(out, f"{words(error)}\n".encode("utf-8", "backslashreplace"))
        os._exit(1)

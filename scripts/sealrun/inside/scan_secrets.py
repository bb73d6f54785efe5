"""Run trufflehog3 over files and keep what it found as fingerprints. Runs inside the `secrets` environment.

    python scan_secrets.py JOB.json SCRATCH SCAN.json

The job names `files` (`path` to report, `file` to read, `sha256` expected) and `allow`, the entries of policy's allow list.

Rules: trufflehog3's own command line does the scanning, under its own rules, with inline pragmas and configuration files of
the scanned tree ignored; it reads copies, cut at line ends, each of which ends in a canary that it must report, so a piece it
did not read to the end is noticed; its report holds secrets in clear and stays in SCRATCH; nothing this program prints or
writes elsewhere holds one, not even when it fails. A fingerprint is slow to compute (scrypt), so that a weak password cannot
be guessed from it cheaply.
"""

import codecs
import hashlib
import json
import multiprocessing
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

PIECE = 8 * 1024  # characters; trufflehog3's time per finding grows with the file it is in
LONG, OVERLAP = 64 * 1024, 4 * 1024  # a longer line is cut into parts that share so many characters
REPORTED = 1000  # distinct findings; a tree with more has failed anyway
CANARY_RULE, CANARY = "amazon.aws-api-key", "AKIA{:016d}"
STRINGS = re.compile(rb"[\t\x20-\x7e]{6,}|(?:[\t\x20-\x7e]\x00){6,}")

type Hit = tuple[str, str, str, str, int | None, str]  # rule, message, severity, path, line, secret


class Piece(NamedTuple):
    """Some lines of a file: the names it is listed under, the lines, the number of each in the file (None: binary), and the
    line before the first."""

    paths: tuple[str, ...]
    lines: list[str]
    numbers: list[int | None]
    before: str = ""


def main(job_file: str, scratch: str, report_file: str) -> None:
    """Scan the files of the job and write the report."""
    job = json.loads(Path(job_file).read_bytes())
    tree, raw = Path(scratch, "tree"), Path(scratch, "raw.json")
    tree.mkdir()
    scanned: list[dict[str, str]] = []
    pieces: list[Piece] = []
    for sha256, paths, file in distinct(job["files"]):
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            give_up(f"{paths[0]}: changed while it was scanned; run the stage again")
        read_as, text = text_of(data)
        scanned += [{"path": path, "sha256": sha256, "read_as": read_as} for path in paths]
        pieces += pieces_of(paths, text, numbered=read_as != "strings")
    for number, piece in enumerate(pieces):
        Path(tree, f"{number:08d}.txt").write_text(
            "\n".join([*piece.lines, CANARY.format(number)]) + "\n", "utf-8", newline="\n"
        )
    rules = run_trufflehog3(tree, Path(scratch, "config.yml"), raw)
    hits, allowlisted = sort_out(json.loads(raw.read_bytes()), pieces, job["allow"])
    report = {
        "format": "sealrun/secret-scan-v1",
        "rules": rules,
        "rules_sha256": hashlib.sha256(rules_file().read_bytes()).hexdigest(),
        "scanned": sorted(scanned, key=lambda entry: entry["path"]),
        "findings": fingerprinted(sorted(hits)[:REPORTED]),
        "unreported": max(0, len(hits) - REPORTED),
        "allowlisted": allowlisted,
    }
    Path(report_file).write_text(json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def distinct(files: list[dict[str, str]]) -> Iterator[tuple[str, tuple[str, ...], Path]]:
    """Yield each content once: its sha256, every name it has, and one file that holds it."""
    by_digest: dict[str, list[dict[str, str]]] = {}
    for entry in files:
        by_digest.setdefault(entry["sha256"], []).append(entry)
    for sha256, entries in sorted(by_digest.items()):
        yield sha256, tuple(entry["path"] for entry in entries), Path(entries[0]["file"])


def text_of(data: bytes) -> tuple[str, str]:
    """Return how *data* was read, and its text; of a binary file the printable strings, one per line."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", data.decode("utf-16", "replace")
    if b"\0" in data:
        return "strings", b"\n".join(found.replace(b"\0", b"") for found in STRINGS.findall(data)).decode("ascii")
    try:
        return "text", data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "latin-1", data.decode("latin-1")


def pieces_of(paths: tuple[str, ...], text: str, *, numbered: bool) -> Iterator[Piece]:
    """Yield *text* in pieces of whole lines, at least one; trufflehog3 also breaks lines at form feeds and their like."""
    lines: list[str] = []
    numbers: list[int | None] = []
    size, before = 0, ""
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        parts = [part for whole in line.splitlines() or [""] for part in windows(whole)]
        lines += parts
        numbers += [number if numbered else None] * len(parts)
        size += len(line) + 1
        if size >= PIECE:
            yield Piece(paths, lines, numbers, before)
            lines, numbers, size, before = [], [], 0, lines[-1]
    yield Piece(paths, lines, numbers, before)


def windows(line: str) -> list[str]:
    """Return *line*, in overlapping parts when it is long: trufflehog3 repeats the whole line for every finding."""
    return [line[start : start + LONG] for start in range(0, max(1, len(line) - OVERLAP), LONG - OVERLAP)]


def run_trufflehog3(tree: Path, config: Path, raw: Path) -> int:
    """Run trufflehog3's command line on *tree*; its report goes to *raw*. Returns how many rules it has."""
    config.write_text("{}\n", "utf-8")
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"  # no history is read, so git is not needed
    from trufflehog3 import cli, core

    sys.argv = ["trufflehog3", "--no-history", "--ignore-nosecret", "--format", "json", "--output", str(raw),
                "--config", str(config), str(tree)]  # fmt: skip
    try:
        code = cli.run()
    except SystemExit as end:
        give_up(f"trufflehog3 refused its command line ({end.code})")
    if code not in (0, 2):
        give_up(f"trufflehog3 ended with {code}, expected 0 or 2")
    return len(core.load_rules(rules_file()))


def rules_file() -> Path:
    from trufflehog3 import DEFAULT_RULES_FILE

    return Path(DEFAULT_RULES_FILE)


def sort_out(issues: list[dict[str, Any]], pieces: list[Piece], allow: list[dict[str, Any]]) -> tuple[set[Hit], dict[str, int]]:
    """Return the hits, each at its first place in a file, and how many findings each allow entry took.

    Ends the program when a canary is missing.
    """
    canaries: set[int] = set()
    first: dict[tuple[str, str, str], Hit] = {}
    allowlisted = {entry["id"]: 0 for entry in allow}
    for issue in issues:
        number, rule, secret = int(Path(issue["path"]).stem), issue["rule"], issue["secret"]
        piece = pieces[number]
        if int(issue["line"]) > len(piece.lines):
            if rule["id"] == CANARY_RULE and secret == CANARY.format(number):
                canaries.add(number)
            continue
        taken_by: dict[str, None] = {}
        line = first_left(piece, rule["id"], secret, allow, taken_by)
        if line is None:
            allowlisted[next(iter(taken_by))] += len(piece.paths)
            continue
        for path in piece.paths:
            hit = (rule["id"], rule["message"], str(rule["severity"]).lower(), path, piece.numbers[line], secret)
            key = (rule["id"], path, secret)
            first[key] = min(first.get(key, hit), hit, key=lambda entry: entry[4] or 0)
    for number in set(range(len(pieces))) - canaries:
        give_up(f"{pieces[number].paths[0]}: trufflehog3 did not report the canary in it, so it did not read it to the end")
    return set(first.values()), allowlisted


def first_left(piece: Piece, rule: str, secret: str, allow: list[dict[str, Any]], taken_by: dict[str, None]) -> int | None:
    """Return the first line holding *secret* that no allow entry takes, None when all are taken; notes who took them."""
    entries = [e for e in allow if rule in e["rules"] and re.fullmatch(e["secret"], secret)]
    places = [place for place, line in enumerate(piece.lines) if secret in line]
    for place in places:
        before = piece.lines[place - 1] if place else piece.before
        taker = next((e["id"] for e in entries if fits(e, secret, piece.lines[place], before)), None)
        if taker is None:
            return place
        taken_by[taker] = None
    if not places:
        give_up(f"{piece.paths[0]}: trufflehog3 reported text that is not in it")
    return None


def fits(entry: dict[str, Any], secret: str, line: str, before: str) -> bool:
    """Return whether an allow entry takes *secret* in *line*, which follows the line *before*."""
    wanted = entry["line"].replace("SECRET", re.escape(secret))
    return bool(re.search(wanted, line) and re.search(entry["before"], before))


def fingerprinted(hits: list[Hit]) -> list[dict[str, Any]]:
    """Return the hits as report entries, the secret replaced by its fingerprint."""
    secrets = sorted({(rule, secret) for rule, *_, secret in hits})
    with multiprocessing.Pool() as pool:
        prints = dict(zip(secrets, pool.map(fingerprint, secrets, chunksize=1), strict=True))
    entries = [
        {
            "rule": rule, "message": message, "severity": severity, "path": path, "line": line,
            "fingerprint": prints[rule, secret],
        }
        for rule, message, severity, path, line, secret in hits
    ]  # fmt: skip
    return sorted(entries, key=lambda e: (e["path"], e["line"] or 0, e["rule"], e["fingerprint"]))


def fingerprint(found: tuple[str, str]) -> str:
    """Return the fingerprint of a (rule, secret) pair; about 50 ms and 16 MB, wherever the secret stands."""
    rule, secret = found
    salt = b"sealrun secret fingerprint 1\0" + rule.encode()
    return "scrypt:" + hashlib.scrypt(secret.encode(), salt=salt, n=2**14, r=8, p=1, dklen=16).hex()


def give_up(why: str) -> NoReturn:
    raise SystemExit(f"scan_secrets: {why}")


def silence(scratch: str) -> int:
    """Send what this process and its children print into SCRATCH; return a descriptor of the real standard error."""
    kept = os.dup(2)
    log = os.open(Path(scratch, "trufflehog3.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return kept


if __name__ == "__main__":
    out = silence(sys.argv[2])
    try:
        main(*sys.argv[1:])
    except SystemExit as end:
        os.write(out, f"{end.code}\n".encode("utf-8", "backslashreplace"))
        os._exit(1)
    except BaseException as error:  # noqa: BLE001 - a message or a value in it may be a secret: only the place is told
        place = traceback.extract_tb(error.__traceback__)[-1]
        os.write(out, f"scan_secrets: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}\n".encode())
        os._exit(1)

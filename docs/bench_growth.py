"""How the cost of each stage grows: the parts of docs/bench.py that are curves.

Each curve is a stage run on three sizes, a step of about 3.16 apart, so ten times from end to end; the promise is that ten
times the work costs at most eleven times. What starts a stage is in it, as for its user.
"""

import hashlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import measure_certify
import measure_hashing
from bench_ratios import ROOT, Row, checkout, commit, release, run, sealrun, seconds, texts

MOST = 11.0
STEPS = (0.1, 0.316, 1.0)


def measure(quick: bool) -> list[Row]:
    """Return the curves of packages, files, commits, bytes and cases."""
    share = 0.25 if quick else 1.0
    rows = []
    with checkout() as root:
        for name, size, make, stage in (
            ("packages, lock file to SBOM", 400, packages, "sbom"),
            ("packages, audited", 400, packages, "audit"),
            ("files, secret scan", 2000, texts, "secrets"),
            ("commits, secret scan", 2000, commits, "secrets"),
        ):
            rows.append(curve(name, int(size * share), lambda count, make=make, stage=stage: _stage(root, make, stage, count)))
    rows.append(curve("checkpoint, megabytes hashed", int(4000 * share), _hashed))
    rows.append(curve("cases, certified and verified", int(4000 * share), _certified))
    return rows


def curve(name: str, size: int, spent: Callable[[int], float], part: str = "growth") -> Row:
    """Measure *spent* at each step up to *size*."""
    points = tuple((float(count), spent(count)) for count in (max(1, round(size * step)) for step in STEPS))
    shown = ", ".join(f"{count:g}: {taken:.2f} s" for count, taken in points)
    return Row(part=part, name=name, value=points[-1][1] / points[0][1], unit="x", most=MOST, detail=shown, points=points)


def _stage(root: Path, make: Callable[[Path, int], Path], stage: str, count: int) -> float:
    with tempfile.TemporaryDirectory() as name:
        target = make(Path(name).resolve() / "target", count)
        return min(seconds(lambda: sealrun(root, "stage", stage, target, "--fresh", codes=(0, 1))) for _ in range(2))


def packages(folder: Path, count: int) -> Path:
    """A lock of *count* packages that nobody published."""
    folder.mkdir()
    lock = folder / "requirements.txt"
    lines = (f"bench-package-{n}==1.{n} \\\n    --hash=sha256:{hashlib.sha256(b'%d' % n).hexdigest()}\n" for n in range(count))
    lock.write_text("".join(lines), "utf-8")
    return lock


def commits(folder: Path, count: int) -> Path:
    """A repository of *count* commits, each of which changes a file of 2 kB."""
    folder.mkdir()
    run("git", "init", "--quiet", "--initial-branch=main", folder)
    source = (ROOT / "README.md").read_text("utf-8")
    stream = []
    for number in range(count):
        text = f"{number}\n{source[number % 4000 :][:2000]}".encode()
        head = f"commit refs/heads/main\ncommitter Bench <bench@example.invalid> {1767225600 + number} +0000\ndata 1\nx\n"
        stream.append(head.encode() + b"M 100644 inline file-%d.txt\ndata %d\n%s\n" % (number % 20, len(text), text))
    given = folder / "stream"
    given.write_bytes(b"".join(stream))
    run("sh", "-c", "git fast-import --quiet < stream && rm stream && git reset --quiet --hard", cwd=folder)
    return folder


def _hashed(megabytes: int) -> float:
    """Return how long hashing takes without the start of the interpreter, in a file that has holes."""
    code = measure_hashing.OURS.replace("found =", "import time; begun = time.perf_counter(); found =")
    code = code.replace("print(*(entry.sha256 for entry in found), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)",
                        "print(time.perf_counter() - begun)")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "model.safetensors"
        with file.open("wb") as stream:
            stream.truncate(megabytes * 1_000_000)
        return min(
            float(run(sys.executable, "-c", code, file, PYTHONPATH=str(ROOT / "scripts")).stdout.split()[-1]) for _ in range(3)
        )


def _certified(cases: int) -> float:
    """Return the seconds of certify and verify on so many cases, by docs/measure_certify.py."""
    with tempfile.TemporaryDirectory(prefix="sealrun-bench-") as name:
        return sum(measure_certify.measured(Path(name).resolve(), cases))


# Many releases --------------------------------------------------------------------------------------------------------


def fleet(quick: bool) -> list[Row]:
    """Many releases of one baseline: one after the other, and two at a time."""
    count = 4 if quick else 20
    with checkout() as root:
        members = named(root / "examples" / "tiny-lm", count)
        commit(root)
        release(root, f"--config={members[0]}", codes=(0, 1))  # environments are there, records are shared
        grown = curve("releases, a fleet", count, lambda some: _fleet(root, members[:some], 2), part="fleet")
        one = _fleet(root, members, 1)
        two = grown.points[-1][1]
    detail = f"{count} releases: {one:.1f} s / {two:.1f} s"
    return [grown, Row(part="fleet", name="one worker / two", value=one / two, unit="x", least=1.6, detail=detail)]


def named(folder: Path, count: int) -> list[Path]:
    """Write *count* release files beside the example's that differ in name alone."""
    text = (folder / "release.toml").read_text("utf-8")
    made = [folder / f"fleet-{number:02}.toml" for number in range(count)]
    for path in made:
        path.write_text(text.replace('name = "tiny-lm"', f'name = "{path.stem}"'), "utf-8")
    return made


def _fleet(root: Path, members: Sequence[Path], workers: int) -> float:
    return seconds(lambda: sealrun(root, "ci.fleet", *members, f"--workers={workers}", "--fresh", codes=(0, 1)))

"""Sealrun beside plain tools, on the same work: the parts of docs/bench.py that are ratios."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bench_secrets
import measure_hashing

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "tiny-lm"
TOOLS = ("lock", "sbom", "audit", "secrets", "model", "certify", "runtime-onnx")
DAY = "1767225600"  # 2026-01-01


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure. `value` is in `unit`; `most` and `least` are what is promised of it, None where nothing is."""

    part: str
    name: str
    value: float
    unit: str
    detail: str
    most: float | None = None
    least: float | None = None
    points: tuple[tuple[float, float], ...] = ()

    @property
    def holds(self) -> bool:
        """Whether what is promised holds."""
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)

    def line(self) -> str:
        """The line of the table."""
        limits = [
            f"at most {self.most:g}" if self.most is not None else "",
            f"at least {self.least:g}" if self.least is not None else "",
        ]
        promised = " ".join(filter(None, limits)) or "-"
        verdict = "yes" if self.holds else "**no**"
        return f"| {self.name} | {self.value:.2f} {self.unit} | {promised} | {verdict} | {self.detail} |"


def seconds(action: Callable[[], object]) -> float:
    """Return how long *action* takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def run(*argv: str | Path, cwd: Path = ROOT, codes: Sequence[int] = (0,), **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program that must end with one of *codes*."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": DAY, **variables}
    done = subprocess.run([str(word) for word in argv], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        sys.exit(f"{argv[0]}: ended with {done.returncode}, expected one of {codes}\n{done.stderr[-2000:]}")
    return done


def sealrun(root: Path, *arguments: str | Path, codes: Sequence[int] = (0,), **variables: str) -> str:
    """Run a command of the checkout *root* with this interpreter, and return what it said."""
    argv = (sys.executable, "-P", "-m", "sealrun", *arguments, f"--root={root}")
    return run(*argv, cwd=root, codes=codes, PYTHONPATH=str(root / "scripts"), **variables).stderr


def environment(name: str) -> Path:
    """Return the folder of an environment, which must be installed."""
    from sealrun import venvs

    return venvs.existing(ROOT, name).path


def turns(quick: bool, *actions: Callable[[], object], most: int = 3) -> list[float]:
    """Return the best duration of each of *actions*, which take turns."""
    taken = [[seconds(action) for action in actions] for _ in range(1 if quick else most)]
    return [min(each) for each in zip(*taken, strict=True)]


@contextmanager
def checkout(environments: bool = True) -> Iterator[Path]:
    """Yield a checkout of the project as it stands, of one commit, with the installed environments or none."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve() / "sealrun"
        listed = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
        for file in filter(None, listed.split("\0")):
            if (ROOT / file).is_file():
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, root / file)
        if environments:
            (root / ".nox").mkdir()
            (root / ".nox" / "venvs").symlink_to(ROOT / ".nox" / "venvs")
        commit(root)
        yield root


def commit(root: Path) -> None:
    """Commit all of *root*."""
    run("git", "init", "--quiet", "--initial-branch=main", root)
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "exclude").write_text("/.venv\n", "utf-8")  # a link here, a folder for git's list
    run("git", "-C", root, "add", "--all")
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@example.invalid", "-c", "commit.gpgsign=false")
    run("git", "-C", root, *identity, "commit", "--quiet", "--message=as it stands")


def release(root: Path, *options: str | Path, codes: Sequence[int] = (0,)) -> dict[str, object]:
    """Release in the checkout *root* as a user does, and return its `run.json`."""
    # The interpreter of .venv starts nox as `-m nox`; the noxfile would hand over to the checkout's own .venv.
    (root / ".venv").exists() or (root / ".venv").symlink_to(Path(sys.prefix))
    sealrun(root, "release", *options, codes=codes)
    found = max((root / "build").glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    value = json.loads(found.read_bytes())
    assert isinstance(value, dict)
    return value


# The whole pipeline ---------------------------------------------------------------------------------------------------


def unchanged(quick: bool) -> list[Row]:
    """A release where nothing changed."""
    with checkout() as root:
        release(root, codes=(0, 1))
        (best,) = turns(quick, lambda: sealrun(root, "release", codes=(0, 1)), most=5)
        memory = _peak(root)
    return [
        Row(
            part="unchanged",
            name="release, nothing changed",
            value=best,
            unit="s",
            most=1.0,
            detail="best of five, with the start",
        ),
        Row(part="unchanged", name="memory of the runner", value=memory, unit="MB", most=100.0, detail="peak, nothing changed"),
    ]


def _peak(root: Path) -> float:
    """Return the peak memory of an unchanged release, in MB."""
    code = (
        "import resource, sys; from sealrun.__main__ import main; main(['release', '--root=' + sys.argv[1]]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = run(sys.executable, "-c", code, root, cwd=root, PYTHONPATH=str(root / "scripts"))
    return int(done.stdout.split()[-1]) / (1024 if sys.platform == "linux" else 1024**2)


def warm(quick: bool) -> list[Row]:
    """A release that runs every tool again, and the same stages one after the other."""
    with checkout() as root:
        release(root, codes=(0, 1))
        side, one = turns(
            quick,
            lambda: sealrun(root, "release", "--fresh", codes=(0, 1)),
            lambda: sealrun(root, "release", "--fresh", "--jobs=1", codes=(0, 1)),
        )
    return [
        Row(
            part="warm", name="release, every tool run again", value=side, unit="s", most=12.0, detail="environments installed"
        ),
        Row(
            part="warm",
            name="stages one by one / side by side",
            value=one / side,
            unit="x",
            detail=f"{one:.1f} s / {side:.1f} s",
        ),
    ]


def cold(quick: bool) -> list[Row]:
    """A first release with wheels in the caches, beside a script that makes a venv for each tool, one after the other.

    The script's time is that of its installations, by pip or by uv, and of the same stages run one after the other.
    """
    with checkout(environments=False) as root:
        _naive(root, "pip", root / "warm-up")  # so that pip finds all of it in its cache
        ours = seconds(lambda: release(root, codes=(0, 1)))
        stages = seconds(lambda: sealrun(root, "release", "--fresh", "--jobs=1", codes=(0, 1)))
        by_pip = seconds(lambda: _naive(root, "pip", root / "by-pip"))
        by_uv = seconds(lambda: _naive(root, "uv", root / "by-uv"))
    rows = []
    for name, spent, least in (("pip", by_pip, 4.0), ("uv", by_uv, 2.0)):
        detail = f"{spent:.1f} s of installing and {stages:.1f} s of the same stages one by one / {ours:.1f} s"
        rows.append(
            Row(part="cold", name=f"naive {name} script / first release", value=(spent + stages) / ours, unit="x", least=least,
                detail=detail)
        )  # fmt: skip
    return rows


def _naive(root: Path, how: str, folder: Path) -> None:
    """Make a venv for each tool and install its lock into it, as a shell script would."""
    uv = Path(sys.prefix) / "bin" / "uv"
    for name in TOOLS:
        place, lock = folder / name, root / "requirements" / f"{name}.txt"
        if how == "pip":
            run(sys.executable, "-m", "venv", place)
            deps = ("--no-deps",) if name == "secrets" else ()  # its pins override what its tool asks for
            run(place / "bin" / "pip", "install", "--quiet", "--require-hashes", *deps, "--requirement", lock)
        else:
            run(uv, "venv", "--quiet", "--python", sys.executable, place)
            python = place / "bin" / "python"
            run(uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", lock)


# Parts beside the plain tool ------------------------------------------------------------------------------------------


def hashing(quick: bool) -> list[Row]:
    """A checkpoint, beside as many sha256sum processes as there are cores."""
    size = 0.5 if quick else 2.0
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"model-{number}.safetensors" for number in range(measure_hashing.CORES)]
        for file in files:
            with file.open("wb") as stream:
                stream.truncate(int(size * 1e9) // len(files))
        share, memory, _ = measure_hashing.measured([str(file) for file in files])
    return [
        Row(part="hashing", name="sha256sum / hashing a checkpoint", value=share, unit="x", least=0.9, detail=f"{size:g} GB"),
        Row(part="hashing", name="memory of hashing", value=memory, unit="MB", most=100.0, detail=f"{size:g} GB"),
    ]


def bundling(quick: bool) -> list[Row]:
    """An evidence bundle of a thousand members, beside `tar` and `sha256sum` of it."""
    from sealrun.evidence import bundle

    count = 200 if quick else 1000
    members = {f"evidence/part-{number:04}.json": bytes([number % 251]) * 60_000 for number in range(count)}
    members["manifest.json"] = b"{}\n"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for member, data in members.items():
            (folder / member).parent.mkdir(exist_ok=True)
            (folder / member).write_bytes(data)

        def plain() -> None:
            run(
                "tar",
                "--sort=name",
                "--mtime=@0",
                "--owner=0",
                "--group=0",
                "--format=ustar",
                "-cf",
                "plain.tar",
                "evidence",
                cwd=folder,
            )
            run("sha256sum", "plain.tar", cwd=folder)

        def ours() -> None:
            read = {member: (folder / member).read_bytes() for member in members}
            (folder / "ours.tar").write_bytes(bundle.build(read))
            with bundle.opened(folder / "ours.tar") as archive:
                assert len(archive.members) == len(members)

        mine, theirs = turns(quick, ours, plain)
    detail = f"{mine:.2f} s, every member hashed and read back / {theirs:.2f} s"
    return [Row(part="bundling", name="bundling / tar and sha256sum", value=mine / theirs, unit="x", most=3.0, detail=detail)]


def verifying(quick: bool) -> list[Row]:
    """A bundle verified by both verifiers, beside `sha256sum` and `tar --list` of it, which prove nothing."""
    from sealrun.evidence import signers

    known = signers.release_public().fingerprint
    with checkout() as root:
        release(root, codes=(0, 1))
        (tar,) = (root / "build").glob("*/*.evidence.tar")
        theirs, script, whole = turns(
            quick,
            lambda: (run("sha256sum", tar), run("tar", "--list", "--file", tar)),
            lambda: run(sys.executable, "-I", ROOT / "scripts" / "verify_bundle.py", tar, "--fingerprint", known, codes=(0, 1)),
            lambda: sealrun(root, "verify", tar, "--fingerprint", known, codes=(0, 1)),
        )
    detail = f"`invoke verify` {whole:.2f} s; sha256sum and tar {theirs:.2f} s"
    return [Row(part="verifying", name="verify_bundle.py", value=script, unit="s", most=1.0, detail=detail)]


def secrets(quick: bool) -> list[Row]:
    """Python sources, beside the trufflehog3 that our scan has its rules from; docs/bench_secrets.py asks more scanners."""
    bench_secrets.TREE = 2_000_000 if quick else 10_000_000
    program = environment("secrets") / "bin" / "trufflehog3"
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name).resolve() / "tree"
        size = bench_secrets.copy_sources(tree)

        def ours() -> None:
            shutil.rmtree(tree.parent / "out-tree", ignore_errors=True)
            bench_secrets.ours(tree)

        mine, theirs = turns(True, ours, lambda: bench_secrets.trufflehog3(program, tree, False))
    detail = f"{size / 1e6:.0f} MB: {theirs:.1f} s / {mine:.1f} s, start, sandbox and proof of coverage included"
    least = 1.0 if quick else 5.0  # a start is a start
    return [Row(part="secrets", name="trufflehog3 / secret scan", value=theirs / mine, unit="x", least=least, detail=detail)]


def texts(folder: Path, count: int) -> Path:
    """Fill *folder* with *count* text files of 20 kB, which hold no secret."""
    source = (ROOT / "README.md").read_text("utf-8") + (ROOT / "scripts" / "bootstrap.py").read_text("utf-8")
    for number in range(count):
        (folder / f"{number // 100:02}").mkdir(exist_ok=True, parents=True)
        start = 37 * number % (len(source) // 2)
        (folder / f"{number // 100:02}" / f"{number:05}.txt").write_text(source[start : start + 20_000], "utf-8")
    return folder


def sbom(quick: bool) -> list[Row]:
    """An SBOM of one lock, beside cyclonedx-py on it."""
    with checkout() as root:
        lock = root / "requirements" / "audit.txt"
        plain = environment("sbom") / "bin" / "cyclonedx-py"
        mine, theirs = turns(
            quick,
            lambda: sealrun(root, "stage", "sbom", lock, "--fresh", codes=(0, 1)),
            lambda: run(plain, "requirements", "--no-validate", lock),
        )
    detail = f"{mine:.1f} s / {theirs:.1f} s; ours has licences and the tree, and is validated"
    return [Row(part="sbom", name="SBOM stage / cyclonedx-py", value=mine / theirs, unit="x", most=6.0, detail=detail)]


def audit(_quick: bool) -> list[Row]:
    """Ten locks, beside plain pip-audit with the same service, by docs/measure_audit.py."""
    said = run(sys.executable, ROOT / "docs" / "measure_audit.py").stdout
    (mine, theirs), (imported, memory) = (
        [float(number) for number in re.findall(r"([\d.]+) (?:s|MiB)\b", line.split("|")[3])][::step]
        for line, step in zip(said.splitlines(), (1, 2), strict=True)
    )
    detail = f"ten locks of 100 pins: {theirs:.1f} s / {mine:.1f} s"
    return [
        Row(
            part="audit", name="pip-audit, lock by lock / audit stage", value=theirs / mine, unit="x", least=2.0, detail=detail
        ),
        Row(
            part="audit",
            name="memory of an import",
            value=memory,
            unit="MB",
            most=100.0,
            detail=f"30,000 records, {imported:.1f} s",
        ),
    ]

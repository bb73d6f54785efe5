"""Hold the secret scan against others, side by side: what is found, how fast, and whether patched versions change anything.

    INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python docs/bench_secrets.py [corpus] [speed] [same]

Needs the environments secrets and test (`nox -s test` installs both). Installs kingfisher, detect-secrets and trufflehog3, with
its own pins, into a temporary folder. `same --record` writes the recording that a test compares with.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OTHERS = {
    "kingfisher": "kingfisher-bin==2.14.0",
    "detect-secrets": "detect-secrets==1.5.0",
    "trufflehog3": "trufflehog3==3.0.10",
}
TREE, COMMITS = 50_000_000, 5_000  # bytes of sources; commits of the history
Found = set[str]


def main(asked: Sequence[str]) -> int:
    """Run the parts that are asked for, all without a name."""
    sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
    parts = {"corpus": corpus, "speed": speed, "same": same}
    named = [name for name in asked if name in parts] or list(parts)
    with tempfile.TemporaryDirectory() as folder:
        tools = installed(Path(folder))
        return max(parts[name](Path(folder), tools) for name in named)


def installed(folder: Path) -> dict[str, Path]:
    """Install the others, and return where their programs are."""
    uv = Path(sys.executable).parent / "uv"
    for name, wanted in OTHERS.items():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder / name], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", folder / name / "bin" / "python", wanted], check=True)
    return {name: folder / name / "bin" / name for name in OTHERS}


def scanners(tools: dict[str, Path]) -> dict[str, Callable[[Path, bool], Found]]:
    """Return for each scanner what runs it over a folder, with its history where asked, and returns the paths found."""
    return {
        "Sealrun": ours,
        "kingfisher": lambda folder, history: kingfisher(tools["kingfisher"], folder, history),
        "trufflehog3": lambda folder, history: trufflehog3(tools["trufflehog3"], folder, history),
        "detect-secrets": lambda folder, _: detect_secrets(tools["detect-secrets"], folder),
    }


def ours(folder: Path, _history: bool = False) -> Found:
    out = folder.parent / f"out-{folder.name}"
    argv = [sys.executable, "-m", "sealrun", "stage", "secrets", folder, f"--out={out}", f"--root={ROOT}"]
    subprocess.run(argv, check=False, capture_output=True, cwd=ROOT)
    said = json.loads((out / "supply-chain" / "evidence" / "secrets" / "scan.json").read_bytes())
    return {entry["path"].partition("/")[2] for entry in said["findings"]}


def kingfisher(program: Path, folder: Path, history: bool) -> Found:
    argv = [program, "scan", folder, "--no-validate", "--no-update-check", "--format", "json"]
    argv += ["--git-history", "full" if history else "none"]
    done = subprocess.run(argv, check=False, capture_output=True)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    found = [entry for part in said if isinstance(part.get("findings"), list) for entry in part["findings"]]  # else a summary
    return {os.path.relpath(entry["finding"]["path"], folder) for entry in found}


def trufflehog3(program: Path, folder: Path, history: bool) -> Found:
    report = folder.parent / "trufflehog3.json"
    argv = [program, "--format", "JSON", "--output", report, *(["--no-current"] if history else ["--no-history"]), folder]
    subprocess.run(argv, check=False, capture_output=True, cwd=folder.parent)
    return {entry["path"] for entry in json.loads(report.read_bytes())}


def detect_secrets(program: Path, folder: Path) -> Found:
    done = subprocess.run([program, "scan", "--all-files", "."], check=True, capture_output=True, cwd=folder)
    return {path.removeprefix("./") for path in json.loads(done.stdout)["results"]}


def corpus(folder: Path, tools: dict[str, Path]) -> int:
    """Print what each scanner finds of the project's corpus, and its false alarms."""
    from tests.secret_corpus import corpus as labelled

    entries = labelled()
    for entry in entries:
        path = folder / "corpus" / f"{entry.number:03d}" / entry.path
        path.parent.mkdir(parents=True)
        path.write_text(entry.text + "\n", "utf-8")
    secrets = {f"{entry.number:03d}" for entry in entries if entry.rule}
    print(f"\n| scanner | found of {len(secrets)} | false alarms in {len(entries) - len(secrets)} |\n|---|---|---|")
    for name, run in scanners(tools).items():
        found = {path.partition("/")[0] for path in run(folder / "corpus", False)}
        print(f"| {name} | {len(found & secrets)} | {len(found - secrets)} |")
    return 0


def speed(folder: Path, tools: dict[str, Path]) -> int:
    """Print how long each scanner takes for a tree and for a history, and ours again with nothing changed."""
    tree, history = folder / "tree", folder / "history"
    size = copy_sources(tree)
    make_history(tree, history)
    print(f"\n| scanner | tree, {size / 1e6:.0f} MB | history, {COMMITS} commits |\n|---|---|---|")
    for name in ("Sealrun", "kingfisher", "trufflehog3"):
        run = scanners(tools)[name]
        print(f"| {name} | {timed(run, tree, False)} | {timed(run, history, True)} |", flush=True)
    print(f"| Sealrun, again | {timed(ours, tree, False)} | {timed(ours, history, True)} |")
    return 0


def timed(run: Callable[[Path, bool], Found], folder: Path, history: bool) -> str:
    """Return the seconds of a run, on the clock and of processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    run(folder, history)
    seconds = time.perf_counter() - started
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return f"{seconds:.2f} s ({now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime:.2f} s of processors)"


def sources() -> Iterator[Path]:
    """Yield Python sources: the standard library's, then those of the installed environments."""
    places = [Path(os.__file__).parent, *sorted((ROOT / ".nox" / "venvs").glob("*/lib/python3*/site-packages"))]
    for place in places:
        yield from (path for path in sorted(place.rglob("*.py")) if path.is_file() and not path.is_symlink())


def copy_sources(tree: Path) -> int:
    """Copy sources into *tree* until it has its size, which is returned."""
    size = 0
    for number, path in enumerate(sources()):
        data = path.read_bytes()
        target = tree / f"{number // 200:03d}" / f"{number}-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        size += len(data)
        if size >= TREE:
            break
    return size


def make_history(tree: Path, repository: Path) -> None:
    """Make a repository whose commits each change a few of the sources, by `git fast-import`."""
    source = random.Random(1)  # noqa: S311 - which files change, no secret
    files = sorted(path for path in tree.rglob("*.py") if path.stat().st_size < 60_000)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", repository], check=True)  # noqa: S607
    stream = subprocess.Popen(["git", "fast-import", "--quiet"], cwd=repository, stdin=subprocess.PIPE)  # noqa: S607
    assert stream.stdin
    for number in range(COMMITS):
        stream.stdin.write(
            b"commit refs/heads/main\ncommitter A <a@example.org> %d +0000\ndata 7\nchange\n" % (1_600_000_000 + number)
        )
        for path in source.sample(files, 3):
            lines = path.read_bytes().splitlines(keepends=True) or [b"\n"]
            lines[source.randrange(len(lines))] = b"# changed in %d\n" % number
            data = b"".join(lines)
            stream.stdin.write(b"M 100644 inline %s\ndata %d\n" % (path.name.encode(), len(data)) + data + b"\n")
    stream.stdin.close()
    assert stream.wait() == 0
    subprocess.run(["git", "reset", "--quiet", "--hard"], cwd=repository, check=True)  # noqa: S607


def same(folder: Path, tools: dict[str, Path]) -> int:
    """Say whether trufflehog3 finds the same with the versions that it asks for and with the patched ones."""
    from sealrun import venvs
    from tests.secret_corpus import THEIRS, findings_of_trufflehog3

    said = {}
    for name, python in (
        ("as it asks", tools["trufflehog3"].parent / "python"),
        ("patched", venvs.existing(ROOT, "secrets").python),
    ):
        scratch = folder / f"same-{name.replace(' ', '-')}"
        scratch.mkdir()
        said[name] = findings_of_trufflehog3(python, scratch)
        print(f"trufflehog3, {name}: {sum(int(count) for count, _ in said[name].values())} findings in {len(said[name])} files")
    if "--record" in sys.argv:
        python = tools["trufflehog3"].parent / "python"
        argv = [Path(sys.executable).parent / "uv", "pip", "list", "--format=json", "--python", python]
        listed = subprocess.run(argv, check=True, capture_output=True)
        pins = {entry["name"].lower(): entry["version"] for entry in json.loads(listed.stdout)}
        text = json.dumps({"pins": pins, "findings": said["as it asks"]}, indent=1, sort_keys=True)
        THEIRS.write_text(text + "\n", "utf-8")
    print("the same" if said["as it asks"] == said["patched"] else "NOT the same")
    return 0 if said["as it asks"] == said["patched"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

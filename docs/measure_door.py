"""Measure what a new user waits for: a tiny repository with the five lines of docs/ci.md, from one command to four verdicts.

    INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python docs/measure_door.py

The command is `pipx run nox -t supply-chain`, or `uvx nox -t supply-chain` where there is no pipx. Three times: with every
cache empty, in another new repository with the caches as they are then, and there once more. The repository has a `uv.lock`
with a vulnerable pin, and a secret: lock and sbom must pass, audit and secrets must not. Sealrun is cloned from this checkout.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROMISED = 60.0
SHA = "sha256:" + "ab" * 32
FILES = {
    "pyproject.toml": '[project]\nname = "tiny"\nversion = "0.1"\ndependencies = ["requests==2.30.0"]\n',
    "uv.lock": 'version = 1\nrequires-python = ">=3.12"\n\n[[package]]\nname = "tiny"\nversion = "0.1"\n'
    'source = { editable = "." }\ndependencies = [{ name = "requests" }]\n\n[[package]]\nname = "requests"\n'
    'version = "2.30.0"\nsource = { registry = "https://example.invalid/simple" }\n'
    f'wheels = [{{ url = "https://example.invalid/requests-2.30.0-py3-none-any.whl", hash = "{SHA}" }}]\n',
    "settings.py": f"aws_access_key_id = '{'AKIA'}{'Q3EGRZ7WNB4KXT2M'}'\n",
    ".gitignore": "build/\n.nox/\n",
}


def main() -> int:
    """Print a line of docs/figures.md for each of the three; return 1 where the first misses what is promised."""
    runner = next((name for name in ("pipx", "uvx") if shutil.which(name)), None) or sys.exit("neither pipx nor uvx on PATH")
    command = [runner, *(["run"] if runner == "pipx" else []), "nox", "-t", "supply-chain"]
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        caches = {
            "UV_CACHE_DIR": "uv",
            "PIP_CACHE_DIR": "pip",
            "PIPX_HOME": "pipx",
            "UV_TOOL_DIR": "tools",
            "SEALRUN_KEYS": "keys",
        }
        environment = {**os.environ, **{variable: str(home / folder) for variable, folder in caches.items()}}
        (home / "keys").mkdir(mode=0o700)
        first, second = (repository(home / folder) for folder in ("first", "second"))
        times = (("every cache empty", first), ("another repository, caches warm", second), ("there once more", second))
        found = {what: measured(command, tree, environment) for what, tree in times}
    for what, (wall, busy) in found.items():
        print(f"| a new user's `{' '.join(command)}`, {what} | `docs/measure_door.py` | {wall:.1f} s, {busy:.1f} s of CPU |")
    return int(found["every cache empty"][0] > PROMISED)


def repository(tree: Path) -> Path:
    """Return the new repository *tree*."""
    tree.mkdir()
    commit = git(ROOT, "rev-parse", "HEAD")
    (block,) = re.findall(r"```python\n(import os, subprocess.*?)```", (ROOT / "docs" / "ci.md").read_text("utf-8"), re.DOTALL)
    lines = block.replace("https://example.com/sealrun.git", str(ROOT)).replace(
        "0123456789abcdef0123456789abcdef01234567", commit
    )
    for file, text in {**FILES, "noxfile.py": lines}.items():
        (tree / file).write_text(text, "utf-8")
    git(tree, "init", "--quiet")
    git(tree, "add", ".")
    git(tree, "-c", "user.name=n", "-c", "user.email=n@example.invalid", "commit", "--quiet", "--message=first")
    return tree


def git(folder: Path, *arguments: str) -> str:
    """Return what git says in *folder*."""
    program = shutil.which("git") or sys.exit("git: there is none on PATH")
    return subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def measured(command: list[str], tree: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Return the seconds of wall clock and CPU until all four stages have said what they must."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    said = dict(re.findall(r"^(lock|sbom|audit|secrets): (passed|failed|error)", done.stdout + done.stderr, re.MULTILINE))
    if said != {"lock": "passed", "sbom": "passed", "audit": "failed", "secrets": "failed"}:
        sys.exit(f"got {said}, and this:\n{done.stdout}{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())

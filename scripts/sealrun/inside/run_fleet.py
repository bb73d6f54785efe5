"""Hand releases to the workers of a Dask scheduler. Runs inside the `fleet` environment, with the network open.

    python run_fleet.py JOB.json

Rules: a worker releases in a checkout of its own that holds the same sources at the same commit, or the release is an error;
files that are missing there come from the place, by digest, and one that is there and differs is never replaced; outputs go
back by digest, and are in place here only when they match; a release dies with its worker, and a worker that is lost is
replaced by another. `_release` is sent to the workers, so it and what it calls may need Dask, fsspec and the standard library.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fsspec
from distributed import Client, as_completed, get_worker

_TOPIC = "sealrun"
_LOOK_SECONDS = 0.5
_PATIENCE = 60  # seconds for the scheduler to answer, and for a first worker
_LEFT_OUT = ("logs/", "run/")
_PIECE = 1024 * 1024


def main(job_file: str) -> None:
    """Release everything of the job and leave what came of each."""
    job = json.loads(Path(job_file).read_bytes())
    results, attempts = Path(job["folder"], "results"), dict[str, set[str]]()
    job["sources"] = _sources(Path(job["root"]))
    releases = {release["title"]: release for release in job["releases"]}
    try:
        client = Client(job["scheduler"], timeout=_PATIENCE)
        client.wait_for_workers(1, timeout=_PATIENCE)
    except (OSError, TimeoutError) as error:
        sys.exit(f"{job['scheduler']}: no scheduler with a worker answers ({error}); start both, or use --on local")
    with client:
        _hand_out(job)
        client.subscribe_topic(_TOPIC, lambda event: _noted(job, attempts, event[1]))
        tasks = {
            client.submit(
                _release, job, release, key=f"sealrun-{title}-{time.time_ns()}", pure=False, retries=job["retries"]
            ): title
            for title, release in releases.items()
        }
        for task in as_completed(list(tasks)):
            title = tasks[task]
            told = _returned(job, results, title, task)
            told["attempts"] = max(1, len(attempts.get(title, ())))
            _write(results / f"{title}.returned.json", json.dumps(told).encode())
    _write(results / "done.json", b"{}\n")


def _noted(job: dict[str, Any], attempts: dict[str, set[str]], said: dict[str, str]) -> None:
    """Note what a worker says of a release, for whoever looks on."""
    attempts.setdefault(said["title"], set()).add(said["try"])
    shown = {name: said[name] for name in ("state", "note", "where")}
    _write(Path(job["progress"], f"{said['title']}.json"), json.dumps(shown).encode())


def _returned(job: dict[str, Any], results: Path, title: str, task: Any) -> dict[str, Any]:
    """Put the outputs of a release in place, and return what came of it besides."""
    try:
        done = task.result()
        if "result" in done:
            out = Path(job["out"], title)
            for name, sha256 in done["outputs"].items():
                _fetch(job["place"], out, name, sha256, replace=True)
            _write(results / f"{title}.json", done["result"].encode())
        return {name: done[name] for name in ("where", "seconds", "error", "exit_code") if name in done}
    except Exception as error:  # noqa: BLE001 - whatever became of one release, the others are not stopped
        return {"error": f"{title}: {type(error).__name__}: {error}; see the logs of scheduler and workers", "exit_code": 4}


def _hand_out(job: dict[str, Any]) -> None:
    """Put all inputs into the place, once each."""
    if job["place"]:
        for inputs in (job["shared"], *(release["inputs"] for release in job["releases"])):
            for name, sha256 in inputs.items():
                _give(job["place"], Path(job["root"], name), sha256)


# On a worker ----------------------------------------------------------------------------------------------------------


def _release(job: dict[str, Any], release: dict[str, Any]) -> dict[str, Any]:
    """Make one release on this worker; return its result, and its outputs by digest."""
    root, started, where = Path(os.environ.get("SEALRUN_CHECKOUT") or job["root"]), time.monotonic(), get_worker().address
    try:
        _require_same(job, root)
        for name, sha256 in {**job["shared"], **release["inputs"]}.items():
            _fetch(job["place"], root, name, sha256, replace=False)
    except (OSError, ValueError) as error:
        return {"error": f"{release['title']}: on {where}: {error}", "exit_code": 3, "where": where}
    out = Path(job["out"]) if root == Path(job["root"]) else root / "build"
    result = _run(job, release, root, out, where)
    outputs = {name: _digest(out / release["title"] / name) for name in _outputs(out / release["title"])}
    if job["place"]:
        for name, sha256 in outputs.items():
            _give(job["place"], out / release["title"] / name, sha256)
    return {"result": result, "outputs": outputs, "where": where, "seconds": round(time.monotonic() - started, 1)}


def _run(job: dict[str, Any], release: dict[str, Any], root: Path, out: Path, where: str) -> str:
    """Run `invoke release` to its end, saying how it goes, and return its result. Raises OSError when it leaves none."""
    attempt = str(time.time_ns())
    libc = ctypes.CDLL(None)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        argv = [
            sys.executable, str(root / "scripts" / "bootstrap.py"), "release", f"--config={root / release['config']}",
            f"--out={out}", f"--json={result}", "--jobs=1", *release["options"],
        ]  # fmt: skip
        with Path(folder, "said").open("w+b") as said:
            process = subprocess.Popen(
                argv, cwd=root, env={**os.environ, **job["variables"]}, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),  # PR_SET_PDEATHSIG
            )  # fmt: skip
            told = ""
            try:
                while process.poll() is None:
                    if (note := _at(out / release["title"], release["stages"])) != told:
                        told = note
                        said_now = {"title": release["title"], "try": attempt, "state": "running", "note": note, "where": where}
                        get_worker().log_event(_TOPIC, said_now)
                    time.sleep(_LOOK_SECONDS)
            finally:
                process.kill()
                process.wait()
            if not result.is_file():
                said.seek(max(0, said.tell() - 2000))
                raise OSError(f"ended with {process.returncode} and no result: {said.read().decode('utf-8', 'replace')}")
        return result.read_text("utf-8")


def _at(out: Path, stages: list[str]) -> str:
    """Return how far a release is, from what its stages note."""
    states = {}
    for stage in stages:
        with contextlib.suppress(OSError, ValueError, KeyError):
            states[stage] = json.loads((out / "run" / f"{stage}.json").read_bytes())["state"]
    at = [stage for stage, state in states.items() if state == "running"]
    return f"{len(states) - len(at)} of {len(stages)} stages" + (f", at {', '.join(at)}" if at else "")


def _outputs(out: Path) -> list[str]:
    names = (path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(name for name in names if not name.startswith(_LEFT_OUT) and not name.endswith(".lock"))


def _require_same(job: dict[str, Any], root: Path) -> None:
    """Raise ValueError unless this worker's checkout is what the fleet was started from."""
    found = _sources(root) if (root / "scripts" / "bootstrap.py").is_file() else None
    if found != job["sources"]:
        has = f"is at {found['commit'] or 'no commit'}, or its sources were changed" if found else "is no checkout of Sealrun"
        raise ValueError(
            f"{root} {has}, expected {job['sources']['commit']} as it stands; set SEALRUN_CHECKOUT, or check it out"
        )


# Everywhere -----------------------------------------------------------------------------------------------------------


def _sources(root: Path) -> dict[str, str]:
    """Return what decides how a release is judged, besides its inputs: the commit, and the bytes of code, policy and locks."""
    state = hashlib.sha256()
    for top in ("scripts", "policy", "requirements", "noxfile.py"):
        paths = [root / top] if (root / top).is_file() else sorted((root / top).rglob("*"))
        for path in paths:
            if path.is_file() and path.suffix != ".pyc":
                state.update(f"{_digest(path)}  {path.relative_to(root).as_posix()}\n".encode())
    git = ["git", "-C", str(root), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {"commit": commit, "files": state.hexdigest()}


def _give(place: str, source: Path, sha256: str) -> None:
    """Put a file into the place under its digest, unless it is there."""
    system, base = fsspec.core.url_to_fs(place)
    target = f"{base.rstrip('/')}/{sha256[:2]}/{sha256}"
    if system.exists(target) and system.size(target) == source.stat().st_size:
        return
    system.makedirs(target.rpartition("/")[0], exist_ok=True)
    arriving = f"{target}.{os.getpid()}.{time.time_ns()}"
    system.put_file(str(source), arriving)
    system.mv(arriving, target)


def _fetch(place: str, folder: Path, name: str, sha256: str, *, replace: bool) -> None:
    """Have the file *name* of *folder* be the one with this digest. Raises OSError or ValueError."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or ".." in Path(name).parts:
        raise ValueError(f"{name}: leads out of {folder}")
    if path.is_file() and _digest(path) == sha256:
        return
    if path.exists() and not replace:
        raise ValueError(f"{path}: differs from the file of the fleet; restore it, or remove it")
    if not place:
        raise ValueError(f"{path}: is not here as it was made; share the folder with the workers, or name a --place")
    system, base = fsspec.core.url_to_fs(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as arriving:
        pass
    try:
        system.get_file(f"{base.rstrip('/')}/{sha256[:2]}/{sha256}", arriving.name)
        if _digest(Path(arriving.name)) != sha256:
            raise ValueError(f"{path}: came from the place with other bytes than {sha256}")
        Path(arriving.name).chmod(0o644)
        Path(arriving.name).replace(path)
    finally:
        Path(arriving.name).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(path: Path, data: bytes) -> None:
    arriving = path.with_name(f".{path.name}.{os.getpid()}")
    arriving.write_bytes(data)
    arriving.replace(path)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Write locks: `requirements/NAME.in` to `requirements/NAME.txt`, by pip-tools.

Rules: a lock holds no index, host, link or path; its header is the compiler's own, with a command line that update bots read,
followed by the digest of every input; pins stay as they are unless something asks for another or `--upgrade` is given, and an
upgrade takes no release younger than the cooldown; uv compiles where pip-compile cannot (`NAME.overrides`) or should not: it
downloads every wheel of a lock to hash it, which `# compiler: uv` in the input spares large ones. Compiling opens the network
and needs it opted in; locks are replaced whole, and only when all compiled."""

import difflib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sealrun import digest, files, network, sandbox, settings, venvs
from sealrun.errors import InputMissing, UsageError

_COMPILER = venvs.Environment(name="lock", smoke=("pip-compile", "--version"))
_SECONDS = 900.0
_SIDE_BY_SIDE = 2
_INCLUDES = re.compile(r"^(?:-r|-c|--requirement|--constraint)[ =]\s*(\S+)", re.MULTILINE)
_BY_UV = re.compile(r"^# compiler: uv$", re.MULTILINE)
_PIP = ("--allow-unsafe", "--generate-hashes", "--no-emit-index-url", "--strip-extras")
_UV = ("--emit-build-options", "--generate-hashes")


def write(root: Path, names: Sequence[str], *, upgrade: bool, cooldown_days: int) -> tuple[str, ...]:
    """Compile the locks of environments *names* (all when empty) and replace those that differ; return their names.

    Raises UsageError (unknown name), InputMissing (network not opted in), or ToolFailed; then no lock is replaced.
    """
    with files.private_folder() as tmp:
        compiled = _compile(root, _known(root, names), tmp, upgrade=upgrade, cooldown_days=cooldown_days)
        changed = [name for name, data in compiled.items() if data != _current(root, name)]
        for name in changed:
            files.write_bytes(venvs.lock_path(root, name), compiled[name])
    return tuple(changed)


def drift(root: Path, names: Sequence[str]) -> Mapping[str, str]:
    """Compile again and return, for each lock that would change, the difference as text. Raises as `write`."""
    with files.private_folder() as tmp:
        compiled = _compile(root, _known(root, names), tmp, upgrade=False, cooldown_days=0)
    return {
        name: "".join(_difference(name, _current(root, name), data))
        for name, data in compiled.items()
        if data != _current(root, name)
    }


def input_digests(folder: Path, name: str) -> Mapping[str, digest.Sha256]:
    """Return every file that decides the lock of *name*, `requirements/FILE` to sha256. Raises InputMissing."""
    found: dict[str, digest.Sha256] = {}
    waiting = [f"{name}.in", *([f"{name}.overrides"] if (folder / f"{name}.overrides").is_file() else [])]
    while waiting:
        current = waiting.pop(0)
        if f"requirements/{current}" in found:
            continue
        data = files.read_bytes(folder / current, f"requirements/{name}.in")
        found[f"requirements/{current}"] = digest.of_bytes(data)
        if not current.endswith(".txt"):
            waiting += _INCLUDES.findall(data.decode("utf-8", "replace"))
    return found


def _known(root: Path, names: Sequence[str]) -> list[str]:
    """Return *names*, or all, so that what others include comes first."""
    known = sorted(path.stem for path in (root / "requirements").glob("*.in"))
    for name in names:
        if name not in known:
            raise UsageError(f"lock: got the environment {name!r}, expected one of {', '.join(known)}")
    wanted = list(names) or known
    return sorted(wanted, key=lambda name: (len(input_digests(root / "requirements", name)), name))


def _compile(root: Path, names: list[str], tmp: Path, *, upgrade: bool, cooldown_days: int) -> dict[str, bytes]:
    """Compile in a copy of `requirements/`, those that include other environments after these."""
    if not network.may_open(f"a package index, to compile {', '.join(names)}"):
        raise InputMissing("lock: compiling asks a package index; run again with INVARLOCK_ALLOW_NETWORK=1")
    venv = venvs.install(root, _COMPILER)
    shutil.copytree(root / "requirements", tmp / "requirements")
    logs = files.empty_folder(tmp / "logs")
    simple = [name for name in names if len(input_digests(root / "requirements", name)) == 1]
    batches = [simple[start : start + _SIDE_BY_SIDE] for start in range(0, len(simple), _SIDE_BY_SIDE)]
    batches += [[name] for name in names if name not in simple]
    for batch in batches:
        running = [sandbox.start(_command(venv, name, tmp, logs, upgrade, cooldown_days)) for name in batch]
        for program in running:
            program.wait()
        for name in batch:
            _record_inputs(tmp / "requirements", name)
    return {name: (tmp / "requirements" / f"{name}.txt").read_bytes() for name in names}


def _command(venv: venvs.Venv, name: str, tmp: Path, logs: Path, upgrade: bool, cooldown_days: int) -> sandbox.Command:
    paths = (f"--output-file=requirements/{name}.txt", f"requirements/{name}.in")
    older = f"P{cooldown_days}D"
    newest = ("--upgrade",) if upgrade else ()
    environment = {**settings.compile_environment(), "HOME": str(tmp), "TMPDIR": str(tmp)}
    overridden = (tmp / "requirements" / f"{name}.overrides").is_file()
    if overridden or _BY_UV.search((tmp / "requirements" / f"{name}.in").read_text("utf-8")):
        overrides = (f"--overrides=requirements/{name}.overrides",) if overridden else ()
        shown = (*overrides, "--python-version=3.12", *paths)
        recorded = f"uv pip compile {' '.join((*_UV, *shown))}"
        limit = ("--exclude-newer", f"{cooldown_days} days") if upgrade else ()
        argv = (
            str(venv.program("uv")),
            "pip",
            "compile",
            "--quiet",
            "--no-config",
            "--python",
            str(venv.python),
            *_UV,
            *shown,
            *newest,
            *limit,
        )
        environment |= {"UV_CUSTOM_COMPILE_COMMAND": recorded}
    else:
        recorded = f"pip-compile {' '.join(_PIP)} {' '.join(paths)}"
        limit = ("--pip-args", f"--uploaded-prior-to={older}") if upgrade else ()
        portable = ("--no-config", "--quiet", "--no-emit-find-links", "--no-emit-trusted-host")
        argv = (str(venv.program("pip-compile")), *portable, *_PIP, *newest, *limit, *paths)
        environment |= {"CUSTOM_COMPILE_COMMAND": recorded, "PIP_CONFIG_FILE": "/dev/null"}
    return sandbox.Command(
        name=f"compile-{name}", argv=argv, cwd=tmp, environment=environment, logs=logs,
        network=sandbox.Network.OPENED, timeout=_SECONDS,
    )  # fmt: skip


def _record_inputs(folder: Path, name: str) -> None:
    """Put the inputs' digests at the end of the header, replacing earlier ones."""
    path = folder / f"{name}.txt"
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("# input: ")]
    end = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    recorded = [f"# input: {file} sha256:{sha256}" for file, sha256 in input_digests(folder, name).items()]
    path.write_text("\n".join([*lines[:end], *recorded, *lines[end:]]) + "\n", "utf-8")


def _current(root: Path, name: str) -> bytes:
    try:
        return files.read_bytes(venvs.lock_path(root, name), "lock")
    except InputMissing:
        return b""


def _difference(name: str, old: bytes, new: bytes) -> Iterator[str]:
    before, after = (data.decode("utf-8", "replace").splitlines(keepends=True) for data in (old, new))
    lines = difflib.unified_diff(before, after, f"requirements/{name}.txt", "compiled again", n=0)
    return (line for line in lines if "--hash=" not in line)

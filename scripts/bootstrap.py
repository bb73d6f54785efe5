"""Make `.venv` from requirements/runner.txt and hand over to it. Standard library only, any Python >= 3.8.

    INVARLOCK_ALLOW_NETWORK=1 python3 scripts/bootstrap.py TASK OPTION...     (an invoke task and its options)

Rules:
- Nothing is installed that is not pinned and hashed in the lock; wheels only, so nothing is built.
- The network is used to install alone, with INVARLOCK_ALLOW_NETWORK=1 alone, and as the host's pip is set up to use it.
- `.venv` is complete only when its stamp is there; the stamp is written last and compared at every start.
- One process at a time makes `.venv`; the others wait for it.
- stdout belongs to the program that is handed over to; everything said here goes to stderr.

Exit codes: 2 wrong use or invalid configuration, 3 an input is missing (Python, wheels), 4 a tool failed.
"""

from __future__ import annotations

import configparser
import glob
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if os.name == "posix":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements" / "runner.txt"

_PROGRAM = "sealrun.program"
_LAYOUT = 3  # raise it when what is put into .venv changes without the lock changing
_PYTHON = VENV / "bin" / "python"
_STAMP = VENV / "sealrun.stamp"
_GUARD = VENV / "sealrun.lock"

_WANTED = (3, 12)  # the locks were compiled on it
_NAMES = ("python3.12", "python3.13", "python3.14", "python3", "python")
_PROBE_SECONDS = 20
_INSTALL_SECONDS = 1800
_CHECKED = ("--require-hashes", "--only-binary", ":all:")
_REDIRECTING = ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
_SLOWING = ("PYTHONDONTWRITEBYTECODE",)  # every start would compile Sealrun and its libraries again
_NO_SITECUSTOMIZE = b'import sys; sys.modules.setdefault("sitecustomize", sys)\n'
_PROBE = """
import ensurepip, glob, json, os, sys, sysconfig, venv
folders = [os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"), sysconfig.get_config_var("WHEEL_PKG_DIR")]
wheels = [wheel for folder in folders if folder for wheel in sorted(glob.glob(os.path.join(folder, "pip-*.whl")))]
print(json.dumps([list(sys.version_info[:3]), getattr(sys, "_base_executable", None) or sys.executable, wheels[:1]]))
"""


class Stop(Exception):
    """The environment cannot be made: an exit code, and a message that names the next command."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Python(NamedTuple):
    """An interpreter that can make the environment, and the pip that it bundles."""

    version: tuple[int, ...]
    executable: str
    pip_wheel: str


def main(arguments: list[str]) -> NoReturn:
    """Make `.venv` where needed, then become Sealrun's invoke program with *arguments*."""
    _become(_PROGRAM, arguments)


def hand_over(module: str) -> None:
    """Return inside `.venv`; anywhere else become `.venv`'s `python -m module` with this process's arguments.

    The first lines of noxfile.py and tasks.py call it, so any outer nox or invoke works.
    """
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.chdir(_started_in())
        _become(module, sys.argv[1:])


def index_environment() -> dict[str, str]:
    """Return the variables that make uv use the host's pip settings; a setting made for uv itself wins."""
    pip = pip_settings()
    found = {
        ("UV_DEFAULT_INDEX", "UV_INDEX_URL"): pip.get("index-url", ""),
        ("UV_INDEX", "UV_EXTRA_INDEX_URL"): " ".join(pip.get("extra-index-url", "").split()),
        ("UV_FIND_LINKS",): ",".join(pip.get("find-links", "").split()),
        ("UV_NO_INDEX",): "1" if _is_on(pip.get("no-index", "")) else "",
        ("UV_INSECURE_HOST",): " ".join(pip.get("trusted-host", "").split()),
        ("UV_HTTP_TIMEOUT",): pip.get("timeout", pip.get("default-timeout", "")),
        ("UV_KEYRING_PROVIDER",): "subprocess" if pip.get("keyring-provider") == "subprocess" else "",
        ("HTTP_PROXY", "http_proxy"): pip.get("proxy", ""),
        ("HTTPS_PROXY", "https_proxy"): pip.get("proxy", ""),
        ("SSL_CERT_FILE",): pip.get("cert", os.environ.get("REQUESTS_CA_BUNDLE", "")),
        ("SSL_CLIENT_CERT",): pip.get("client-cert", ""),
        ("UV_INDEX_STRATEGY",): "unsafe-best-match",  # as pip: every index is asked; the hashes decide what is accepted
    }
    return {names[0]: value for names, value in found.items() if value and not any(n in os.environ for n in names)}


def pip_environment() -> dict[str, str]:
    """Return the variable that makes an older pip believe whom SSL_CERT_FILE names, as everything else does; pip's own setting
    wins."""
    named = os.environ.get("SSL_CERT_FILE", "")
    asked = "cert" in pip_settings() or any(os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    return {"PIP_CERT": named} if named and not asked else {}


def _become(module: str, arguments: list[str]) -> NoReturn:
    try:
        _ensure()
    except Stop as stop:
        _say(str(stop))
        sys.exit(stop.code)
    except KeyboardInterrupt:
        _say("interrupted; the next start makes .venv again")
        sys.exit(130)
    sys.stdout.flush()
    # -P: the folder that the user stands in is judged, never imported from.
    os.execve(str(_PYTHON), [str(_PYTHON), "-P", "-m", module, *arguments], _clean_environment())


def _ensure() -> None:
    """Make `.venv` unless its stamp says that it is the one wanted."""
    if os.name != "posix":
        raise Stop(2, "Sealrun runs on Linux and macOS, on Windows in WSL; scripts/verify_bundle.py runs anywhere")
    network = _network_allowed()
    if not LOCK.is_file():
        raise Stop(3, f"{LOCK}: not found, and it belongs to the checkout: git checkout -- requirements")
    if _is_ready():
        return
    try:
        VENV.mkdir(exist_ok=True)
        with _GUARD.open("w") as guard:
            _take(guard.fileno())
            if not _is_ready():
                _make(network)
    except OSError as error:
        raise Stop(2, f"{VENV}: cannot be written ({error}); make {ROOT} writable, or work in a copy of it") from error


def _network_allowed() -> bool:
    value = os.environ.get("INVARLOCK_ALLOW_NETWORK", "").strip()
    if value and not _is_on(value):
        expected = "expected 1, true, yes or on, or unset; to keep the network off: unset INVARLOCK_ALLOW_NETWORK"
        raise Stop(2, f"INVARLOCK_ALLOW_NETWORK: got {value!r}, {expected}")
    return bool(value)


def _is_on(value: str) -> bool:
    return value.lower() in ("1", "true", "yes", "on")


# The stamp ------------------------------------------------------------------------------------------------------------


def _is_ready() -> bool:
    try:
        stamp = _STAMP.read_text(encoding="utf-8")
        return stamp == _stamp() and _is_asked_for(json.loads(stamp)["python"][0])
    except OSError:
        return False


def _stamp() -> str:
    """Describe the environment wanted: lock, place, and the interpreter (path, size, time) behind `.venv`'s own."""
    interpreter = _PYTHON.resolve()
    facts = interpreter.stat()
    wanted = {
        "layout": _LAYOUT,
        "location": str(VENV),
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "python": [str(interpreter), facts.st_size, facts.st_mtime_ns],
    }
    return json.dumps(wanted, sort_keys=True) + "\n"


def _is_asked_for(interpreter: str) -> bool:
    """Whether SEALRUN_PYTHON is unset, or names the interpreter that `.venv` was made from."""
    asked = os.environ.get("SEALRUN_PYTHON", "")
    if not asked or str(Path(shutil.which(asked) or asked).resolve()) == interpreter:
        return True
    return str(Path(_override(asked).executable).resolve()) == interpreter


def _take(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say("another bootstrap is at work in .venv; waiting for it")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


# Making it ------------------------------------------------------------------------------------------------------------


def _make(network: bool) -> None:
    wheels = _wheel_arguments(network)
    python = _find_python()
    _clear()
    _say(f"making .venv with Python {_dotted(python.version)} ({python.executable})")
    _run("venv", [python.executable, "-I", "-m", "venv", "--without-pip", str(VENV)], {})
    if not wheels:
        _note_network()
    _say("installing uv, pinned and hashed")
    _install_uv(python.pip_wheel, wheels)
    _say("installing requirements/runner.txt, pinned and hashed")
    _install_lock(wheels)
    _write_path_file()
    written = _STAMP.with_suffix(".new")
    written.write_text(_stamp(), encoding="utf-8")
    written.replace(_STAMP)


def _note_network() -> None:
    """Note what the network is opened for, as sealrun.network does for every command of ours."""
    record = ROOT / "build" / "network.jsonl"
    record.parent.mkdir(exist_ok=True)
    note = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "command": "bootstrap",
        "opened_for": "a package index, for .venv",
    }
    if record.is_symlink():
        raise OSError(f"{record} is a link, expected a file of its own")
    with record.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(note, sort_keys=True) + "\n")


def _wheel_arguments(network: bool) -> list[str]:
    """Return where pip and uv look for wheels: in a folder and no index, or (nothing) where the host says."""
    wheelhouse = os.environ.get("SEALRUN_WHEELHOUSE", "")
    if wheelhouse:
        if not Path(wheelhouse).is_dir():
            raise Stop(2, f"SEALRUN_WHEELHOUSE: got {wheelhouse}, expected a folder of wheels; {_how_to_install()}")
        return ["--no-index", "--find-links", str(Path(wheelhouse).resolve())]
    if not network:
        state = "is out of date" if _STAMP.is_file() else "is not made yet"
        raise Stop(3, f".venv {state}, and the network is off (INVARLOCK_ALLOW_NETWORK is unset); {_how_to_install()}")
    return []


def _how_to_install() -> str:
    return f"""to install over the network:
    INVARLOCK_ALLOW_NETWORK=1 {_again()}
or from a folder of wheels, filled where the network, the Python version and the platform fit:
    python3.12 -m pip download --require-hashes --no-deps -r {shlex.quote(str(LOCK))} -d wheels
    SEALRUN_WHEELHOUSE=wheels {_again()}"""


def _clear() -> None:
    """Empty `.venv` except for the held lock file, stamp first: what is half-made never looks complete."""
    if _STAMP.exists():
        _STAMP.unlink()
    for entry in VENV.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(str(entry))
        elif entry != _GUARD:
            entry.unlink()


def _install_uv(pip_wheel: str, wheels: list[str]) -> None:
    """Run the pip that the interpreter bundles, once, on uv's lines of the lock alone."""
    alone = VENV / "uv.txt"
    alone.write_text(_lines_of("uv", LOCK.read_text(encoding="utf-8")), encoding="utf-8")
    pip = [str(_PYTHON), "-I", str(Path(pip_wheel) / "pip"), "install", "--no-user", "--no-input"]
    closed = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""} if wheels else pip_environment()
    _run("pip", [*pip, "--disable-pip-version-check", "--no-deps", *_CHECKED, *wheels, "-r", str(alone)], closed)
    alone.unlink()


def _install_lock(wheels: list[str]) -> None:
    uv = [
        str(VENV / "bin" / "uv"),
        "pip",
        "sync",
        "--compile-bytecode",
        *_CHECKED,
        *wheels,
        "--python",
        str(_PYTHON),
        str(LOCK),
    ]
    settings = {"UV_OFFLINE": "1", "UV_FIND_LINKS": ""} if wheels else index_environment()
    if "UV_CACHE_DIR" not in os.environ and not _can_keep_a_cache():
        settings["UV_NO_CACHE"] = "1"
    _run("uv", uv, {**settings, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"})


def _can_keep_a_cache() -> bool:
    return os.access(os.environ.get("XDG_CACHE_HOME") or _home(), os.W_OK)


def _lines_of(name: str, lock: str) -> str:
    """Return the requirement *name* of a lock, with its hashes."""
    lines = iter(lock.splitlines())
    for line in lines:
        if line.startswith(f"{name}=="):
            kept = [line]
            while kept[-1].endswith("\\"):
                kept.append(next(lines, ""))
            return "\n".join(kept) + "\n"
    raise Stop(2, f"{LOCK}: got no line for {name}, expected {name}==VERSION with hashes: git checkout -- requirements")


def _write_path_file() -> None:
    """Put scripts/ on the module path of `.venv`, so that `import sealrun` works there, and keep the host's customization out.

    A Python imports `sitecustomize` from wherever it lies once all path files are read, unless there is one already.
    """
    (packages,) = (VENV / "lib").glob("python*/site-packages")
    (packages / "sealrun.pth").write_bytes(_NO_SITECUSTOMIZE + os.fsencode(str(ROOT / "scripts")) + b"\n")


def _run(tool: str, command: list[str], extra: dict[str, str]) -> None:
    environment = {**_clean_environment(), **extra}
    try:
        ran = subprocess.run(
            command,
            cwd=str(ROOT),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        advice = f"check the index and proxy settings, then: {_again()}"
        raise Stop(4, f"{tool} did not end within {_INSTALL_SECONDS} s; {advice}") from error
    except OSError as error:
        raise Stop(4, f"{tool} cannot be started ({error}); when that is mended: {_again()}") from error
    if ran.returncode:
        said = ran.stdout.decode("utf-8", "replace").splitlines()[-15:]
        lines = "\n".join(f"    {line}" for line in said or ["(it said nothing)"])
        raise Stop(4, f"{tool} failed with exit code {ran.returncode}:\n{lines}\nwhen that is mended: {_again()}")


def _clean_environment() -> dict[str, str]:
    """Return the environment without what sends Python, or an installation, somewhere else, or slows every start."""
    return {name: value for name, value in os.environ.items() if name not in (*_REDIRECTING, *_SLOWING)}


# Finding Python -------------------------------------------------------------------------------------------------------


def _find_python() -> Python:
    """Return the interpreter to use: 3.12, on which the locks were compiled, or else the oldest newer one."""
    asked = os.environ.get("SEALRUN_PYTHON", "")
    if asked:
        return _override(asked)
    best: Python | None = None
    tried: dict[str, str] = {}
    for place, path in _candidates():
        if path in tried or not shutil.which(path):
            continue
        python, why_not = _probe(path)
        tried[path] = f"    {place}: {path}: {why_not}"
        if python and python.version[:2] == _WANTED:
            return python
        if python and (best is None or python.version[:2] < best.version[:2]):
            best = python
    if best is None:
        raise Stop(3, _nothing_found(list(tried.values())))
    return best


def _override(asked: str) -> Python:
    python, why_not = _probe(shutil.which(asked) or asked)
    if python is None:
        advice = "expected Python >= 3.12; name another one, or: unset SEALRUN_PYTHON"
        raise Stop(2, f"SEALRUN_PYTHON: got {asked} ({why_not}), {advice}")
    return python


def _candidates() -> Iterator[tuple[str, str]]:
    """Yield the paths where a Python may lie, each with the name of the place."""
    yield "this interpreter", sys.executable or ""
    for name in _NAMES:
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            yield "PATH", str(Path(folder or ".").absolute() / name)
    for place, folder, pattern in _folders():
        # glob, not Path.glob: that one raises where the folder belongs to another user.
        for path in sorted(glob.glob(f"{glob.escape(folder)}/{pattern}"), reverse=True):
            yield place, path


def _folders() -> list[tuple[str, str, str]]:
    home = _home()
    data = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    pyenv = (os.environ.get("PYENV_ROOT"), f"{home}/.pyenv")
    uv = (os.environ.get("UV_PYTHON_INSTALL_DIR"), f"{data}/uv/python")
    conda = (os.environ.get("CONDA_PREFIX"), f"{home}/miniconda3", f"{home}/anaconda3", f"{home}/miniforge3")
    return [
        *(("pyenv", folder, "versions/*/bin/python") for folder in pyenv if folder),
        *(("uv", folder, "*/bin/python3") for folder in uv if folder),
        *(("conda", folder, "bin/python") for folder in conda if folder),
        *(("conda", folder, "envs/*/bin/python") for folder in conda if folder),
    ]


def _probe(path: str) -> tuple[Python | None, str]:
    """Run *path*; return it as a usable Python, or None and why it is not one. A pyenv shim may lead nowhere."""
    command = [path, "-I", "-c", _PROBE]
    try:
        ran = subprocess.run(
            command,
            env=_clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=_PROBE_SECONDS,
            check=False,
        )
        if ran.returncode:
            return None, _why_failed(ran)
        version, executable, wheels = json.loads(ran.stdout.decode("utf-8"))
    except subprocess.TimeoutExpired:
        return None, f"gives no answer within {_PROBE_SECONDS} s"
    except OSError as error:
        return None, f"cannot be started ({error.strerror})"
    except ValueError:
        return None, "does not answer like a Python"
    if tuple(version) < _WANTED:
        return None, f"is Python {_dotted(version)}"
    if not wheels:
        return None, "bundles no pip (on Debian and Ubuntu: apt-get install python3-venv)"
    return Python(tuple(version), executable, wheels[0]), ""


def _why_failed(ran: subprocess.CompletedProcess[bytes]) -> str:
    said = ran.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    if said and "ensurepip" in said[0]:
        return "has no ensurepip (on Debian and Ubuntu: apt-get install python3-venv)"
    return f"exits with {ran.returncode}" + (f" ({said[0].strip()})" if said else "")


def _nothing_found(tried: list[str]) -> str:
    places = "\n".join(f"    {place}: {folder}/{pattern}" for place, folder, pattern in _folders())
    return "\n".join(
        [
            "no usable Python >= 3.12. Tried:",
            *(tried or ["    nothing, there was none"]),
            f"Searched:\n    PATH: {', '.join(_NAMES)}\n{places}",
            f"Install Python 3.12, or name one: SEALRUN_PYTHON=/path/to/python3.12 {_again()}",
        ]
    )


# The host's pip settings ----------------------------------------------------------------------------------------------


def pip_settings() -> dict[str, str]:
    """Merge pip's files and PIP_ variables, later ones winning: https://pip.pypa.io/en/stable/topics/configuration/."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(_pip_files(), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise Stop(2, f"pip's configuration: {error}; mend that file, or name another: PIP_CONFIG_FILE=FILE") from error
    merged: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            merged.update((name.replace("_", "-"), value) for name, value in parser.items(section))
    variables = ((name[4:].lower().replace("_", "-"), os.environ[name]) for name in os.environ if name[:4] == "PIP_")
    merged.update((name, value) for name, value in variables if value)
    return merged


def _pip_files() -> list[str]:
    named = os.environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    home = _home()
    mac = "/Library/Application Support/pip/pip.conf"
    everyone = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    shared = [mac, *(f"{folder}/pip/pip.conf" for folder in reversed(everyone)), "/etc/pip.conf"]
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    own = [f"{home}/.pip/pip.conf", home + mac, f"{config}/pip/pip.conf"]
    return [*shared, *([named] if named else own)]


# Words ----------------------------------------------------------------------------------------------------------------


def _again() -> str:
    """Return the command that the user typed, as far as this process knows it."""
    program = Path(sys.argv[0])
    start = f"python3 {shlex.quote(sys.argv[0])}" if program.suffix == ".py" else program.name
    return " ".join([start, *map(shlex.quote, sys.argv[1:])])


def _home() -> str:
    return os.path.expanduser("~")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _started_in() -> str:
    """Return the folder the command was typed in: nox moves to the noxfile's folder before it reads that file."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        folder = getattr(frame.f_locals.get("global_config"), "invoked_from", None)
        if isinstance(folder, str):
            return folder
        frame = frame.f_back
    return str(Path.cwd())


def _say(message: str) -> None:
    print(f"sealrun: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

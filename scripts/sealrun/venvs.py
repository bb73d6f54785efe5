"""Tool environments: one venv per lock, made by uv, keyed and complete or not there.

Rules: the key covers the lock's bytes, the interpreter and the platform; installs take hashed wheels only; the
completion mark is written last, after the tool's smoke run; two processes that want the same environment wait for each
other. Making one needs the network opted in, cached wheels, or a wheelhouse; using one never does. No customization of the
host's interpreter takes part (`sitecustomize`, path files, user site).
"""

import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from msgspec import Struct
from packaging.utils import canonicalize_name

from sealrun import digest, files, network, sandbox, settings
from sealrun.errors import InputMissing, ToolFailed

_MARK = "sealrun-venv.json"
_LAYOUT = 2  # raise it when what is put into an environment changes without its lock changing
_PATH_FILE = "sealrun.pth"
_INSTALL_SECONDS = 1800.0
# To download and on disk, in GB, on Linux x86-64, where torch brings CUDA; the second finds most of it in the cache.
_LARGE = {"certify-0.3": (2.9, 5.7), "runtime-transformers": (2.8, 5.6)}


class Environment(Struct, frozen=True, kw_only=True):
    """What a stage asks for: the lock's name and the program and arguments that show the tool starts."""

    name: str
    smoke: tuple[str, ...]

    @property
    def heavy(self) -> str:
        """How large it is, in words, where a release has to allow it; else empty."""
        if self.name not in _LARGE:
            return ""
        download, disk = _LARGE[self.name]
        return f"downloads {download} GB, takes {disk} GB on disk"


class Venv(Struct, frozen=True, kw_only=True):
    """A complete environment: its name, folder and the sha256 of the lock it was made from."""

    name: str
    path: Path
    lock: digest.Sha256

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.program("python")

    def program(self, name: str) -> Path:
        """The environment's program *name*."""
        return self.path / "bin" / name


def lock_path(root: Path, name: str) -> Path:
    """Return the lock of environment *name* in the repository *root*."""
    return root / "requirements" / f"{name}.txt"


def locate(root: Path, name: str) -> Venv:
    """Return where environment *name* lies or would lie, by its real path: its programs name it, and a clone may only borrow
    the folder. Raises InputMissing when it has no lock."""
    lock = digest.of_bytes(files.read_bytes(lock_path(root, name), f"environment {name}"))
    built = f"{platform.python_implementation()}-{platform.python_version()}-{sysconfig.get_platform()}"
    key = digest.of_json([lock, built, _LAYOUT])[:16]
    return Venv(name=name, path=(root / ".nox" / "venvs").resolve() / f"{name}-{key}", lock=lock)


def existing(root: Path, name: str) -> Venv:
    """Return environment *name*, which must be complete. Raises InputMissing naming the command that makes it."""
    venv = locate(root, name)
    if not (venv.path / _MARK).is_file():
        raise InputMissing(
            f"environment {name}: not installed for the lock as it is now; "
            f"run `INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python -m sealrun install {name}`"
        )
    return venv


def install(root: Path, environment: Environment, *, heavy: bool = True) -> Venv:
    """Return *environment*, made now if it is not complete; a large one only where *heavy* ones are allowed.

    Raises InputMissing (no wheels, not allowed) or ToolFailed.
    """
    venv = locate(root, environment.name)
    if (venv.path / _MARK).is_file():
        return venv
    if environment.heavy and not heavy:
        raise InputMissing(
            f"environment {environment.name}: {environment.heavy}; set heavy = true below [certify] in release.toml, or run "
            f"`INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python -m sealrun install {environment.name}`"
        )
    venv.path.parent.mkdir(parents=True, exist_ok=True)
    with files.exclusive(venv.path.parent / f".{environment.name}.lock"):
        if not (venv.path / _MARK).is_file():
            _make(root, environment, venv)
    return venv


def installed(root: Path) -> dict[str, object]:
    """Return how each complete environment was made, for `run.json`: what was run, and where its wheels came from."""
    marks = sorted((root / ".nox" / "venvs").glob(f"*/{_MARK}"))
    return {path.parent.name: files.parse_json(files.read_bytes(path, "environment"), str(path)) for path in marks}


def locked_version(lock: Path, distribution: str) -> str:
    """Return the version that *lock* pins for *distribution*. Raises InputMissing when it pins none."""
    wanted = canonicalize_name(distribution)
    for line in lock.read_text("utf-8").splitlines():
        name, separator, rest = line.partition("==")
        if separator and canonicalize_name(name.partition("[")[0].strip()) == wanted:
            return rest.split()[0].rstrip("\\;")
    raise InputMissing(f"{lock}: pins no {distribution}; run `nox -s lock -- --write`")


def _make(root: Path, environment: Environment, venv: Venv) -> None:
    size = f" ({environment.heavy})" if environment.heavy else ""
    print(f"installing environment {environment.name}{size}", file=sys.stderr, flush=True)
    if venv.path.exists():
        shutil.rmtree(venv.path)
    with files.private_folder() as logs:
        _uv(logs, root, "venv", "--quiet", "--no-project", "--python", settings.interpreter(), str(venv.path))
        _uv(logs, root, "pip", "install", "--quiet", "--python", str(venv.python), "--require-hashes", "--no-deps",
            *(() if environment.heavy else ("--compile-bytecode",)),  # of torch: minutes, to spare seconds
            "--only-binary", ":all:", *_origin(environment.name), "--requirements", str(lock_path(root, environment.name)),
            hint=environment.name)  # fmt: skip
        (packages,) = (venv.path / "lib").glob("python*/site-packages")
        files.write_bytes(packages / _PATH_FILE, settings.NO_SITECUSTOMIZE)
        with files.private_folder() as home:
            smoke = (str(venv.program(environment.smoke[0])), *environment.smoke[1:])
            sandbox.run(
                sandbox.Command(
                    name=f"smoke-{environment.name}", argv=smoke, cwd=home, writable=(home,), logs=logs,
                    environment=settings.judged_environment(home), timeout=600 if environment.heavy else 120,
                )
            )  # fmt: skip
    made = {"lock": venv.lock, "python": platform.python_version(), "wheels": _wheels_from(), "command": f"install {venv.name}"}
    files.write_json(venv.path / _MARK, made)


def _origin(environment: str) -> tuple[str, ...]:
    """Return uv's options for where wheels come from: the network when opted in, a wheelhouse, or its cache alone."""
    if wheelhouse := settings.variable("SEALRUN_WHEELHOUSE"):
        if not Path(wheelhouse).is_dir():
            raise InputMissing(f"SEALRUN_WHEELHOUSE: got {wheelhouse}, expected a folder of wheels; correct or unset it")
        return "--no-index", "--find-links", wheelhouse
    return () if network.may_open(f"a package index, for the environment {environment}") else ("--offline",)


def _wheels_from() -> str:
    if settings.variable("SEALRUN_WHEELHOUSE"):
        return "SEALRUN_WHEELHOUSE"
    return "the network, opened by INVARLOCK_ALLOW_NETWORK" if settings.network_allowed() else "the cache"


def _uv(logs: Path, root: Path, *arguments: str, hint: str = "") -> None:
    uv = Path(sys.prefix) / "bin" / "uv"
    command = sandbox.Command(
        name="uv", argv=(str(uv), *arguments), cwd=root, environment=settings.install_environment(), logs=logs,
        network=sandbox.Network.OPENED, timeout=_INSTALL_SECONDS,
    )  # fmt: skip
    try:
        sandbox.run(command)
    except ToolFailed as error:
        if hint and not settings.network_allowed():
            raise InputMissing(
                f"environment {hint}: its wheels are not in the cache and the network is off; run the command again "
                f"with INVARLOCK_ALLOW_NETWORK=1, or set SEALRUN_WHEELHOUSE to a folder of wheels\n{error}"
            ) from error
        raise

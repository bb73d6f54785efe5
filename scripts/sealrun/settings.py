"""The process environment: the only place that reads `os.environ`.

Rules: a switch is on for 1, true, yes, on; off when unset or empty; anything else is an error that says so. A judged program
sees an allow-list of variables, the offline switches, and caches of its own; where packages come from is seen by an
installation alone. Secrets are known here by name, so that `masking` can keep them out of everything else.
"""

import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from sealrun.errors import UsageError

_ON = {"1", "true", "yes", "on"}

# What a judged program may see of the caller's environment. Everything else is dropped.
_KEPT = ("LANG", "LC_ALL", "TERM", "NO_COLOR", "SOURCE_DATE_EPOCH")

# What an installation may see in addition: where packages come from and how to reach them.
_INSTALL_PREFIXES = ("PIP_", "UV_", "SSL_", "NETRC")
_INSTALL_NAMES = (
    "HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME",
)  # fmt: skip

_OFFLINE = ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_PRIVATE = (
    "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "HF_HOME",
    "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_HOME", "TORCH_EXTENSIONS_DIR", "CUDA_CACHE_PATH", "MPLCONFIGDIR",
    "NUMBA_CACHE_DIR",
)  # fmt: skip

# The line of a path file that keeps the host's `sitecustomize` out of an environment: a Python imports one from wherever it
# lies once all path files are read, unless there is one already. The advisory guard comes as one, and may.
NO_SITECUSTOMIZE = b'import os, sys; "SEALRUN_GUARD" in os.environ or sys.modules.setdefault("sitecustomize", sys)\n'

SHORTEST_SECRET = 6  # characters; anything shorter stands in too many texts by chance
_SECRET_NAME = re.compile(
    r"token(?!iz)|secret|passw|passphrase|credential|api_?key|access_?key|private_?key|signing_?key|authorization|cookie"
    r"|(^|_)(key|pat|pwd|pass|auth)$",
    re.IGNORECASE,
)
_NOT_SECRET = {"PWD", "OLDPWD", "GPG_KEY"}
_ADDRESS_SECRET = re.compile(r"://(?:[^\s/@:]*:)?([^\s/@]+)@")
_SECRET_FILES = (".netrc", ".pypirc", ".git-credentials", ".cache/huggingface/token", ".huggingface/token")
_SECRET_FOLDERS = (".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".config/gcloud", ".config/gh")
_ASSIGNED = re.compile(r"""["']?([\w.-]+)["']?\s*[:=]\s*["']?([^\s"',}]+)""")
_TEXT_SECRETS = {".netrc", ".pypirc", ".git-credentials", "token"}
_PRIVATE_KEY = "PRIVATE KEY-----"
_LARGEST_SECRET_FILE = 64 * 1024

_HUB_NAMES = (
    "HF_ENDPOINT", "HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "all_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


def variable(name: str) -> str | None:
    """Return the value of *name*, None when unset or empty."""
    return os.environ.get(name) or None


def switch(name: str) -> bool:
    """Return whether the switch *name* is on. Raises UsageError for any other value."""
    value = os.environ.get(name, "")
    if value.strip().lower() in _ON:
        return True
    if not value.strip():
        return False
    raise UsageError(f"{name}: got {value!r}, expected 1, true, yes or on to switch it on, or unset")


def network_allowed() -> bool:
    """Return whether this command may open the network (INVARLOCK_ALLOW_NETWORK)."""
    return switch("INVARLOCK_ALLOW_NETWORK")


def judged_environment(home: Path) -> Mapping[str, str]:
    """Return what a sandboxed program sees: a short allow-list, offline switches, every cache below *home*."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    private = dict.fromkeys(_PRIVATE, str(home))
    offline = dict.fromkeys(_OFFLINE, "1")
    steady = {
        "PATH": os.defpath, "TZ": "UTC", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1",
        "PYTHONUTF8": "1", "PYTHONSAFEPATH": "1", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }  # fmt: skip
    return {**kept, **private, **offline, **steady}


def git_index() -> Mapping[str, str]:
    """Return what names the index of a commit that is being made: git gives its hooks one of its own for `commit -a` and
    `commit PATH`."""
    named = os.environ.get("GIT_INDEX_FILE")
    return {"GIT_INDEX_FILE": str(Path(named).absolute())} if named else {}


def install_environment() -> Mapping[str, str]:
    """Return what an installation sees: the allow-list plus index, proxy, certificate and cache settings."""
    seen = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name in _INSTALL_NAMES or name.startswith(_INSTALL_PREFIXES)
    }
    steady = {"PATH": os.environ.get("PATH", os.defpath), "UV_PYTHON_DOWNLOADS": "never", "PYTHONNOUSERSITE": "1"}
    return {**_pip_and_uv_settings(), **seen, **steady}


def compile_environment() -> Mapping[str, str]:
    """Return what a lock compiler sees: index, proxy and certificates, but nothing of this machine's disk, whose files
    others cannot get."""
    seen = {name: value for name, value in install_environment().items() if "FIND_LINKS" not in name}
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        shared = [url for url in seen.pop(name, "").split() if "file:" not in url]
        seen |= {name: " ".join(shared)} if shared else {}
    as_pip = {"UV_DEFAULT_INDEX": "PIP_INDEX_URL", "UV_INDEX": "PIP_EXTRA_INDEX_URL", "SSL_CERT_FILE": "PIP_CERT"}
    return {**{pip: seen[uv] for uv, pip in as_pip.items() if uv in seen}, **seen}


def fetch_environment(home: Path) -> Mapping[str, str]:
    """Return what a download from a hub sees: proxies, certificates, the hub's address and the user's token for it."""
    seen = {name: value for name, value in os.environ.items() if name in _KEPT or name in _HUB_NAMES}
    private = {name: str(home) for name in ("HOME", "TMPDIR", "HF_HOME", "XDG_CACHE_HOME")}
    quiet = dict.fromkeys(("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET", "PYTHONNOUSERSITE", "PYTHONUTF8"), "1")
    return {**seen, **private, **quiet, "PATH": os.defpath}


def own_environment() -> Mapping[str, str]:
    """Return what another process of Sealrun itself sees: everything."""
    return {"HOME": tempfile.gettempdir(), **os.environ}  # some programs refuse to start without a home


def _pip_and_uv_settings() -> Mapping[str, str]:
    """Return pip's configured index, proxy and certificates as uv's variables, and uv's certificates as pip's, where the
    checkout's bootstrap is at hand."""
    try:
        import bootstrap
    except ImportError:  # installed as a package: uv's own configuration alone
        return {}
    return {**bootstrap.index_environment(), **bootstrap.pip_environment()}


def _pip_settings() -> Mapping[str, str]:
    """Return what pip's files and variables say, where the checkout's bootstrap is at hand; nothing where they are broken."""
    try:
        import bootstrap
    except ImportError:
        return {}
    try:
        return bootstrap.pip_settings()
    except bootstrap.Stop:
        return {}  # an installation says what is wrong with them


def keys_folder() -> Path:
    """Return where this user's keys live: SEALRUN_KEYS, else the XDG state folder."""
    if chosen := variable("SEALRUN_KEYS"):
        return Path(chosen)
    state = variable("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111 - the other raises without one
    if not Path(state).is_absolute():
        raise UsageError("SEALRUN_KEYS: this user has no home folder; name a folder of yours for the keys")
    return Path(state) / "sealrun" / "keys"


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def interpreter() -> str:
    """Return the path of the interpreter that runs Sealrun."""
    return sys.executable


def secret_values() -> frozenset[str]:
    """Return what must appear nowhere: values of variables named as secret, the files they point to, passwords in
    addresses of variables and of pip's settings, and what stands in the user's files of credentials and keys."""
    found: set[str] = set()
    for name, value in os.environ.items():
        found.update(_in_addresses(value))
        if _SECRET_NAME.search(name) and name not in _NOT_SECRET:
            found.update(_lines_of(Path(value)) if _exists(value) else _lines(value))
    for value in _pip_settings().values():
        found.update(_in_addresses(value))
    for path in secret_files():
        text = path.read_text("utf-8", "replace")
        found.update(_lines_of(path) if path.name in _TEXT_SECRETS or _PRIVATE_KEY in text else _named(text))
    return frozenset(each for each in found if len(each) >= SHORTEST_SECRET and each.lower() not in _ON | {"false"})


def secret_files() -> tuple[Path, ...]:
    """Return the small files in which this user keeps credentials and keys."""
    folders = [keys_folder(), *_secret_folders()]
    inside = [path for folder in folders for path in _listed(folder) if path.suffix != ".pub"]
    return tuple(path for path in [*_single_files(), *inside] if _is_small_file(path))


def hidden_places(argv: Sequence[str]) -> tuple[Path, ...]:
    """Return the files and folders of credentials and keys that the program *argv* does not name, so need not read."""
    keys = [path for path in _listed(keys_folder()) if path.suffix != ".pub"]
    places = [*_single_files(), *_secret_folders(), *keys]
    return tuple(path for path in places if not any(word == str(path) or word.startswith(f"{path}/") for word in argv))


def _single_files() -> list[Path]:
    return [path for name in _SECRET_FILES if _exists(str(path := _home() / name))]


def _secret_folders() -> list[Path]:
    return [path for name in _SECRET_FOLDERS if (path := _home() / name).is_dir() and os.access(path, os.R_OK | os.X_OK)]


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if _exists(str(folder)) and os.access(folder, os.R_OK | os.X_OK) else []


def _home() -> Path:
    return Path(os.environ.get("HOME") or "/nonexistent")


def host_facts() -> Mapping[str, str]:
    """Return what surrounds this process: the container and the conda environment, for `run.json`."""
    marks = {"/.dockerenv": "docker", "/run/.containerenv": "podman", "/run/systemd/container": "systemd"}
    found = [os.environ.get("container", ""), *(kind for mark, kind in marks.items() if Path(mark).exists())]  # noqa: SIM112
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        found.append("kubernetes")
    made_by_conda = sys.base_prefix if os.path.isdir(f"{sys.base_prefix}/conda-meta") else "none"  # noqa: PTH112 - never raises
    conda = os.environ.get("CONDA_DEFAULT_ENV") or os.environ.get("CONDA_PREFIX") or made_by_conda
    return {"container": next(filter(None, found), "none"), "conda": conda}


def _in_addresses(value: str) -> Iterator[str]:
    for match in _ADDRESS_SECRET.finditer(value):
        yield match[1]
        yield unquote(match[1])


def _named(text: str) -> Iterator[str]:
    """Yield the values that a configuration text (INI, YAML, JSON) gives to names that say secret."""
    for name, value in _ASSIGNED.findall(text):
        if _SECRET_NAME.search(name):
            yield value


def _lines(text: str) -> Iterator[str]:
    """Yield a secret whole, and, as a key has lines, each line that is no heading and long enough to be a part of it."""
    yield text.strip()
    lines = text.split()
    yield from (line for line in lines if len(lines) > 1 and len(line) >= 3 * SHORTEST_SECRET and "-----" not in line)


def _lines_of(path: Path) -> Iterator[str]:
    if _is_small_file(path):
        text = path.read_text("utf-8", "replace")
        yield from _in_addresses(text)
        if path.name in (".netrc", ".pypirc"):
            yield from re.findall(r"password\s*[=:]?\s*(\S+)", text)
        else:
            yield from _lines(text)


def _exists(path: str) -> bool:
    return path.startswith("/") and "\0" not in path and os.path.exists(path)  # noqa: PTH110 - any text may come here


def _is_small_file(path: Path) -> bool:
    try:
        found = path.stat()
        return stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST_SECRET_FILE and os.access(path, os.R_OK)
    except OSError:
        return False

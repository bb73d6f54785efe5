"""The process environment: the only place that reads `os.environ`.

Rules: a switch is on for 1, true, yes, on; off when unset or empty; anything else is an error that says so.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

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
    private = {name: str(home) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    offline = dict.fromkeys(("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    steady = {
        "PATH": os.defpath, "TZ": "UTC", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1",
        "PYTHONUTF8": "1", "PYTHONSAFEPATH": "1", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }  # fmt: skip
    return {**kept, **private, **offline, **steady}


def install_environment() -> Mapping[str, str]:
    """Return what an installation sees: the allow-list plus index, proxy, certificate and cache settings."""
    seen = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name in _INSTALL_NAMES or name.startswith(_INSTALL_PREFIXES)
    }
    steady = {"PATH": os.environ.get("PATH", os.defpath), "UV_PYTHON_DOWNLOADS": "never", "PYTHONNOUSERSITE": "1"}
    return {**_pip_settings_for_uv(), **seen, **steady}


def compile_environment() -> Mapping[str, str]:
    """Return what a lock compiler sees: index, proxy and certificates, but nothing of this machine's disk, whose files
    others cannot get."""
    seen = {name: value for name, value in install_environment().items() if "FIND_LINKS" not in name}
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        shared = [url for url in seen.pop(name, "").split() if "file:" not in url]
        seen |= {name: " ".join(shared)} if shared else {}
    as_pip = {"UV_DEFAULT_INDEX": "PIP_INDEX_URL", "UV_INDEX": "PIP_EXTRA_INDEX_URL", "SSL_CERT_FILE": "PIP_CERT"}
    return {**{pip: seen[uv] for uv, pip in as_pip.items() if uv in seen}, **seen}


def own_environment() -> Mapping[str, str]:
    """Return what another process of Sealrun itself sees: everything."""
    return dict(os.environ)


def _pip_settings_for_uv() -> Mapping[str, str]:
    """Return pip's configured index, proxy and certificates as uv's variables, where the checkout's bootstrap is at hand."""
    try:
        import bootstrap
    except ImportError:  # installed as a package: uv's own configuration alone
        return {}
    return bootstrap.index_environment()


def keys_folder() -> Path:
    """Return where this user's keys live: SEALRUN_KEYS, else the XDG state folder."""
    if chosen := variable("SEALRUN_KEYS"):
        return Path(chosen)
    return Path(variable("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "sealrun" / "keys"


def interpreter() -> str:
    """Return the path of the interpreter that runs Sealrun."""
    return sys.executable

"""Say what model and data files are, by content. Runs inside the `model` environment, never in Sealrun's own.

    python scan_model.py JOB.json FORMATS.json

The job names `files` (each a `path` to report and the `file` to read), the ONNX operator `domains`
that are known, and the `formats` that policy admits.

Rules: nothing is imported, unpickled, rendered or executed; a file is what its bytes are, whatever it is called; a name that
claims another format is a problem, and so is a second format behind the first; a verdict is about bytes that did not change
while they were read. Texts written here hold no path of the host.
"""

import errno
import hashlib
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from sealrun.inside.formats import (
    arrow_file,
    containers,
    gguf_file,
    onnx_file,
    parquet_file,
    pickles,
    safetensors_file,
    sentencepiece_file,
    texts,
)

CLAIMS = {
    ".safetensors": "safetensors", ".onnx": "onnx", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text",
    ".md": "text", ".jinja": "text", ".jinja2": "text", ".j2": "text", ".gguf": "gguf", ".csv": "csv", ".tsv": "csv",
    ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
# What a file of these names would be is not admitted; one that is something else under such a name is no honest file.
REFUSED_CLAIMS = {
    ".pkl", ".pickle", ".pck", ".pcl", ".dill", ".dat", ".joblib", ".pt", ".pth", ".ckpt", ".th", ".t7", ".bin", ".npy", ".npz",
    ".h5", ".hdf5", ".keras", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".lz4", ".7z", ".rar", ".nemo", ".mar",
    ".pb", ".pbtxt", ".tflite", ".mlmodel", ".pdmodel", ".pdiparams", ".msgpack", ".skops", ".pmml",
}  # fmt: skip
CODE_NAMES = frozenset({
    "dockerfile", "containerfile", "makefile", "cmakelists.txt", "jenkinsfile", "vagrantfile", "procfile", "justfile",
    "rakefile", "snakefile", "pyproject.toml", "setup.cfg", "tox.ini", "package.json", ".envrc", ".bashrc", ".bash_profile",
    ".profile", ".zshrc", ".zshenv", ".vimrc", ".exrc", ".npmrc", ".pypirc", "pip.conf", "pip.ini",
})  # fmt: skip
CODE_FOLDERS = frozenset({".vscode", ".devcontainer", ".github", ".gitlab", ".circleci", ".idea", ".husky"})
CODE_SUFFIXES = {
    ".py", ".pyc", ".pyd", ".pyi", ".pyx", ".pyw", ".egg", ".whl", ".ipynb", ".so", ".dll", ".dylib", ".exe", ".jar",
    ".class", ".sh", ".bash", ".zsh", ".bat", ".cmd", ".ps1", ".vbs", ".js", ".mjs", ".wasm", ".rb", ".pl", ".php", ".lua",
    ".hta", ".wsf", ".scr", ".com", ".msi", ".reg", ".url", ".lnk", ".desktop", ".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh",
    ".h", ".hpp", ".cl", ".metal", ".ptx", ".rs", ".go", ".java", ".kt", ".swift", ".scala", ".r", ".jl", ".ts", ".tsx",
    ".jsx", ".cjs", ".a", ".o", ".ko", ".node", ".sys", ".drv", ".pyz", ".pyzw", ".psm1", ".psd1", ".vbe", ".jse", ".wsc",
    ".sct", ".command", ".applescript", ".scpt", ".service", ".apk", ".appimage", ".deb", ".rpm", ".dmg",
}  # fmt: skip
SAFE = ("safetensors", "onnx", "gguf", "sentencepiece", "parquet", "arrow")
TEXTS = ("json", "jsonl", "csv", "text", "script")
BINARY_NAMES = {
    "onnx": {".pb", ".bin"},
    "onnx-data": {".bin", ".dat"},
    "safetensors": {".bin"},
    "gguf": {".bin"},
    "sentencepiece": {".bin"},
}
PICKLE_BEARING = ("pickle", "zip", "numpy")


def main(job_file: str, report_file: str) -> None:
    """Judge every file of the job and write the report."""
    logging.disable(logging.CRITICAL)  # picklescan logs what it finds, with the host's paths
    job = json.loads(Path(job_file).read_bytes())
    pieces: onnx_file.Pieces = {Path(entry["file"]): [] for entry in job["files"]}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = [pool.submit(sha256_of, Path(entry["file"])) for entry in job["files"]]
        verdicts = [verdict(entry, set(job["domains"]), pieces) for entry in job["files"]]
        read = zip(job["files"], verdicts, hashes, strict=True)
        settled = [settle(entry, said, sha256.result()) for entry, said, sha256 in read]
    adopt_external(job["files"], settled, pieces)
    report = {"format": "sealrun/formats-v1", "files": settled, "probe": probe()}
    Path(report_file).write_text(
        json.dumps(report, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n", "utf-8"
    )


def verdict(entry: dict[str, str], domains: set[str], pieces: onnx_file.Pieces) -> dict[str, Any]:
    """Return the verdict on one file, with what tells whether it changed meanwhile."""
    file = Path(entry["file"])
    before = identity(file)
    details: dict[str, Any] = {}
    code = list(code_by_name(entry["path"]))
    found, model = format_of(file)
    problems: list[str] = []
    try:
        problems += judge(file, found, model, domains, pieces, details, code)
    except Exception as error:  # noqa: BLE001 - a reader that gives up has not found the file sound; others are still judged
        problems.append(f"could not be read to its end ({type(error).__name__})")
    if found in ("executable", "script"):
        code.append("is a script" if found == "script" else "is an executable or a shared library")
    problems += false_name(file.suffix.lower(), found)
    problems += containers.second_format(file, found)
    return {"format": found, "problems": problems, "code": code, "details": details, "before": before}


def judge(
    file: Path, found: str, model: Any, domains: set[str], pieces: onnx_file.Pieces, details: dict[str, Any], code: list[str]
) -> Iterator[str]:
    """Yield what is wrong with a file of the format *found*; fill *details* and *code*."""
    if found == "safetensors":
        problems = list(safetensors_file.read(file, details))
        yield from problems or safetensors_file.agree_with_library(file)
    elif found == "onnx":
        yield from onnx_file.read(model, file.parent, details, domains, pieces)
    elif found in PICKLE_BEARING:
        yield from containers.uncertain(file, found)
    elif found in TEXTS:
        yield from texts.read(file, found, details, code)
    elif found == "gguf":
        yield from gguf_file.read(file, details)
    elif found == "sentencepiece":
        sentencepiece_file.describe(file, details)
    elif found == "parquet":
        yield from parquet_file.read(file, details)
    elif found == "arrow":
        yield from arrow_file.read(file, details)


def code_by_name(path: str) -> Iterator[str]:
    """Yield why the file at *path* is code, whatever is in it."""
    name = PurePosixPath(path)
    if name.suffix.lower() in CODE_SUFFIXES:
        yield f"is code by its name (*{name.suffix})"
    if name.name.lower() in CODE_NAMES:
        yield f"is code by its name ({name.name})"
    for part in sorted(CODE_FOLDERS & {part.lower() for part in name.parts[:-1]}):
        yield f"lies in {part}, where editors and services look for what to run"
    if ".git" in name.parts:
        yield "is part of a git repository, whose hooks and settings start programs"


def false_name(suffix: str, found: str) -> Iterator[str]:
    """Yield when a file of the format *found* is named as one of another format."""
    claimed = CLAIMS.get(suffix, found)
    refused = suffix in REFUSED_CLAIMS and found in (*TEXTS, *SAFE, "onnx-data") and suffix not in BINARY_NAMES.get(found, ())
    if claimed != found or refused:
        yield f"is {found}, but is named *{suffix}"


def settle(entry: dict[str, str], said: dict[str, Any], sha256: str) -> dict[str, Any]:
    """Return the verdict with the digest of the bytes it is about."""
    if said.pop("before") != identity(Path(entry["file"])):
        said["problems"].append("changed while it was judged")
    return {**said, "path": entry["path"], "sha256": sha256}


def format_of(file: Path) -> tuple[str, Any]:
    """Return the format of *file* by its content, `unknown` when it is none of those known here; and an ONNX model as read."""
    with file.open("rb") as stream:
        head = stream.read(512)
    if pickles.file_is_pickle(file):
        return "pickle", None
    if safetensors_file.looks_so(head, file.stat().st_size):
        return "safetensors", None
    if known := containers.by_magic(head):
        return known, None
    if containers.is_tar(head):
        return "tar", None
    if arrow_file.looks_so(head):
        return "arrow", None
    if texts.is_text(file):
        return texts.kind_of(file), None
    if sentencepiece_file.looks_so(file):
        return "sentencepiece", None
    model = onnx_file.load(file)
    return ("unknown", None) if model is None else ("onnx", model)


def adopt_external(entries: list[dict[str, str]], verdicts: list[dict[str, Any]], pieces: onnx_file.Pieces) -> None:
    """Call an otherwise unknown file `onnx-data` when tensors of a model take all of it."""
    for entry, said in zip(entries, verdicts, strict=True):
        file = Path(entry["file"])
        taken = pieces[file]
        if taken and said["format"] in ("unknown", *TEXTS):
            was, said["format"] = said["format"], "onnx-data"
            if was == "unknown":  # a text keeps what is wrong with it: others than the model may read it
                said["problems"] = [text for text in said["problems"] if text == "changed while it was judged"]
            said["problems"] += [*gaps(file, sorted(taken)), *false_name(file.suffix.lower(), "onnx-data")]


def gaps(file: Path, taken: list[tuple[int, int]]) -> Iterator[str]:
    """Yield where bytes other than zeros belong to no tensor."""
    reached = 0
    with file.open("rb") as stream:
        for begin, end in [*taken, (file.stat().st_size, 0)]:
            if begin > reached:
                stream.seek(reached)
                if begin - reached > 1024 * 1024 or stream.read(begin - reached).strip(b"\0"):
                    yield f"{begin - reached} bytes at byte {reached} belong to no tensor"
            reached = max(reached, end)


def probe() -> dict[str, Any]:
    """Return what this process sees: the offline switches, and whether a connection is refused for want of a network."""
    names = ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
            attempt.setblocking(False)
            denied = attempt.connect_ex(("192.0.2.1", 9)) in (errno.ENETUNREACH, errno.EACCES, errno.EPERM)
    except PermissionError:  # not even a socket
        denied = True
    environment = {name: os.environ[name] for name in names if name in os.environ}
    return {"environment": environment, "network": "denied" if denied else "opened"}


def identity(file: Path) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written."""
    info = file.stat()
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Wishes for code: by what a JSON value or a text asks a library to run code, or is code itself.

Rules: keys and names are those that libraries act on; Python is told by its syntax tree, never by running it.
"""

import ast
import re
from collections.abc import Iterator
from typing import Any

from sealrun.inside.formats import strict

LONGEST = 512 * 1024  # characters of a text that is parsed as Python, to see whether it is
_TAGS = re.compile(
    rb"!!?python/|tag:yaml\.org,2002:python/|(?:^|[\s\[{,:])!(?:new|apply|name|module|call|singleton|include):[\w./]",
    re.MULTILINE,
)
_TARGETS = re.compile(
    rb"^[ \t]*(?:- +)?(?:_target_|loader_module)[ \t]*:"
    rb"|^[ \t]*(?:- +)?target:[ \t]*[\"']?[A-Za-z_]\w*(?:\.\w+)+[\"']?[ \t]*\r?$",
    re.MULTILINE,
)
_GROWING = re.compile(rb"&\w+[ \t]*\[(?:[ \t]*\*\w+[ \t]*,){3,}")
_ELSEWHERE = re.compile(
    rb"^(?:(?:-e|-i|-f|--index-url|--extra-index-url|--find-links|--editable)[ =]\S|(?:[\w.\[\]-]+ *@ *)?(?:git|hg|svn|bzr)\+\w+://)",
    re.MULTILINE,
)
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")
_CALLED = ("activation_function", "activation_fn", "sbert_ce_default_activation_function")  # sentence_transformers makes them
_PYTHON = re.compile(
    r"^(?:import|from|def|class|async def|@\w+|__import__)\b|\b(?:exec|eval|__import__|open|system|popen)\(", re.MULTILINE
)
_GRAPH = re.compile(rb"^[ \t]*(?:node|meta_graphs|graph_def|layer|layers|python_param)\s*\{", re.MULTILINE)
_LIBRARIES = ("transformers", "diffusers", "sentence_transformers", "keras", "tensorflow.keras", "tf_keras", "keras_hub")


def asked_code(value: Any) -> Iterator[str]:
    """Yield by what a JSON *value* asks a library to run code that comes with the model, or to import what it names."""
    for item in strict.objects(value):
        for key in ("auto_map", "custom_pipelines"):
            if item.get(key):
                yield f"{key} names code to load"
        if item.get("trust_remote_code"):
            yield "trust_remote_code is set"
        for key in ("_attn_implementation", "attn_implementation", "_experts_implementation"):
            if isinstance(item.get(key), str) and "/" in item[key]:
                yield f"{key} names a kernel to fetch and run"
        if "_target_" in item:
            yield "_target_ names an object to call"
        kinds = {name for name in (item.get("class_name"), item.get("className")) if isinstance(name, str)}
        if kinds & {"Lambda", "__lambda__", "TFOpLambda", "SlicingOpLambda"}:
            yield "a Keras Lambda layer holds code"
        if kinds & {"TorchModuleWrapper", "function"}:
            yield "a Keras object is a pickle, or a function named by its module"
        if isinstance(item.get("target"), str) and "params" in item and _DOTTED.fullmatch(item["target"]):
            yield "target names an object to call"
        for key in _CALLED:
            if isinstance(item.get(key), str) and _DOTTED.fullmatch(item[key]) and not item[key].startswith("torch.nn."):
                yield f"{key} names an object to make"
        if "structure" in item and isinstance(item.get("types"), dict):
            for kind in item["types"].values():
                if isinstance(kind, str) and not _known(kind):
                    yield f"a module of the type {kind[:100]!r} is to be imported"
        if isinstance(core := item.get("megatron_core"), str) and core != "megatron.core":
            yield f"megatron_core names {core[:100]!r} to be imported"
        if item.get("kernel_mapping") or item.get("kernel_config"):
            yield "kernels to fetch and run are named"
        module = item.get("module")
        if "class_name" in item and isinstance(module, str) and not _known(module):
            yield f"a Keras object comes from the module {module[:100]!r}"
        kind = item.get("type")
        if {"idx", "name", "path"} <= item.keys() and isinstance(kind, str) and not _known(kind):
            yield f"a module of the type {kind[:100]!r} is to be imported"
        library = item.get("parent_library")
        if isinstance(library, str) and not _known(library):
            yield f"parent_library names {library[:100]!r} to be imported"
        if "nbformat" in item and "cells" in item:
            yield "is a notebook"
        if (
            {"__class__", "__module__"} <= item.keys()
            or any(key.startswith("py/") for key in item)
            or (item.get("lc") and item.get("type") == "constructor")
        ):
            yield "names Python objects to be made"
        if "_class_name" in item and "_diffusers_version" in item:
            yield from _asked_by_pipeline(item)


def _asked_by_pipeline(item: dict[str, Any]) -> Iterator[str]:
    """Yield the libraries that a diffusers pipeline would import for its parts."""
    for part in item.values():
        library = part[0] if isinstance(part, list) and len(part) == 2 else None
        if isinstance(library, str) and isinstance(part[1], str) and not _known(library) and library != "stable_diffusion":
            yield f"a part of a pipeline comes from the module {library[:100]!r}"


def _known(module: str) -> bool:
    """Return whether *module* is of a library whose layers are made by name; its helpers (`utils`) do as they are told."""
    return not {"utils", "saving"} & set(module.split(".")) and any(
        module == library or module.startswith(f"{library}.") for library in _LIBRARIES
    )


def asked_by_text(text: str, suffix: str) -> Iterator[str]:
    """Yield by what a plain text is or asks for code."""
    yield from named_objects(text.encode("utf-8", "replace"), suffix)
    if suffix == ".pth":
        yield "is a text that Python runs at its start (*.pth)"
    if suffix != ".md" and len(text) <= LONGEST and _PYTHON.search(text) and _is_python(text):
        yield "is Python source"


def named_objects(data: bytes, suffix: str) -> Iterator[str]:
    """Yield by what a piece of a text, of any length, names objects to make or is a graph."""
    if _TAGS.search(data) or (suffix != ".md" and _TARGETS.search(data)):  # a page may show a configuration
        yield "is YAML that names objects to make"
    if suffix != ".md" and _GROWING.search(data):
        yield "is YAML that grows when it is read"
    if suffix in (".txt", ".in") and _ELSEWHERE.search(data):
        yield "names packages to install from elsewhere than an index"
    if suffix != ".md" and _GRAPH.search(data):
        yield "is a graph of operators written as text"


def _is_python(text: str) -> bool:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    calls = any(isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) for node in tree.body)
    return calls or any(isinstance(node, kinds) for node in tree.body)

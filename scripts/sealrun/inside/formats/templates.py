"""Chat templates: Jinja that a runtime will render, judged on its syntax tree, never rendered.

Rules: a template may loop, choose, set, print, define macros of its own and call them; it may call the few functions that
templates are given and the harmless methods of texts, lists and maps; it reaches for no attribute or key with a leading
underscore, builds no key out of texts, imports and includes nothing.
"""

import re
from collections.abc import Iterator
from functools import cache

from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

MAX_TEMPLATE = 1024 * 1024
_FUNCTIONS = frozenset({"raise_exception", "strftime_now", "range", "namespace", "dict", "joiner", "cycler", "caller"})
_OF_VALUES = """
    strip lstrip rstrip split rsplit splitlines startswith endswith upper lower title capitalize replace join items keys values
    get count find rfind index isdigit isalpha isalnum isspace isupper islower removeprefix removesuffix partition rpartition
    zfill ljust rjust center cycle changed next append pop insert extend update strftime copy
"""
_METHODS = frozenset(_OF_VALUES.split())
_BY_ATTRIBUTE = frozenset({"map", "selectattr", "rejectattr", "groupby", "sort", "unique", "sum", "min", "max"})
_REFUSED = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends, nodes.ImportedName, nodes.InternalName,
            nodes.EnvironmentAttribute, nodes.ExtensionAttribute, nodes.Pow)  # fmt: skip
_DUNDER = re.compile(r"__\w+__")
_MAX_NUMBER = 1_000_000


class _Generation(Extension):
    """The `{% generation %}` block, by which tokenizers learn what the assistant said."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own shape

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the body: the block itself does nothing."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@cache
def _environment() -> Environment:
    return Environment(autoescape=True, extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do", _Generation])


def judge(text: str, *, strictly: bool) -> Iterator[str]:
    """Yield what a template does beyond what templates need; *strictly* means that the text must be one."""
    if "{{" not in text and "{%" not in text:
        return
    if len(text) > MAX_TEMPLATE:
        if strictly:
            yield f"the template has {len(text)} characters, expected at most {MAX_TEMPLATE}"
        text = text[:MAX_TEMPLATE]
    try:
        tree = _environment().parse(text)
        found = list(dict.fromkeys(_judge(tree)))
    except (TemplateError, RecursionError, ValueError, OverflowError, MemoryError) as error:
        if strictly:
            yield f"the template is no Jinja ({type(error).__name__})"
        elif _DUNDER.search(text):
            yield "holds braces with double underscores between them that are no Jinja"
        return
    yield from found


def _judge(tree: nodes.Template) -> Iterator[str]:
    macros = {macro.name for macro in tree.find_all(nodes.Macro)}
    for name in tree.find_all(nodes.Name):
        if name.ctx in ("store", "param") and name.name in (_FUNCTIONS | macros):
            yield f"the template gives {name.name!r} another meaning"
        if name.name.startswith("_"):
            yield f"the template uses the name {name.name[:100]!r}"
    for node in tree.find_all(nodes.Node):
        if isinstance(node, _REFUSED):
            yield f"the template uses {type(node).__name__}"
        elif isinstance(node, nodes.Call):
            yield from _judge_call(node, macros)
        elif isinstance(node, nodes.Filter | nodes.Test):
            yield from _judge_filter(node)
        elif isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
            yield f"the template reaches for the attribute {node.attr[:100]!r}"
        elif isinstance(node, nodes.Getitem):
            yield from _judge_key(node.arg)
        elif isinstance(node, nodes.Const):
            yield from _judge_constant(node.value)


def _judge_call(node: nodes.Call, macros: set[str]) -> Iterator[str]:
    target = node.node
    if isinstance(target, nodes.Name) and target.name in (_FUNCTIONS | macros):
        return
    if isinstance(target, nodes.Getattr) and target.attr in _METHODS:
        return
    name = "an expression"
    if isinstance(target, nodes.Name | nodes.Getattr):
        name = target.name if isinstance(target, nodes.Name) else target.attr
    yield f"the template calls {name[:100]!r}"


def _judge_filter(node: nodes.Filter | nodes.Test) -> Iterator[str]:
    if node.name == "attr":
        yield "the template uses the filter attr"
    if node.name in _BY_ATTRIBUTE:
        given = [*node.args, *(pair.value for pair in node.kwargs)]
        for value in given:
            if not isinstance(value, nodes.Const | nodes.Name | nodes.Neg):
                yield f"the template builds what the filter {node.name} reaches for"
            elif isinstance(value, nodes.Const) and isinstance(value.value, str) and _reaches(value.value):
                yield f"the template reaches for {value.value[:100]!r} by the filter {node.name}"


def _reaches(path: str) -> bool:
    return path == "attr" or any(part.startswith("_") for part in path.split("."))


def _judge_key(key: nodes.Expr) -> Iterator[str]:
    if isinstance(key, nodes.Const) and isinstance(key.value, str) and key.value.startswith("_"):
        yield f"the template reaches for the key {key.value[:100]!r}"
    if isinstance(key, nodes.Concat | nodes.Add | nodes.Mod | nodes.Mul | nodes.Filter | nodes.Call):
        parts = [const.value for const in (key, *key.find_all(nodes.Const)) if isinstance(const, nodes.Const)]
        if isinstance(key, nodes.Concat) or any(isinstance(part, str) and "_" in part for part in parts):
            yield "the template builds the key that it reaches for"


def _judge_constant(value: object) -> Iterator[str]:
    if isinstance(value, str) and _DUNDER.fullmatch(value.strip()):
        yield f"the template holds the name {value.strip()[:100]!r}"
    if isinstance(value, int) and abs(value) > _MAX_NUMBER:
        yield f"the template holds a number above {_MAX_NUMBER}"

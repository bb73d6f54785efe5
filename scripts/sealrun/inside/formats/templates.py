"""Chat templates: Jinja that a runtime will render, judged on its syntax tree, never rendered.

Rules: a template may loop, choose, set, print, define macros of its own and call them; it may call the few functions that
templates are given and the harmless methods of texts, lists and maps; it reaches for no attribute or key with a leading
underscore, by no key that it put together itself, imports and includes nothing.
"""

import re
import string
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
_TEXT_METHODS = frozenset({"join", "replace", "format", "lower", "upper", "title", "capitalize", "swapcase", "center", "ljust",
                           "rjust", "zfill", "strftime"})  # fmt: skip
_TEXT_FILTERS = frozenset({"join", "replace", "format", "lower", "upper", "title", "capitalize", "string", "reverse", "center",
                           "urlencode", "xmlattr", "escape", "e", "tojson", "indent", "striptags"})  # fmt: skip
_NUMBER_FILTERS = frozenset({"length", "count", "int", "float", "round", "abs"})
_NUMBER_METHODS = frozenset({"range", "find", "rfind", "index", "count", "startswith", "endswith", "isdigit"})
_BY_ATTRIBUTE = frozenset({"map", "selectattr", "rejectattr", "groupby", "sort", "unique", "sum", "min", "max"})
_REFUSED = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends, nodes.ImportedName, nodes.InternalName,
            nodes.EnvironmentAttribute, nodes.ExtensionAttribute, nodes.Pow)  # fmt: skip
_DUNDER = re.compile(r"__\w+__")
_MAX_NUMBER = 1_000_000
_MAX_STEPS = 20


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
        if strictly or not isinstance(error, TemplateError):
            yield f"the template is no Jinja ({type(error).__name__})"
        elif _DUNDER.search(text):
            yield "holds braces with double underscores between them that are no Jinja"
        return
    yield from found


def _judge(tree: nodes.Template) -> Iterator[str]:
    macros = {macro.name for macro in tree.find_all(nodes.Macro)}
    names = list(tree.find_all(nodes.Name))
    stored = {name.name for name in names if name.ctx in ("store", "param")}
    called = {node.node.name for node in tree.find_all(nodes.Call) if isinstance(node.node, nodes.Name)}
    for name in sorted(stored & called & (_FUNCTIONS | macros)):
        yield f"the template gives {name!r} another meaning"
    for name in sorted({name.name for name in names if name.name.startswith("_")}):
        if name.startswith("__") or name not in stored:  # a name of its own, such as the _ of a loop, says nothing
            yield f"the template uses the name {name[:100]!r}"
    built = _built_names(tree)
    for node in tree.find_all(nodes.Node):
        if isinstance(node, _REFUSED):
            yield f"the template uses {type(node).__name__}"
        elif isinstance(node, nodes.Call):
            yield from _judge_call(node, macros)
        elif isinstance(node, nodes.Filter | nodes.Test):
            yield from _judge_filter(node, built)
        elif isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
            yield f"the template reaches for the attribute {node.attr[:100]!r}"
        elif isinstance(node, nodes.Getitem):
            yield from _judge_key(node.arg, built)
        elif isinstance(node, nodes.Const):
            yield from _judge_constant(node.value)


def _judge_call(node: nodes.Call, macros: set[str]) -> Iterator[str]:
    target = node.node
    if isinstance(target, nodes.Name) and target.name in (_FUNCTIONS | macros):
        return
    if isinstance(target, nodes.Getattr) and (target.attr in _METHODS or _is_plain_format(target)):
        return
    name = "an expression"
    if isinstance(target, nodes.Name | nodes.Getattr):
        name = target.name if isinstance(target, nodes.Name) else target.attr
    yield f"the template calls {name[:100]!r}"


def _is_plain_format(target: nodes.Getattr) -> bool:
    """Return whether *target* is the `format` of a text that stands there, whose fields reach into nothing."""
    if target.attr != "format" or not isinstance(target.node, nodes.Const) or not isinstance(target.node.value, str):
        return False
    try:
        parts = list(string.Formatter().parse(target.node.value))
    except ValueError:
        return False
    return all(not spec and not conversion and (not field or field.isalnum()) for _, field, spec, conversion in parts)


def _judge_filter(node: nodes.Filter | nodes.Test, built: set[str]) -> Iterator[str]:
    if node.name == "attr":
        yield "the template uses the filter attr"
    if node.name in _BY_ATTRIBUTE:
        given = [*node.args, *(pair.value for pair in node.kwargs)]
        for value in given:
            if not isinstance(value, nodes.Const | nodes.Name | nodes.Neg) or _is_built(value, built):
                yield f"the template builds what the filter {node.name} reaches for"
            elif isinstance(value, nodes.Const) and isinstance(value.value, str) and _reaches(value.value):
                yield f"the template reaches for {value.value[:100]!r} by the filter {node.name}"


def _reaches(path: str) -> bool:
    return path == "attr" or any(part.startswith("_") for part in path.split("."))


def _judge_key(key: nodes.Expr, built: set[str]) -> Iterator[str]:
    if isinstance(key, nodes.Const) and isinstance(key.value, str) and key.value.startswith("_"):
        yield f"the template reaches for the key {key.value[:100]!r}"
    if not isinstance(key, nodes.Slice) and _is_built(key, built):
        yield "the template builds the key that it reaches for"


def _built_names(tree: nodes.Template) -> set[str]:
    """Return the names, and attributes of namespaces, that may hold a text which the template itself puts together."""
    given: list[tuple[nodes.Node, nodes.Node]] = [
        *((node.target, node.node) for node in tree.find_all(nodes.Assign)),
        *((node.target, node.iter) for node in tree.find_all(nodes.For)),
    ]
    macros = {macro.name: macro for macro in tree.find_all(nodes.Macro)}
    for macro in macros.values():
        given += zip(macro.args[len(macro.args) - len(macro.defaults) :], macro.defaults, strict=True)
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name in macros:
            params = macros[call.node.name].args
            given += [*zip(params, call.args, strict=False)]
            given += [(param, pair.value) for pair in call.kwargs for param in params if param.name == pair.key]
        if isinstance(call.node, nodes.Name) and call.node.name == "namespace":
            given += [(nodes.NSRef("", pair.key), pair.value) for pair in call.kwargs]
    built = {target.name for block in tree.find_all(nodes.AssignBlock) for target in _targets(block.target)}
    for _ in range(_MAX_STEPS):
        more = {name for target, value in given if _is_built(value, built) for name in map(_called, _targets(target))} - built
        if not more:
            return built
        built |= more
    raise ValueError("a name depends on others in too many steps")


def _targets(target: nodes.Node) -> Iterator[nodes.Name | nodes.NSRef]:
    for node in (target, *target.find_all(nodes.Expr)):
        if isinstance(node, nodes.Name | nodes.NSRef):
            yield node


def _called(target: nodes.Name | nodes.NSRef) -> str:
    return target.attr if isinstance(target, nodes.NSRef) else target.name


def _is_built(value: nodes.Node, built: set[str]) -> bool:
    """Return whether a text that *value* may be was put together by the template."""
    if isinstance(value, nodes.Concat) or _gives(value, _TEXT_FILTERS, _TEXT_METHODS):
        return True
    if isinstance(value, nodes.Sub | nodes.Div | nodes.FloorDiv | nodes.Compare | nodes.Test | nodes.Not):
        return False
    if _gives(value, _NUMBER_FILTERS, _NUMBER_METHODS):
        return False
    if isinstance(value, nodes.Name | nodes.NSRef) and _called(value) in built:
        return True
    if isinstance(value, nodes.Getattr) and value.attr in built:
        return True
    if isinstance(value, nodes.Add | nodes.Mul | nodes.Mod) and (_is_text(value.left) or _is_text(value.right)):
        return True
    if isinstance(value, nodes.Keyword) and value.key.startswith("_"):
        return True
    return any(_is_built(child, built) for child in value.iter_child_nodes())


def _gives(value: nodes.Node, filters: frozenset[str], methods: frozenset[str]) -> bool:
    """Return whether *value* is what one of *filters* or one of *methods* (or functions) gives."""
    if isinstance(value, nodes.Filter):
        return value.name in filters
    target = value.node if isinstance(value, nodes.Call) else None
    return (isinstance(target, nodes.Getattr) and target.attr in methods) or (
        isinstance(target, nodes.Name) and target.name in methods
    )


def _is_text(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, str)


def _judge_constant(value: object) -> Iterator[str]:
    if isinstance(value, str) and _DUNDER.fullmatch(value.strip()):
        yield f"the template holds the name {value.strip()[:100]!r}"
    if isinstance(value, int) and abs(value) > _MAX_NUMBER:
        yield f"the template holds a number above {_MAX_NUMBER}"

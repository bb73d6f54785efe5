"""Strict JSON: UTF-8, no key twice, no NaN or infinity, bounded depth.

Rules: what two readers could understand differently is refused.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

MAX_DEPTH = 64


def strict_json(text: str) -> tuple[Any, str | None]:
    """Return the value of strict JSON and None, or None and what is wrong."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        return None, "not strict JSON: nested too deeply"
    except ValueError as error:
        return None, f"not strict JSON: {error}"
    return (None, f"nested deeper than {MAX_DEPTH}") if depth(value) > MAX_DEPTH else (value, None)


def depth(value: Any) -> int:
    """Return how deep lists and objects stand in each other."""
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [child for item in level for child in children(item) if isinstance(child, dict | list)]
    return deepest


def children(value: Any) -> Iterator[Any]:
    """Yield the values directly inside *value*."""
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object inside *value*."""
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            yield item
        rest += children(item)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value

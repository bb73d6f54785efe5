"""The ONNX graph of the network, built node by node.

Rules: the same mathematics as recipe.network; inputs `input_ids` and `attention_mask`, int64 [batch, sequence]; output
`logits`, float32 [batch, sequence, vocabulary]; no producer version, date or path in the file.
"""

import math
from typing import Any

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from recipe.network import EPSILON, HEADS, LAYERS, VOCABULARY, WIDTH, Tensors

OPSET, IR_VERSION = 17, 8
EMBEDDING = "lm_head.weight_transposed"  # [WIDTH, VOCABULARY]: looked up by column, and the last matrix product


class _Graph:
    """Nodes and constants in the order they were added; every node has one output, named after itself."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Any) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(numpy.ascontiguousarray(value), name))
        return name

    def int64(self, *values: int) -> str:
        return self.constant("int64_" + "_".join(map(str, values)), numpy.array(values, numpy.int64))

    def float32(self, value: float) -> str:
        return self.constant(f"float32_{value:.9g}", numpy.array(value, numpy.float32))

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def linear(self, tensors: Tensors, name: str, x: str) -> str:
        product = self.add("MatMul", x, self.constant(f"{name}.weight", tensors[f"{name}.weight"]))
        return self.add("Add", product, self.constant(f"{name}.bias", tensors[f"{name}.bias"]))

    def norm(self, tensors: Tensors, name: str, x: str) -> str:
        weight, bias = (self.constant(f"{name}.{part}", tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=EPSILON)


def build(tensors: Tensors) -> onnx.ModelProto:
    """Return the checked model with these weights."""
    g = _Graph()
    embedding = g.constant(EMBEDDING, tensors["transformer.wte.weight"].T)
    length = g.add("Shape", "input_ids", start=1, end=2)
    positions = g.constant("transformer.wpe.weight", tensors["transformer.wpe.weight"])
    words = g.add("Transpose", g.add("Gather", embedding, "input_ids", axis=1), perm=[1, 2, 0])
    x = g.add("Add", words, g.add("Slice", positions, g.int64(0), length))
    hidden_from = _hidden_from(g, length)
    for layer in range(LAYERS):
        h = f"transformer.h.{layer}"
        x = g.add("Add", x, _attention(g, tensors, f"{h}.attn", g.norm(tensors, f"{h}.ln_1", x), hidden_from))
        inner = _gelu(g, g.linear(tensors, f"{h}.mlp.c_fc", g.norm(tensors, f"{h}.ln_2", x)))
        x = g.add("Add", x, g.linear(tensors, f"{h}.mlp.c_proj", inner))
    g.add("MatMul", g.norm(tensors, "transformer.ln_f", x), embedding, output="logits")
    return _model(g)


def _hidden_from(g: _Graph, length: str) -> str:
    """Add bool [batch, 1, query, key]: true where the key is later than the query, or padding."""
    zero, one = (g.constant(f"int64_scalar_{value}", numpy.array(value, numpy.int64)) for value in (0, 1))
    steps = g.add("Range", zero, g.add("Squeeze", length), one)
    later = g.add("Greater", g.add("Unsqueeze", steps, g.int64(0)), g.add("Unsqueeze", steps, g.int64(1)))
    padding = g.add("Not", g.add("Cast", "attention_mask", to=TensorProto.BOOL))
    return g.add("Or", later, g.add("Unsqueeze", padding, g.int64(1, 2)))


def _attention(g: _Graph, tensors: Tensors, name: str, x: str, hidden_from: str) -> str:
    heads = g.add("Reshape", g.linear(tensors, f"{name}.c_attn", x), g.int64(0, 0, 3 * HEADS, WIDTH // HEADS))
    by_head = g.add("Transpose", heads, perm=[0, 2, 1, 3])
    q, k, v = (g.add("Slice", by_head, g.int64(part * HEADS), g.int64((part + 1) * HEADS), g.int64(1)) for part in range(3))
    scores = g.add("MatMul", q, g.add("Transpose", k, perm=[0, 1, 3, 2]))
    scaled = g.add("Div", scores, g.float32(math.sqrt(WIDTH // HEADS)))
    weights = g.add("Softmax", g.add("Where", hidden_from, g.float32(-1e30), scaled), axis=-1)
    mixed = g.add("Transpose", g.add("MatMul", weights, v), perm=[0, 2, 1, 3])
    return g.linear(tensors, f"{name}.c_proj", g.add("Reshape", mixed, g.int64(0, 0, WIDTH)))


def _gelu(g: _Graph, x: str) -> str:
    """Add GPT-2's GELU: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    cube = g.add("Mul", g.add("Mul", x, x), x)
    inner = g.add("Add", x, g.add("Mul", cube, g.float32(0.044715)))
    tanh = g.add("Tanh", g.add("Mul", inner, g.float32(math.sqrt(2 / math.pi))))
    return g.add("Mul", g.add("Mul", x, g.float32(0.5)), g.add("Add", tanh, g.float32(1.0)))


def _model(g: _Graph) -> onnx.ModelProto:
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", VOCABULARY])
    graph = helper.make_graph(g.nodes, "tiny-lm", [ids, mask], [logits], list(g.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model

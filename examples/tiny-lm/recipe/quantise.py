"""Make the int8 candidate: weights on a per-channel symmetric grid, then onnxruntime's dynamic quantisation.

Rules: one channel is one output of a matrix product (one token, for the embedding), its largest weight lies at step
64 of an int8 (the reduced range with which no CPU's int8 instructions overflow); biases, norms and positions stay
float32. The rounded weights are what the safetensors file holds as floats, and onnxruntime finds exactly the same
integers again; the ONNX model also rounds activations to uint8 while it runs, and looks the embedding up in float32.
"""

import tempfile
from pathlib import Path

import numpy
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from recipe.graph import EMBEDDING, IR_VERSION, build
from recipe.network import Tensors

STEPS = 64


def rounded(tensors: Tensors) -> Tensors:
    """Return the weights, each matrix of a product replaced by its nearest points on the int8 grid."""
    return {
        name: _on_grid(tensor, axis=_input_axis(name)) if tensor.ndim == 2 and "wpe" not in name else tensor
        for name, tensor in tensors.items()
    }


def int8(tensors: Tensors) -> onnx.ModelProto:
    """Return the ONNX model whose matrix products are int8; *tensors* must be rounded already."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        quantize_dynamic(
            build(tensors),
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        model = onnx.load(path)
    for field in ("producer_name", "producer_version", "metadata_props"):
        model.ClearField(field)
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    _require_same_weights(model, tensors)
    return model


def _input_axis(name: str) -> int:
    """Return the axis that is summed over: the embedding is stored by token, the others as [inputs, outputs]."""
    return 1 if "wte" in name else 0


def _on_grid(tensor: numpy.ndarray, *, axis: int) -> numpy.ndarray:
    scale = numpy.abs(tensor).max(axis=axis, keepdims=True) / numpy.float32(STEPS)
    return (numpy.rint(tensor / scale) * scale).astype(numpy.float32)


def _require_same_weights(model: onnx.ModelProto, tensors: Tensors) -> None:
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    quantised = [name.removesuffix("_quantized") for name in constants if name.endswith("_quantized")]
    expected = {name: t for name, t in tensors.items() if t.ndim == 2 and "wpe" not in name and "wte" not in name}
    expected[EMBEDDING] = tensors["transformer.wte.weight"].T
    if set(quantised) != set(expected):
        raise SystemExit(f"int8 model: quantised {sorted(quantised)}, expected {sorted(expected)}")
    for name, tensor in expected.items():
        again = constants[f"{name}_quantized"] * constants[f"{name}_scale"]
        if not numpy.allclose(again, tensor, rtol=1e-5, atol=0):
            raise SystemExit(f"int8 model: {name} is not the rounded weight; round as onnxruntime does")

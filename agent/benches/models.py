#!/usr/bin/env python3
"""Makes the models that inference is measured with. Weights are random from a seed: what they answer is nobody's business.

    python3 models.py DIR

tabular.onnx    12 numbers in, a score out: two small layers, as for vital signs
cnn_int8.onnx   an image of 3 x 64 x 64 in, 10 scores out: four convolutions, weights and activations quantised to INT8
means.onnx      an image of 3 x 224 x 224 in, the mean of each colour out: next to no work
resnet50.onnx   an image of 3 x 224 x 224 in, 1000 scores out: the layers of ResNet-50 (He et al. 2015, v1.5), f32
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper


class Graph:
    """Nodes and weights in the order of execution; `last` names the tensor that the next layer reads."""

    def __init__(self, shape: list[int]) -> None:
        self.rng = np.random.default_rng(7)
        self.nodes, self.weights, self.shape, self.last = [], [], shape, "x"

    def name(self, what: str) -> str:
        return f"{what}{len(self.nodes)}_{len(self.weights)}"

    def weight(self, array: np.ndarray) -> str:
        name = self.name("w")
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        out = self.name(kind.lower())
        self.nodes.append(h.make_node(kind, [self.last, *inputs], [out], **attributes))
        self.last = out
        return out

    def dense(self, rows: int, columns: int) -> None:
        self.node("MatMul", self.weight(self.normal((rows, columns), rows)))
        self.node("Add", self.weight(np.zeros(columns, np.float32)))

    def conv(self, into: int, out: int, kernel: int, stride: int = 1, relu: bool = True) -> str:
        weight = self.weight(self.normal((out, into, kernel, kernel), into * kernel * kernel))
        bias = self.weight(np.zeros(out, np.float32))
        self.node("Conv", weight, bias, strides=[stride] * 2, pads=[kernel // 2] * 4)
        return self.node("Relu") if relu else self.last

    def quantised_conv(self, into: int, out: int, stride: int) -> None:
        """As quantisation tools write it: activations and weights each through a pair of QuantizeLinear, DequantizeLinear."""
        self.quantise(0.05)
        real = self.normal((out, into, 3, 3), into * 9)
        scale = np.abs(real).max() / 127
        weights = self.weight(np.clip(np.rint(real / scale), -127, 127).astype(np.int8))
        spread, zero = self.weight(np.float32(scale)), self.weight(np.int8(0))
        dequantised = self.name("dequantised")
        self.nodes.append(h.make_node("DequantizeLinear", [weights, spread, zero], [dequantised]))
        bias = self.weight(np.zeros(out, np.float32))
        self.node("Conv", dequantised, bias, strides=[stride] * 2, pads=[1] * 4)
        self.node("Relu")

    def quantise(self, scale: float) -> None:
        spread, zero = self.weight(np.float32(scale)), self.weight(np.int8(0))
        self.node("QuantizeLinear", spread, zero)
        self.node("DequantizeLinear", spread, zero)

    def bottleneck(self, into: int, width: int, stride: int) -> None:
        entry, out = self.last, 4 * width
        self.conv(into, width, 1)
        self.conv(width, width, 3, stride)
        main = self.conv(width, out, 1, relu=False)
        self.last = entry
        shortcut = self.conv(into, out, 1, stride, relu=False) if stride > 1 or into != out else entry
        self.last = main
        self.node("Add", shortcut)
        self.node("Relu")

    def pooled(self, channels: int, classes: int) -> None:
        self.node("GlobalAveragePool")
        self.node("Flatten")
        self.dense(channels, classes)

    def normal(self, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
        return (self.rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    def save(self, path: pathlib.Path, outputs: int) -> None:
        self.nodes[-1].output[0] = "y"
        into = h.make_tensor_value_info("x", T.FLOAT, self.shape)
        out = h.make_tensor_value_info("y", T.FLOAT, [self.shape[0], outputs])
        graph = h.make_graph(self.nodes, path.stem, [into], [out], self.weights)
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], producer_name="muster-bench")
        model.ir_version = 9
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())


def tabular() -> Graph:
    graph = Graph([1, 12])
    graph.dense(12, 32)
    graph.node("Relu")
    graph.dense(32, 1)
    graph.node("Sigmoid")
    return graph


def cnn_int8() -> Graph:
    graph = Graph([1, 3, 64, 64])
    for into, out, stride in ((3, 16, 2), (16, 32, 2), (32, 32, 1), (32, 64, 2)):
        graph.quantised_conv(into, out, stride)
    graph.pooled(64, 10)
    return graph


def means() -> Graph:
    graph = Graph([1, 3, 224, 224])
    graph.node("GlobalAveragePool")
    graph.node("Flatten")
    return graph


def resnet50() -> Graph:
    graph = Graph([1, 3, 224, 224])
    graph.conv(3, 64, 7, 2)
    graph.node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    into = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            graph.bottleneck(into, width, stride if block == 0 else 1)
            into = 4 * width
    graph.pooled(2048, 1000)
    return graph


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make, outputs in ((tabular, 1), (cnn_int8, 10), (means, 3), (resnet50, 1000)):
        path = folder / f"{make.__name__}.onnx"
        if not path.exists():
            make().save(path, outputs)


if __name__ == "__main__":
    main()

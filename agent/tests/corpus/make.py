#!/usr/bin/env python3
"""Makes models that are broken or mean harm, each in a folder of its own. Needs onnx and numpy; the files are committed.

    python3 make.py         fills the folders beside this file

Every folder holds model.onnx; those called ir-* hold an OpenVINO model behind it: model.xml and model.bin. No box may run
any of them, and none may hurt one.
"""
import pathlib
import shutil
import struct

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

OUT = pathlib.Path(__file__).parent
GOOD = (OUT / "../fixtures/logistic.onnx").read_bytes()


def folder(name):
    path = OUT / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def raw(name, data):
    (folder(name) / "model.onnx").write_bytes(data)


def graph(name, nodes, weights=(), inputs=None, outputs=None, opsets=(("", 17),)):
    """Unchecked: what the checker would refuse is the point."""
    inputs = inputs or [h.make_tensor_value_info("x", T.FLOAT, ["n", 4])]
    outputs = outputs or [h.make_tensor_value_info("score", T.FLOAT, ["n", 1])]
    made = h.make_model(
        h.make_graph(list(nodes), name, inputs, outputs, list(weights)),
        opset_imports=[h.make_opsetid(domain, version) for domain, version in opsets],
    )
    made.ir_version = 9
    raw(name, made.SerializeToString())


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def sum_up(last):
    return h.make_node("ReduceSum", [last, "axis"], ["score"], keepdims=1)


AXIS = tensor("axis", np.int64([1]))

# Not a model at all.
raw("empty", b"")
raw("one-byte", b"\x08")
raw("page", b"<html><body>404 Not Found</body></html>")
raw("wrong-magic", b"\x7fELF\x02\x01\x01" + bytes(64))
raw("zip", b"PK\x03\x04" + bytes(60))
raw("ort-format", struct.pack("<I", 16) + b"ORTM" + bytes(64))
raw("random", np.random.default_rng(1).bytes(2000))
raw("zeros", bytes(4096))
for part in (1, 2, 3):
    raw(f"truncated-{part}", GOOD[: len(GOOD) * part // 4])
raw("twice", GOOD + GOOD)
raw("long-field", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + GOOD)
deep = b""
for _ in range(200):
    # A graph in an attribute of a node of a graph, and so on.
    for key in (0x32, 0x2A, 0x0A):
        length, head = len(deep), bytearray([key])
        while length > 127:
            head.append(length & 127 | 128)
            length >>= 7
        deep = bytes([*head, length]) + deep
raw("deep", b"\x3a" + bytes([len(deep) & 127 | 128, len(deep) >> 7 & 127 | 128, len(deep) >> 14]) + deep)

# Graphs that make no sense.
graph("cycle", [h.make_node("Add", ["x", "b"], ["a"]), h.make_node("Relu", ["a"], ["b"]), h.make_node("Identity", ["b"], ["score"])])
graph("unknown-operator", [h.make_node("Telepathy", ["x"], ["score"])])
graph("unknown-domain", [h.make_node("Relu", ["x"], ["score"], domain="com.example")], opsets=(("", 17), ("com.example", 1)))
graph("opset-99", [h.make_node("Relu", ["x"], ["score"])], opsets=(("", 99),))
graph("no-opset", [h.make_node("Relu", ["x"], ["score"])], opsets=())
graph("no-node", [])
graph("no-such-input", [h.make_node("Relu", ["y"], ["score"])])
graph("no-inputs-at-all", [h.make_node("GlobalAveragePool", [], ["score"])])
graph("two-of-a-name", [h.make_node("Relu", ["x"], ["score"]), h.make_node("Sigmoid", ["x"], ["score"])])
graph("wrong-type", [h.make_node("MatMul", ["x", "w"], ["score"])], [tensor("w", np.int64([[1], [2], [3], [4]]))])
graph("wrong-width", [h.make_node("MatMul", ["x", "w"], ["score"])], [tensor("w", np.float32([[1], [2], [3]]))])
graph(
    "stride-0",
    [
        h.make_node("Unsqueeze", ["x", "axis"], ["wide"]),
        h.make_node("Conv", ["wide", "w"], ["y"], strides=[0], kernel_shape=[1]),
        h.make_node("Flatten", ["y"], ["score"]),
    ],
    [AXIS, tensor("w", np.ones((1, 1, 1), np.float32))],
)
graph(
    "divides-by-0",
    [h.make_node("Cast", ["x"], ["i"], to=T.INT64), h.make_node("Mod", ["i", "zero"], ["m"]), h.make_node("Cast", ["m"], ["f"], to=T.FLOAT), sum_up("f")],
    [AXIS, tensor("zero", np.int64([0]))],
)

# Weights that lie about themselves.
def lying(name, edit):
    weight = tensor("w", np.float32([[0.5], [-1.0], [0.25], [2.0]]))
    edit(weight)
    graph(name, [h.make_node("MatMul", ["x", "w"], ["score"])], [weight])


lying("huge-weight", lambda w: w.dims.__setitem__(slice(None), [1 << 40, 1]))
lying("overflowing-weight", lambda w: w.dims.__setitem__(slice(None), [1 << 62, 8]))
lying("negative-weight", lambda w: w.dims.__setitem__(slice(None), [-4, 1]))
lying("short-weight", lambda w: setattr(w, "raw_data", w.raw_data[:7]))
lying("typeless-weight", lambda w: setattr(w, "data_type", 77))


def elsewhere(name, location, **more):
    def edit(weight):
        weight.ClearField("raw_data")
        weight.data_location = T.EXTERNAL
        for key, value in {"location": location, **more}.items():
            weight.external_data.add(key=key, value=str(value))

    lying(name, edit)


# Files that are none of its business.
elsewhere("external-absolute", "/etc/passwd", offset=0, length=16)
elsewhere("external-above", "../../../../../../etc/passwd", offset=0, length=16)
elsewhere("external-sibling", "../empty/model.onnx", offset=0, length=16)
elsewhere("external-device", "/dev/zero", offset=0, length=16)
elsewhere("external-memory", "*/_ORT_MEM_ADDR_/*", offset=4096, length=16)
elsewhere("external-missing", "weights.bin", offset=0, length=16)
elsewhere("external-itself", "model.onnx", offset=0, length=1 << 40)

# Asks for more than there is.
graph(
    "grows",
    [
        h.make_node(
            "Loop", ["times", "yes", "x"], ["big"],
            body=h.make_graph(
                [
                    h.make_node("Identity", ["go"], ["go_out"]),
                    h.make_node("Concat", ["acc", "acc"], ["acc_out"], axis=1),
                ],
                "body",
                [h.make_tensor_value_info("i", T.INT64, []), h.make_tensor_value_info("go", T.BOOL, []), h.make_tensor_value_info("acc", T.FLOAT, None)],
                [h.make_tensor_value_info("go_out", T.BOOL, []), h.make_tensor_value_info("acc_out", T.FLOAT, None)],
            ),
        ),
        sum_up("big"),
    ],
    [AXIS, tensor("times", np.int64(60)), tensor("yes", np.bool_(True))],
)
graph(
    "expands",
    [h.make_node("ReduceSum", ["x", "axis"], ["s"], keepdims=1), h.make_node("Expand", ["s", "shape"], ["big"]), sum_up("big")],
    [AXIS, tensor("shape", np.int64([1, 1 << 40]))],
)


# OpenVINO's own format.
def pointer(path, target="model.xml", embed=0):
    node = h.make_node(
        "EPContext", ["x"], ["score"], domain="com.microsoft", main_context=1, embed_mode=embed, ep_cache_context=target,
        source="OpenVINOExecutionProvider", partition_name="OpenVINOExecutionProvider_0",
    )
    made = h.make_model(
        h.make_graph([node], "ir", [h.make_tensor_value_info("x", T.FLOAT, ["n", 4])], [h.make_tensor_value_info("score", T.FLOAT, ["n", 1])]),
        opset_imports=[h.make_opsetid("", 17), h.make_opsetid("com.microsoft", 1)],
    )
    made.ir_version = 9
    (path / "model.onnx").write_bytes(made.SerializeToString())


def layer(number, name, kind, data="", ports_in="", ports_out="", version="opset1"):
    return (
        f'<layer id="{number}" name="{name}" type="{kind}" version="{version}">{data}'
        + (f"<input>{ports_in}</input>" if ports_in else "") + (f"<output>{ports_out}</output>" if ports_out else "") + "</layer>"
    )


def port(number, *dims, names=""):
    named = f' names="{names}"' if names else ""
    return f'<port id="{number}" precision="FP32"{named}>' + "".join(f"<dim>{d}</dim>" for d in dims) + "</port>"


def network(offset=0, size=16, shape="4,1", kind="MatMul", edges=None, element="f32"):
    layers = [
        layer(0, "x", "Parameter", '<data shape="?,4" element_type="f32"/>', ports_out=port(0, -1, 4, names="x")),
        layer(1, "w", "Const", f'<data element_type="{element}" shape="{shape}" offset="{offset}" size="{size}"/>', ports_out=port(0, 4, 1)),
        layer(
            2, "m", kind, '<data transpose_a="false" transpose_b="false"/>', port(0, -1, 4) + port(1, 4, 1),
            port(2, -1, 1, names="score"),
        ),
        layer(3, "out", "Result", "", port(0, -1, 1)),
    ]
    edges = edges or [(0, 0, 2, 0), (1, 0, 2, 1), (2, 2, 3, 0)]
    wired = "".join(f'<edge from-layer="{a}" from-port="{b}" to-layer="{c}" to-port="{d}"/>' for a, b, c, d in edges)
    return f'<?xml version="1.0"?><net name="n" version="11"><layers>{"".join(layers)}</layers><edges>{wired}</edges></net>'


WEIGHTS = np.float32([0.5, -1.0, 0.25, 2.0]).tobytes()


def ir(name, xml, weights=WEIGHTS, **more):
    path = folder(f"ir-{name}")
    pointer(path, **more)
    if xml is not None:
        (path / "model.xml").write_bytes(xml if isinstance(xml, bytes) else xml.encode())
    if weights is not None:
        (path / "model.bin").write_bytes(weights)


BOMB = '<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{("&" + chr(97 + i) + ";") * 10}">' for i in range(12)
) + ']><net name="&m;" version="11"><layers/><edges/></net>'
ir("bomb", BOMB)
ir("entity", '<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]><net name="&x;" version="11"><layers/><edges/></net>')
ir("empty", b"")
ir("page", "<html>404</html>")
ir("truncated", network()[:400])
ir("binary", np.random.default_rng(2).bytes(500))
ir("deep", "<net>" + "<a>" * 20000 + "</a>" * 20000 + "</net>")
ir("no-weights", network(), None)
ir("empty-weights", network(), b"")
ir("short-weights", network(), WEIGHTS[:7])
ir("offset-beyond", network(offset=1 << 20))
ir("offset-overflow", network(offset=(1 << 64) - 8))
ir("offset-negative", network(offset=-16))
ir("size-huge", network(size=1 << 50))
ir("size-wrong", network(size=4))
ir("shape-huge", network(shape=f"{1 << 40},{1 << 40}"))
ir("shape-overflow", network(shape=f"{1 << 62},8"))
ir("shape-garbage", network(shape="four,one"))
ir("type-unknown", network(element="f99"))
ir("operator-unknown", network(kind="Telepathy"))
ir("cycle", network(edges=[(2, 2, 2, 0), (1, 0, 2, 1), (2, 2, 3, 0)]))
ir("edge-to-nowhere", network(edges=[(0, 0, 2, 0), (1, 0, 99, 1), (2, 2, 3, 0)]))
ir("edge-to-no-port", network(edges=[(0, 0, 2, 7), (1, 0, 2, 1), (2, 2, 3, 0)]))
ir("no-result", network(edges=[(0, 0, 2, 0), (1, 0, 2, 1)]))
ir("missing", None, None)
ir("elsewhere", network(), target="../ir-page/model.xml")
ir("absolute", network(), target="/etc/passwd")
ir("compiled", network(), target="model.bin")
ir("embedded", network(), target="x" * 5000, embed=1)

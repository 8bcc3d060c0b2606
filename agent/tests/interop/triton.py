"""What applications do that were written for Triton, with its own clients, over HTTP and gRPC.

    triton.py --http 127.0.0.1:8001 --grpc 127.0.0.1:8002 [--unix PATH] [--proto FILE]

Models: `m` is sigmoid(x . [0.5, -1, 0.25, 2] + 0.1) for x FP32 [-1, 4]; `echo` answers NAME_out with NAME for every type
that is a number, [-1, 2]; `text` answers t_out with t, BYTES [-1]; `slow` takes some tenths of a second.
"""
import asyncio
import json
import pathlib
import queue
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import grpc
import ml_dtypes
import numpy as np
import tritonclient.grpc as tg
import tritonclient.grpc.aio as tga
import tritonclient.http as th
import tritonclient.http.aio as tha
from grpc_tools import protoc
from tritonclient.utils import InferenceServerException

from harness import NUMBERS, ROWS, SCORES, NotHere, check, expect, main, scored

TYPES = {**NUMBERS, "bf16": ml_dtypes.bfloat16}


def post(place, path, body, headers=()):
    request = urllib.request.Request(f"http://{place.http}{path}", data=body, headers=dict(headers), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def refused(call, *words, status=None):
    """The client raises its own exception, with the server's sentence and, over gRPC, this status."""
    try:
        call()
    except InferenceServerException as error:
        expect(status is None or status in str(error.status()), (error.status(), error.message()))
        expect(all(word in error.message() for word in words), error.message())
    else:
        raise AssertionError("it was accepted")


def x(client, rows=ROWS, binary=True, name="x", datatype="FP32"):
    tensor = client.InferInput(name, list(rows.shape), datatype)
    if client in (th, tha):
        tensor.set_data_from_numpy(rows, binary_data=binary)
    else:
        tensor.set_data_from_numpy(rows)
    return tensor


# tritonclient over HTTP


@check
def http_health_and_metadata(place):
    with th.InferenceServerClient(place.http) as client:
        expect(client.is_server_live() and client.is_server_ready(), "not live or not ready")
        expect(client.is_model_ready("m") and not client.is_model_ready("nobody"), "model readiness")
        expect("name" in client.get_server_metadata(), client.get_server_metadata())
        model = client.get_model_metadata("m")
        expect(model["inputs"][0]["datatype"] == "FP32" and model["inputs"][0]["shape"] == [-1, 4], model)
        version = model["versions"][0]
        expect(client.is_model_ready("m", version) and client.get_model_metadata("m", version)["name"] == "m", version)


@check
def http_repository_index(place):
    with th.InferenceServerClient(place.http) as client:
        found = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
        expect(found.get("m") == "READY", found)


@check
def http_extensions_are_announced(place):
    with th.InferenceServerClient(place.http) as client:
        expect("binary_tensor_data" in client.get_server_metadata()["extensions"], client.get_server_metadata())


@check
def http_statistics(place):
    with th.InferenceServerClient(place.http) as client:
        client.infer("m", [x(th, binary=False)])
        stats = client.get_inference_statistics("m")["model_stats"][0]
        expect(stats["inference_stats"]["success"]["count"] > 0 and stats["inference_count"] > 0, stats)
        expect(client.get_inference_statistics()["model_stats"], "nothing for all models")


@check
def http_config(place):
    with th.InferenceServerClient(place.http) as client:
        config = client.get_model_config("m")
        expect(config["name"] == "m" and config["input"][0]["data_type"] == "TYPE_FP32", config)


@check
def http_json_in_json_out(place):
    with th.InferenceServerClient(place.http) as client:
        outputs = [th.InferRequestedOutput("score", binary_data=False)]
        answer = client.infer("m", [x(th, binary=False)], outputs=outputs, request_id="r-1")
        expect(answer.get_response()["id"] == "r-1", answer.get_response())
        scored(answer.as_numpy("score"))


@check
def http_binary_in_json_out(place):
    with th.InferenceServerClient(place.http) as client:
        scored(client.infer("m", [x(th)], outputs=[th.InferRequestedOutput("score", binary_data=False)]).as_numpy("score"))


@check
def http_json_in_binary_out(place):
    with th.InferenceServerClient(place.http) as client:
        answer = client.infer("m", [x(th, binary=False)], outputs=[th.InferRequestedOutput("score", binary_data=True)])
        expect(answer.get_response()["outputs"][0]["parameters"]["binary_data_size"] == 8, answer.get_response())
        scored(answer.as_numpy("score"))


@check
def http_binary_is_the_default(place):
    with th.InferenceServerClient(place.http) as client:
        scored(client.infer("m", [x(th)]).as_numpy("score"))


@check
def http_compressed(place):
    many = np.tile(ROWS, (500, 1))
    with th.InferenceServerClient(place.http) as client:
        for way in ["gzip", "deflate"]:
            for binary in [False, True]:
                answer = client.infer(
                    "m", [x(th, many, binary)], request_compression_algorithm=way, response_compression_algorithm=way,
                    outputs=[th.InferRequestedOutput("score", binary_data=binary)],
                )
                scored(answer.as_numpy("score")[:2])


@check
def http_every_type_in_binary(place):
    with th.InferenceServerClient(place.http) as client:
        inputs = [x(th, np.array([[0, 1]], kind), True, name, name.upper()) for name, kind in TYPES.items()]
        answer = client.infer("echo", inputs)
        for name, kind in TYPES.items():
            found = answer.as_numpy(f"{name}_out")
            expect(found.dtype == kind and found.tolist() == np.array([[0, 1]], kind).tolist(), (name, found))


@check
def http_texts(place):
    texts = np.array(["grün".encode(), b"", b"ab"], dtype=np.object_)
    with th.InferenceServerClient(place.http) as client:
        for binary in [True, False]:
            answer = client.infer("text", [x(th, texts, binary, "t", "BYTES")], outputs=[th.InferRequestedOutput("t_out", binary)])
            found = [text.encode() if isinstance(text, str) else text for text in answer.as_numpy("t_out").tolist()]
            expect(found == texts.tolist(), found)


@check
def http_many_at_once(place):
    with th.InferenceServerClient(place.http, concurrency=8) as client:
        for answer in [client.async_infer("m", [x(th)]) for _ in range(64)]:
            scored(answer.get_result().as_numpy("score"))


@check
def http_aio(place):
    async def play():
        async with tha.InferenceServerClient(place.http) as client:
            expect(await client.is_server_ready() and await client.is_model_ready("m"), "not ready")
            answers = await asyncio.gather(*(client.infer("m", [x(th)]) for _ in range(16)))
            for answer in answers:
                scored(answer.as_numpy("score"))

    asyncio.run(play())


@check
def http_one_tensor_and_nothing_else(place):
    status, headers, body = post(place, "/v2/models/m/infer", ROWS.tobytes(), {"Inference-Header-Content-Length": "0"})
    at = int({name.lower(): value for name, value in headers.items()}["inference-header-content-length"])
    expect(status == 200 and np.allclose(np.frombuffer(body[at:], np.float32), SCORES, atol=1e-5), (status, body))


@check
def http_refusals_have_a_sentence(place):
    with th.InferenceServerClient(place.http) as client:
        refused(lambda: client.infer("nobody", [x(th)]), "nobody")
        refused(lambda: client.infer("m", [x(th)], model_version="77"), "77")
        refused(lambda: client.infer("m", [x(th, name="y")]), "'y'")
        refused(lambda: client.infer("m", [x(th, np.float64([[0, 0, 0, 0]]), datatype="FP64")]), "FP64")
        refused(lambda: client.infer("m", [x(th, np.float32([[0, 0, 0]]))]), "shape")
        refused(lambda: client.infer("m", [x(th)], outputs=[th.InferRequestedOutput("nothing")]), "nothing")
        refused(lambda: client.infer("m", [x(th, np.float32([[0, 0, 0, np.nan]]))]), "finite")
        refused(lambda: client.get_model_metadata("nobody"), "nobody")


@check
def http_every_error_is_json_with_an_error(place):
    for path, body, status in [
        ("/v2/models/m/infer", b"hello", 400),
        ("/v2/models/m/infer", b"{}", 400),
        ("/v2/models/m/infer", b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1]}]}', 400),
        ("/v2/models/nobody/infer", b"{}", 404),
        ("/v2/nothing", b"", 404),
    ]:
        found, _, answer = post(place, path, body)
        expect(found == status and isinstance(json.loads(answer).get("error"), str), (path, body, found, answer))


@check
def http_what_the_fleet_decides_and_what_is_not_here(place):
    with th.InferenceServerClient(place.http) as client:
        refused(lambda: client.load_model("m"), "order")
        refused(lambda: client.unload_model("m"), "order")
        refused(lambda: client.get_system_shared_memory_status(), "not supported")
        refused(lambda: client.get_trace_settings(), "not supported")
        refused(lambda: client.get_log_settings(), "not supported")


# tritonclient over gRPC


@check
def grpc_health_and_metadata(place):
    with tg.InferenceServerClient(place.grpc) as client:
        expect(client.is_server_live() and client.is_server_ready() and client.is_model_ready("m"), "not ready")
        expect(client.get_server_metadata().name, client.get_server_metadata())
        model = client.get_model_metadata("m")
        expect(list(model.inputs[0].shape) == [-1, 4] and model.inputs[0].datatype == "FP32", model)


@check
def grpc_repository_index(place):
    with tg.InferenceServerClient(place.grpc) as client:
        found = {entry.name: entry.state for entry in client.get_model_repository_index().models}
        expect(found.get("m") == "READY", found)


@check
def grpc_statistics_and_config(place):
    with tg.InferenceServerClient(place.grpc) as client:
        client.infer("m", [x(tg)])
        stats = client.get_inference_statistics("m").model_stats[0]
        expect(stats.inference_stats.success.count > 0 and stats.inference_stats.compute_infer.ns > 0, stats)
        config = client.get_model_config("m").config
        expect(config.name == "m" and config.input[0].data_type == 11, config)


@check
def grpc_raw(place):
    with tg.InferenceServerClient(place.grpc) as client:
        answer = client.infer("m", [x(tg)], outputs=[tg.InferRequestedOutput("score")], request_id="r-1")
        expect(answer.get_response().id == "r-1", answer.get_response())
        scored(answer.as_numpy("score"))


@check
def grpc_compressed(place):
    with tg.InferenceServerClient(place.grpc) as client:
        for way in ["gzip", "deflate"]:
            scored(client.infer("m", [x(tg, np.tile(ROWS, (500, 1)))], compression_algorithm=way).as_numpy("score")[:2])


@check
def grpc_every_type(place):
    with tg.InferenceServerClient(place.grpc) as client:
        inputs = [x(tg, np.array([[0, 1]], kind), name=name, datatype=name.upper()) for name, kind in TYPES.items()]
        answer = client.infer("echo", inputs)
        for name, kind in TYPES.items():
            found = answer.as_numpy(f"{name}_out")
            expect(found.dtype == kind and found.tolist() == np.array([[0, 1]], kind).tolist(), (name, found))


@check
def grpc_texts(place):
    texts = np.array(["grün".encode(), b"", b"ab"], dtype=np.object_)
    with tg.InferenceServerClient(place.grpc) as client:
        found = client.infer("text", [x(tg, texts, name="t", datatype="BYTES")]).as_numpy("t_out").tolist()
        expect(found == texts.tolist(), found)


@check
def grpc_aio(place):
    async def play():
        async with tga.InferenceServerClient(place.grpc) as client:
            answers = await asyncio.gather(*(client.infer("m", [x(tg)]) for _ in range(16)))
            for answer in answers:
                scored(answer.as_numpy("score"))

    asyncio.run(play())


@check
def grpc_refusals_have_their_status(place):
    with tg.InferenceServerClient(place.grpc) as client:
        refused(lambda: client.infer("nobody", [x(tg)]), "nobody", status="NOT_FOUND")
        refused(lambda: client.infer("m", [x(tg)], model_version="77"), "77", status="NOT_FOUND")
        refused(lambda: client.get_model_metadata("nobody"), status="NOT_FOUND")
        refused(lambda: client.infer("m", [x(tg, name="y")]), "'y'", status="INVALID_ARGUMENT")
        refused(lambda: client.infer("m", [x(tg, np.float32([[0, 0, 0]]))]), "shape", status="INVALID_ARGUMENT")
        refused(lambda: client.infer("m", [x(tg, np.float64([[0] * 4]), datatype="FP64")]), "FP64", status="INVALID_ARGUMENT")


@check
def grpc_what_the_fleet_decides_and_what_is_not_here(place):
    with tg.InferenceServerClient(place.grpc) as client:
        refused(lambda: client.load_model("m"), "order", status="PERMISSION_DENIED")
        refused(lambda: client.unload_model("m"), "order", status="PERMISSION_DENIED")
        refused(lambda: client.get_system_shared_memory_status(), status="UNIMPLEMENTED")
        refused(lambda: client.get_trace_settings(), status="UNIMPLEMENTED")


@check
def grpc_too_large(place):
    with tg.InferenceServerClient(place.grpc) as client:
        large = x(tg, np.zeros((2_000_000, 4), np.float32))
        refused(lambda: client.infer("m", [large]), status="RESOURCE_EXHAUSTED")
        refused(lambda: client.infer("m", [large], compression_algorithm="gzip"), status="RESOURCE_EXHAUSTED")
        scored(client.infer("m", [x(tg)]).as_numpy("score"))


@check
def grpc_deadline(place):
    with tg.InferenceServerClient(place.grpc) as client:
        one = x(tg, np.float32([[1]]))
        refused(lambda: client.infer("slow", [one], client_timeout=0.02), status="DEADLINE_EXCEEDED")
        # The protocol's own parameter, in microseconds: it is the server that ends it.
        refused(lambda: client.infer("slow", [one], timeout=20_000), "in time", status="DEADLINE_EXCEEDED")


@check
def grpc_cancelled(place):
    ended = []
    with tg.InferenceServerClient(place.grpc) as client:
        call = client.async_infer("slow", [x(tg, np.float32([[1]]))], lambda result, error: ended.append(error))
        call.cancel()
        give_up = time.monotonic() + 10
        while not ended and time.monotonic() < give_up:
            time.sleep(0.01)
        expect(ended and ended[0] is not None and "CANCELLED" in str(ended[0].status()), ended)
        scored(client.infer("m", [x(tg)]).as_numpy("score"))


@check
def grpc_stream(place):
    ended = queue.Queue()
    with tg.InferenceServerClient(place.grpc) as client:
        # Left to itself the client waits for ever for a server that does not end the stream.
        client.start_stream(lambda result, error: ended.put((result, error)), stream_timeout=10)
        for name in ["m", "nobody", "m"]:
            client.async_stream_infer(name, [x(tg)], request_id=name)
        answers = [ended.get(timeout=20) for _ in range(3)]
        client.stop_stream()
    scored(answers[0][0].as_numpy("score"))
    expect(answers[1][0] is None and "nobody" in answers[1][1].message(), answers[1])
    scored(answers[2][0].as_numpy("score"))


@check
def grpc_standard_health(place):
    with grpc.insecure_channel(place.grpc) as channel:
        ask = channel.unary_unary("/grpc.health.v1.Health/Check")
        expect(ask(b"", timeout=10) == b"\x08\x01", "not SERVING")
        try:
            ask(b"\x0a\x06nobody", timeout=10)
        except grpc.RpcError as error:
            expect(error.code() == grpc.StatusCode.NOT_FOUND, error.code())


@check
def grpc_typed_contents_with_our_own_description(place):
    """A client compiled from agent/proto, which sends typed tensors and gets them back."""
    if not place.proto:
        raise NotHere
    with tempfile.TemporaryDirectory() as out:
        proto = pathlib.Path(place.proto)
        code = protoc.main(["protoc", f"-I{proto.parent}", f"--python_out={out}", str(proto)])
        expect(code == 0, code)
        # In a process of its own: tritonclient has registered messages of the same names in this one.
        script = pathlib.Path(__file__).with_name("typed.py")
        ran = subprocess.run([sys.executable, str(script), out, place.grpc], capture_output=True, text=True, timeout=60)
        expect(ran.returncode == 0, ran.stderr[-2000:])


@check
def grpc_over_a_socket_file(place):
    if not place.unix:
        raise NotHere
    # Left to itself the library names the file as the host, in a form that HTTP/2 servers refuse.
    with tg.InferenceServerClient(f"unix:{place.unix}", channel_args=[("grpc.default_authority", "box")]) as client:
        scored(client.infer("m", [x(tg)]).as_numpy("score"))


main(__doc__)

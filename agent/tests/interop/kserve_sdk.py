"""What applications do that were written for KServe, with its own SDK, over HTTP and gRPC; the models are those of triton.py.

    kserve_sdk.py --http 127.0.0.1:8001 --grpc 127.0.0.1:8002
"""
import asyncio
import sys

import numpy as np

# Importing the SDK parses the command line, as if the program were one of its servers.
ARGUMENTS, sys.argv = sys.argv[1:], sys.argv[:1]
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from harness import NUMBERS, ROWS, check, expect, main, scored


@check
def kserve_rest(place):
    async def play():
        client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=20))
        base = f"http://{place.http}"
        expect(await client.is_server_live(base) and await client.is_server_ready(base), "not live or not ready")
        expect(await client.is_model_ready(base, "m"), "not ready")
        expect(not await client.is_model_ready(base, "nobody"), "ready, and not there")
        for binary in [False, True]:
            tensor = InferInput("x", [2, 4], "FP32")
            tensor.set_data_from_numpy(ROWS, binary_data=binary)
            answer = await client.infer(base, InferRequest("m", [tensor], request_id="k"), model_name="m")
            scored(answer.outputs[0].as_numpy())
        await client.close()

    asyncio.run(play())


@check
def kserve_rest_short_floats(place):
    async def play():
        client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=20))
        inputs = []
        for name, kind in [*NUMBERS.items(), ("bf16", np.uint16)]:
            tensor = InferInput(name, [1, 2], name.upper())
            if name == "bf16":
                tensor._raw_data = np.array([[0, 0]], kind).tobytes()
                tensor._parameters = {"binary_data_size": 4}
            else:
                tensor.set_data_from_numpy(np.array([[0, 1]], kind), binary_data=True)
            inputs.append(tensor)
        asked = [RequestedOutput("fp16_out", {"binary_data": True})]
        answer = await client.infer(f"http://{place.http}", InferRequest("echo", inputs, request_outputs=asked), model_name="echo")
        expect(answer.outputs[0].as_numpy().tolist() == [[0, 1]], answer.outputs[0])
        await client.close()

    asyncio.run(play())


@check
def kserve_grpc(place):
    async def play():
        client = InferenceGRPCClient(place.grpc, retries=0, timeout=20)
        expect(await client.is_server_live() and await client.is_server_ready() and await client.is_model_ready("m"), "not ready")
        for binary in [False, True]:
            tensor = InferInput("x", [2, 4], "FP32")
            tensor.set_data_from_numpy(ROWS, binary_data=binary)
            answer = await client.infer(InferRequest("m", [tensor]))
            scored(answer.outputs[0].as_numpy())
        await client.close()

    asyncio.run(play())


main(__doc__, ARGUMENTS)

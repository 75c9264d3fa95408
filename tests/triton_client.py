"""Triton's own client, as a program: `python tests/triton_client.py http|grpc HOST:PORT`.

It calls the model `double` of `tests.kserve_server` in the ways that the client knows, and says `all right` when each
answer was.

A program of its own: gevent, which the client of HTTP is made of, does not share a process with asyncio.
"""

import queue
import sys
from typing import Any

import numpy

SMALL = numpy.arange(4, dtype=numpy.float32)
LARGE = numpy.arange(1 << 20, dtype=numpy.float32)
"""4 MiB: more than a window, more than is kept of a body that came with its head."""
CALLS = 10


def input_of(module: Any, values: Any, **more: Any) -> Any:
    made = module.InferInput("x", list(values.shape), "FP32")
    made.set_data_from_numpy(values, **more)
    return made


def check(answer: Any, values: Any) -> None:
    assert numpy.array_equal(answer.as_numpy("y"), 2 * values)


def over_http(url: str) -> None:
    import tritonclient.http as http

    client = http.InferenceServerClient(url, concurrency=CALLS, network_timeout=60, connection_timeout=60)
    binary, text = (http.InferRequestedOutput("y", binary_data=is_binary) for is_binary in (True, False))
    first = [client.async_infer("double", [input_of(http, SMALL + at)], outputs=[binary]) for at in range(CALLS)]
    for at, call in enumerate(first):
        check(call.get_result(timeout=60), SMALL + at)
    check(client.infer("double", [input_of(http, SMALL, binary_data=False)], outputs=[text]), SMALL)
    check(client.infer("double", [input_of(http, LARGE)], outputs=[binary]), LARGE)
    check(client.infer("double", [input_of(http, SMALL)], query_params={"a": "b c"}), SMALL)
    assert client.is_server_live()
    assert client.is_model_ready("double")
    assert client.get_model_metadata("double")["outputs"][0]["name"] == "y"
    client.close()


def over_grpc(url: str) -> None:
    import tritonclient.grpc as grpc

    client = grpc.InferenceServerClient(url)
    check(client.infer("double", [input_of(grpc, SMALL)], client_timeout=60), SMALL)
    check(client.infer("double", [input_of(grpc, LARGE)], client_timeout=60), LARGE)
    assert client.is_server_ready()
    came: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def on_answer(*, result: Any, error: Any) -> None:
        came.put((result, error))

    client.start_stream(callback=on_answer, stream_timeout=60)
    for at in range(CALLS):
        client.async_stream_infer("double", [input_of(grpc, SMALL + at)], request_id=str(at))
    for at in range(CALLS):
        answer, error = came.get(timeout=30)
        assert error is None, error
        assert answer.get_response().id == str(at)
        check(answer, SMALL + at)
    client.stop_stream()
    client.close()


if __name__ == "__main__":
    {"http": over_http, "grpc": over_grpc}[sys.argv[1]](sys.argv[2])
    sys.stdout.write("all right\n")

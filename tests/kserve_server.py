"""A server of the KServe v2 protocol for tests: one model `double`, whose output is its input times two.

Run as a program: `python tests/kserve_server.py http --port 5000`, or `grpc`. HTTP takes tensors as JSON and by the
extension for binary ones; gRPC takes them raw, one by one and as a stream. Needs `tritonclient` for gRPC's messages.
"""

import json
import sys
from array import array
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HEADER_LENGTH = "Inference-Header-Content-Length"
MODEL = "/v2/models/double"
METADATA = {
    "name": "double",
    "versions": ["1"],
    "platform": "test",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}


def doubled(raw: bytes) -> bytes:
    """Each 32-bit float twice."""
    return array("f", [2 * value for value in array("f", raw)]).tobytes()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path in ("/v2/health/live", "/v2/health/ready", f"{MODEL}/ready"):
            self.answer(b"")
        elif self.path == MODEL:
            self.answer(json.dumps(METADATA).encode())
        else:
            self.answer(b'{"error":"unknown"}', status=404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers.get(HEADER_LENGTH, len(body)))
        asked, rest = json.loads(body[:length]), body[length:]
        (tensor,) = asked["inputs"]
        size = tensor.get("parameters", {}).get("binary_data_size")
        values = doubled(rest[:size]) if size is not None else doubled(array("f", tensor["data"]).tobytes())
        output: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": tensor["shape"]}
        is_binary = any(one.get("parameters", {}).get("binary_data") for one in asked.get("outputs", ()))
        if is_binary:
            output["parameters"] = {"binary_data_size": len(values)}
        else:
            output["data"] = list(array("f", values))
        header = json.dumps({"model_name": "double", "model_version": "1", "outputs": [output]}).encode()
        if is_binary:
            self.answer(
                header + values, (HEADER_LENGTH, str(len(header))), ("Content-Type", "application/octet-stream")
            )
        else:
            self.answer(header, ("Content-Type", "application/json"))

    def answer(self, body: bytes, *fields: tuple[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: tests read what is said."""


def serve_http(port: int) -> None:
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def serve_grpc(port: int) -> None:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
        def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.ServerReadyResponse(ready=True)

        def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
            answer = service_pb2.ModelInferResponse(model_name="double", model_version="1", id=request.id)
            answer.outputs.add(name="y", datatype="FP32", shape=request.inputs[0].shape)
            answer.raw_output_contents.append(doubled(request.raw_input_contents[0]))
            return answer

        def ModelStreamInfer(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
            for request in requests:
                yield service_pb2.ModelStreamInferResponse(infer_response=self.ModelInfer(request, context))

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    {"http": serve_http, "grpc": serve_grpc}[sys.argv[1]](int(sys.argv[3]))

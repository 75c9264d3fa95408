"""A real server of gRPC for tests: four kinds of calls, errors, deadlines, health. Messages are plain bytes.

Run as a program: `python tests/grpc_server.py --port 5000`. `ASKED` says what each method does. It says on standard
output when it listens; SIGTERM lets calls finish for a few seconds while new ones are turned away (GOAWAY).
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, Final

import grpc

GRPC_SERVER: Final = (sys.executable, os.path.abspath(__file__), "--port", "{port}")
"""The command of a service of zerogate."""
PIECE: Final = b"x" * 65536


class Calls:
    """What the methods do; `seen` counts calls and their ends, for `/test.Stats`."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.release = threading.Event()
        self.methods: dict[str, Any] = {
            "/test.Echo/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "/test.Echo/Split": grpc.unary_stream_rpc_method_handler(self.split),
            "/test.Echo/Join": grpc.stream_unary_rpc_method_handler(self.join),
            "/test.Echo/Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "/test.Echo/Flood": grpc.unary_stream_rpc_method_handler(self.flood),
            "/test.Echo/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/test.Echo/Left": grpc.unary_unary_rpc_method_handler(self.left),
            "/test.Echo/Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "/test.Echo/Release": grpc.unary_unary_rpc_method_handler(self.release_all),
            "/test.Echo/Fields": grpc.unary_unary_rpc_method_handler(self.fields),
            "/test.Echo/Stats": grpc.unary_unary_rpc_method_handler(self.stats),
        }

    def unary(self, request: bytes, context: Any) -> bytes:
        """The message again, and its length in a trailer."""
        self.seen["unary"] += 1
        context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-length", str(len(request))), ("x-raw-bin", b"\0\xff")))
        return request

    def split(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Each byte as a message of its own, with a pause between."""
        for byte in request:
            yield bytes((byte,))
            time.sleep(0.01)

    def join(self, requests: Iterator[bytes], context: Any) -> bytes:
        """All messages as one."""
        return b"".join(requests)

    def chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Each message again as soon as it comes."""
        for request in requests:
            yield request.upper()

    def flood(self, request: bytes, context: Any) -> Iterator[bytes]:
        """So many pieces of 64 KiB, as fast as they are taken; `flooded` counts them."""
        for _ in range(int(request)):
            self.seen["flooded"] += 1
            yield PIECE

    def fail(self, request: bytes, context: Any) -> bytes:
        """An error before any message."""
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "100 % häßlich")
        return b""

    def left(self, request: bytes, context: Any) -> bytes:
        """Seconds until the deadline."""
        return str(context.time_remaining()).encode()

    def wait(self, request: bytes, context: Any) -> bytes:
        """Until `Release`, or until it is cancelled."""
        self.seen["waiting"] += 1
        context.add_callback(self._on_end)
        while context.is_active() and not self.release.wait(0.01):
            pass
        self.seen["waited" if context.is_active() else "cancelled"] += 1
        return request

    def _on_end(self) -> None:
        self.seen["ended"] += 1

    def release_all(self, request: bytes, context: Any) -> bytes:
        """Let all that waits go on."""
        self.release.set()
        return b""

    def fields(self, request: bytes, context: Any) -> bytes:
        """The fields of the request, a line each."""
        return "\n".join(f"{key}: {value!r}" for key, value in context.invocation_metadata()).encode()

    def stats(self, request: bytes, context: Any) -> bytes:
        """What was seen so far, a line each."""
        return "\n".join(f"{key} {count}" for key, count in self.seen.items()).encode()


class Health:
    """The standard health service, by its bytes: field 1 of the answer is 1 (SERVING) or 2 (NOT_SERVING)."""

    def __init__(self, is_serving: Callable[[], bool]) -> None:
        self.is_serving = is_serving
        self.methods = {"/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(self.check)}

    def check(self, request: bytes, context: Any) -> bytes:
        return b"\x08\x01" if self.is_serving() else b"\x08\x02"


class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Methods by their path."""

    def __init__(self, *tables: dict[str, Any]) -> None:
        self.methods = {path: method for table in tables for path, method in table.items()}

    def service(self, call_details: Any) -> Any:
        return self.methods.get(call_details.method)


def serve(
    port: int, *, health: Health | None, max_streams: int = 0, credentials: Any = None
) -> tuple[Any, int, Calls]:  # fmt: skip
    """A server that takes calls, over TLS with credentials; itself, its port, what it saw."""
    calls = Calls()
    options = [("grpc.so_reuseport", 0)]
    if max_streams:
        options.append(("grpc.max_concurrent_streams", max_streams))
    server = grpc.server(futures.ThreadPoolExecutor(64), options=options)
    server.add_generic_rpc_handlers((Handler(calls.methods, health.methods if health is not None else {}),))
    address = f"127.0.0.1:{port}"
    secure = credentials is not None
    port = server.add_secure_port(address, credentials) if secure else server.add_insecure_port(address)
    server.start()
    return server, port, calls


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-streams", type=int, default=0)
    parser.add_argument("--no-health", action="store_true")
    parser.add_argument("--serving-file", help="NOT_SERVING until it exists")
    flags = parser.parse_args()
    gate = flags.serving_file
    health = None if flags.no_health else Health(lambda: gate is None or Path(gate).exists())
    server, port, _ = serve(flags.port, health=health, max_streams=flags.max_streams)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    sys.stdout.write(f"listening on port {port}\n")
    sys.stdout.flush()
    stopped.wait()
    server.stop(5).wait()


if __name__ == "__main__":
    main()

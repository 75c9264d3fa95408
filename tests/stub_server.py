"""A model server for tests: starts in about 12 ms, does what it is told, says what it saw.

Run it with `python -S -E tests/stub_server.py [flags]`, or from a test with the command `STUB`, which also spares the
compilation of this file; one thread per connection, HTTP/1.1 with keep-alive. It starts by the hundred on small
machines, so it imports nothing but built-in modules until a request needs more.

Flags
  --port N               where to listen; default $PORT
  --host ADDRESS         its address; default 127.0.0.1
  --ready-after S        `/health` answers 503 for S seconds after the start, then 200 (default 0: ready at once)
  --ready-file PATH      `/health` answers 200 only while the file PATH exists
  --never-ready          `/health` answers 503 for ever (a control request can still flip it)
  --listen-after S       does not listen for the first S seconds: connections are refused
  --ignore-sigterm       SIGTERM does nothing: only SIGKILL ends it
  --term-after S         on SIGTERM it goes on for S seconds, then exits with 0 (default 0: at once)
  --escapee              starts a child that leaves the session (setsid) and ignores SIGTERM, like an engine's worker
  --escapee-polite       the same, but the child ends on SIGTERM
  --escapee-clean-env    the same as --escapee, but the child's environment is empty: no mark to be found by
  --crash-after S        ends after S seconds with --crash-code (default 3), having printed --crash-message to stderr
  --crash-code N         negative: dies of that signal (-9: SIGKILL)
  --crash-message TEXT
  --fail-unless PATH     ends at once with --crash-code and --crash-message unless the file PATH exists
  --print-lines N        prints N numbered lines ("line 1" …) at the start
  --token-ms MS          pause before each token of a completion (default 1)
  --tokens N             tokens of a completion (default 16, `max_tokens` in the body wins)
  --models A,B           names in `/v1/models` (default "stub")

Paths (counted as requests inside, seen in `/stats`)
  /sse?events=N&gap_ms=G[&size=B]   N events, G ms apart, first at once: `data: {"n": 0, "t": seconds}` and `[DONE]`;
                         `t` is CLOCK_MONOTONIC (zerogate.clock.now of every process of the machine)
  /lines?n=N             N lines "line K\\n", each in a chunk of its own
  /echo[?stream=1]       the body back with the request's Content-Type; stream=1: chunked, as it arrives;
                         trailers of a chunked request come back as trailers when streaming
  /v1/echo               the same, where a model is asked for by its name
  /head                  the request as it arrived, as JSON: {"method", "target", "headers": [[name, value], …]}
  /sleep?ms=M            an answer after M ms; ends early (and is counted as abandoned) when the client hangs up
  /status?code=N         an empty answer with that status
  /trailers              a chunked answer with trailers `x-checksum` and `x-tokens`
  /until-close?bytes=N   an answer without a length that ends with the connection
  /cut?bytes=N           announces 2 N bytes, sends N, resets the connection
  /early-hints           103 with a Link header, then 200
  /v1/models             OpenAI's list
  /v1/chat/completions   OpenAI's chat completion for the body's `model`, streamed with `"stream": true`;
                         content is "token0 token1 …"
  /v1/completions        the same, old shape
  anything else          200 with {"path": …, "port": …}

Paths for tests (never counted)
  /health                readiness, as said by the flags
  /stats                 {"pid", "port", "requests", "inside", "peak", "abandoned", "ready_at_s", "escapee_pid",
                          "health_requests", "ready_answers", "connections"}; `peak`: most requests inside at the
                          same instant; `ready_at_s`: CLOCK_MONOTONIC of the instant it became ready, null before;
                          `ready_answers`: how often `/health` said 200
  /control/ready[?in_ms=M]   becomes ready after M ms (default now);  /control/unready  the opposite
  /control/crash?code=N&message=TEXT   prints TEXT to stderr and ends
  /control/fail?how=503|reset          fails all requests so from now on; without `how` no more
  /control/print?text=T[&lines=N]      prints T (N times) to stdout
  /control/reset-stats   sets requests, peak and abandoned to zero
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import _thread
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TextIO

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_RUN = f"import sys; sys.path[:0] = [{_FOLDER!r}]; import stub_server; stub_server.main()"

STUB = [sys.executable, "-S", "-E", "-c", _RUN, "--port", "{port}"]
"""The command as a service definition has it; append flags."""

FLAGS: dict[str, Any] = {
    "port": int(os.environ.get("PORT", "0")),
    "host": "127.0.0.1",
    "ready_after": 0.0,
    "ready_file": "",
    "never_ready": False,
    "listen_after": 0.0,
    "ignore_sigterm": False,
    "term_after": 0.0,
    "escapee": False,
    "escapee_polite": False,
    "escapee_clean_env": False,
    "crash_after": -1.0,
    "crash_code": 3,
    "crash_message": "stub: told to crash",
    "fail_unless": "",
    "print_lines": 0,
    "token_ms": 1.0,
    "tokens": 16,
    "models": "stub",
}
"""All flags with their defaults; a flag's type is that of its default."""

REASONS = {200: "OK", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}


class Flags:
    """What the command line said."""

    def __init__(self, words: list[str]) -> None:
        self.__dict__.update(FLAGS)
        pending = list(words)
        while pending:
            name, _, value = pending.pop(0).partition("=")
            key = name.removeprefix("--").replace("-", "_")
            if not name.startswith("--") or key not in FLAGS:
                die(2, f"stub: {name} is not a flag")
            kind = type(FLAGS[key])
            self.__dict__[key] = True if kind is bool else kind(value or pending.pop(0))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...


class State:
    """What the process saw and is told to do. Changed under `lock`."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.lock = _thread.allocate_lock()
        self.fails = ""
        """How requests fail: a status, "reset", or not at all."""
        self.requests = self.inside = self.peak = self.abandoned = 0
        self.health_requests = self.ready_answers = self.connections = 0
        self.escapee_pid: int | None = None
        self.ready_at_s: float | None = None if flags.never_ready or flags.ready_file else now() + flags.ready_after

    def is_ready(self) -> bool:
        if self.flags.ready_file and self.ready_at_s is None:
            return os.path.exists(self.flags.ready_file)
        return self.ready_at_s is not None and now() >= self.ready_at_s

    def enter(self) -> None:
        with self.lock:
            self.requests += 1
            self.inside += 1
            self.peak = max(self.peak, self.inside)

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1

    def abandon(self) -> None:
        with self.lock:
            self.abandoned += 1


def now() -> float:
    return time.perf_counter()


def say(text: str, stream: TextIO = sys.stdout) -> None:
    stream.write(text + "\n")
    stream.flush()


def to_json(value: object) -> bytes:
    import json  # late: 5 ms of the start

    return json.dumps(value).encode()


def decoded(query: str) -> dict[str, str]:
    if "%" in query or "+" in query:
        from urllib.parse import parse_qsl

        return dict(parse_qsl(query))
    return dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair)


class HangupError(Exception):
    """The client closed the connection in the middle of a request."""


class Connection:
    """One client: reads requests, writes answers."""

    def __init__(self, sock: _socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.method = self.target = self.path = ""
        self.query: dict[str, str] = {}
        self.headers: list[tuple[str, str]] = []
        self.trailers: list[tuple[str, str]] = []

    def fill(self) -> None:
        piece = self.sock.recv(65536)
        if not piece:
            raise HangupError
        self.buffer += piece

    def line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            self.fill()
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line

    def fields(self) -> list[tuple[str, str]]:
        found = []
        while line := self.line():
            name, _, value = line.decode("latin-1").partition(":")
            found.append((name.strip(), value.strip()))
        return found

    def read_head(self) -> None:
        self.method, self.target, _ = self.line().decode("latin-1").split(" ", 2)
        self.headers = self.fields()
        self.trailers = []
        self.path, _, query = self.target.partition("?")
        self.query = decoded(query)

    def header(self, name: str, default: str = "") -> str:
        return next((value for key, value in self.headers if key.lower() == name), default)

    def number(self, name: str, default: int) -> int:
        return int(self.query.get(name, default))

    def body_pieces(self) -> Iterator[bytes]:
        """The body as it arrives; trailers are in `trailers` afterwards."""
        if self.header("expect").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in self.header("transfer-encoding").lower():
            while size := int(self.line().split(b";")[0], 16):
                yield from self.exactly(size)
                self.line()
            self.trailers = self.fields()
        else:
            yield from self.exactly(int(self.header("content-length", "0")))

    def exactly(self, size: int) -> Iterator[bytes]:
        while size:
            if not self.buffer:
                self.fill()
            piece = bytes(self.buffer[:size])
            del self.buffer[: len(piece)]
            size -= len(piece)
            yield piece

    def body(self) -> bytes:
        return b"".join(self.body_pieces())

    def answer(self, body: bytes = b"", *, status: int = 200, kind: str = "application/json") -> None:
        sent = b"" if self.method == "HEAD" else body
        self.head(status, f"Content-Type: {kind}\r\nContent-Length: {len(body)}", body=sent)

    def head(self, status: int, fields: str, *, body: bytes = b"") -> None:
        reason = REASONS.get(status, "Status")
        self.sock.sendall(f"HTTP/1.1 {status} {reason}\r\nServer: stub\r\n{fields}\r\n\r\n".encode() + body)

    def chunk(self, piece: bytes) -> None:
        self.sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

    def chunks(self, kind: str, *, more: str = "") -> None:
        self.head(200, f"Content-Type: {kind}\r\nTransfer-Encoding: chunked{more}")

    def end_chunks(self, trailers: list[tuple[str, str]] | None = None) -> None:
        tail = "".join(f"{name}: {value}\r\n" for name, value in trailers or [])
        self.sock.sendall(f"0\r\n{tail}\r\n".encode())

    def pause(self, seconds: float) -> None:
        """Wait, but raise HangupError as soon as the client is gone."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLRDHUP)
        deadline = now() + seconds
        while (left := deadline - now()) > 0:
            if not poll.poll(left * 1000):
                return
            if not self.sock.recv(1, _socket.MSG_PEEK):
                raise HangupError
            time.sleep(min(left, 0.005))


def sse(c: Connection, state: State) -> None:
    c.body()
    gap_s = c.number("gap_ms", 0) / 1000
    filler = "x" * c.number("size", 0)
    c.chunks("text/event-stream", more="\r\nCache-Control: no-cache")
    start_s = now()
    for n in range(c.number("events", 10)):
        if (left := start_s + n * gap_s - now()) > 0:
            c.pause(left)
        c.chunk(b'data: {"n": %d, "t": %.6f, "x": "%b"}\n\n' % (n, now(), filler.encode()))
    c.chunk(b"data: [DONE]\n\n")
    c.end_chunks()


def lines(c: Connection, state: State) -> None:
    c.body()
    c.chunks("text/plain")
    for n in range(c.number("n", 1000)):
        c.chunk(b"line %d\n" % n)
    c.end_chunks()


def echo(c: Connection, state: State) -> None:
    kind = c.header("content-type", "application/octet-stream")
    if not c.number("stream", 0):
        return c.answer(c.body(), kind=kind)
    c.chunks(kind)
    for piece in c.body_pieces():
        c.chunk(piece)
    return c.end_chunks(c.trailers)


def head(c: Connection, state: State) -> None:
    c.body()
    c.answer(to_json({"method": c.method, "target": c.target, "headers": c.headers}))


def sleep(c: Connection, state: State) -> None:
    c.body()
    c.pause(c.number("ms", 100) / 1000)
    c.answer(b"{}")


def status(c: Connection, state: State) -> None:
    c.body()
    code = c.number("code", 200)
    c.head(code, "Content-Length: 0" if code not in (204, 304) else "X-Empty: yes")


def trailers(c: Connection, state: State) -> None:
    c.body()
    c.chunks("text/plain", more="\r\nTrailer: x-checksum, x-tokens")
    c.chunk(b"body")
    c.end_chunks([("x-checksum", "abc123"), ("x-tokens", "1")])


def until_close(c: Connection, state: State) -> None:
    c.body()
    c.head(200, "Content-Type: text/plain\r\nConnection: close", body=b"x" * c.number("bytes", 100))
    raise HangupError


def cut(c: Connection, state: State) -> None:
    c.body()
    size = c.number("bytes", 100)
    c.head(200, f"Content-Type: text/plain\r\nContent-Length: {2 * size}", body=b"x" * size)
    time.sleep(0.05)  # the bytes must be read before the reset throws them away
    c.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    raise HangupError


def early_hints(c: Connection, state: State) -> None:
    c.body()
    c.sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    c.answer(b"{}")


def models(c: Connection, state: State) -> None:
    c.body()
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "stub"} for name in state.flags.models.split(",")]
    c.answer(to_json({"object": "list", "data": data}))


def completion(c: Connection, state: State) -> None:
    """Both shapes of OpenAI's completions, whole or streamed."""
    import json

    asked = json.loads(c.body() or b"{}")
    is_chat = c.path.endswith("/chat/completions")
    count = asked.get("max_tokens") or asked.get("max_completion_tokens") or state.flags.tokens
    frame = {"id": f"stub-{os.getpid()}", "created": 1_700_000_000, "model": asked.get("model", "stub")}
    tokens = [f"token{n}" + (" " if n + 1 < count else "") for n in range(count)]
    usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": count + 1}
    pause_s = state.flags.token_ms / 1000
    if not asked.get("stream"):
        c.pause(pause_s * count)
        text = "".join(tokens)
        message = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
        choice = {"index": 0, "finish_reason": "stop", "logprobs": None, **message}
        kind = "chat.completion" if is_chat else "text_completion"
        return c.answer(to_json({**frame, "object": kind, "choices": [choice], "usage": usage}))
    frame["object"] = "chat.completion.chunk" if is_chat else "text_completion"
    c.chunks("text/event-stream", more="\r\nCache-Control: no-cache")

    def event(piece: dict[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "finish_reason": finish, "logprobs": None, **piece}
        c.chunk(b"data: " + to_json({**frame, "choices": [choice]}) + b"\n\n")

    if is_chat:
        event({"delta": {"role": "assistant", "content": ""}})
    for token in tokens:
        c.pause(pause_s)
        event({"delta": {"content": token}} if is_chat else {"text": token})
    event({"delta": {}} if is_chat else {"text": ""}, "stop")
    c.chunk(b"data: [DONE]\n\n")
    return c.end_chunks()


def anything(c: Connection, state: State) -> None:
    c.body()
    c.answer(to_json({"path": c.path, "port": state.flags.port}))


def fail(c: Connection, how: str) -> None:
    """Answer with nothing but a status, or with nothing at all; then hang up."""
    c.body()
    if how == "reset":
        c.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    else:
        c.head(int(how), "Content-Length: 0\r\nConnection: close")
    raise HangupError


ROUTES = {
    "/sse": sse,
    "/lines": lines,
    "/echo": echo,
    "/head": head,
    "/sleep": sleep,
    "/status": status,
    "/trailers": trailers,
    "/until-close": until_close,
    "/cut": cut,
    "/early-hints": early_hints,
    "/v1/echo": echo,
    "/v1/models": models,
    "/v1/chat/completions": completion,
    "/v1/completions": completion,
}


def health(c: Connection, state: State) -> None:
    c.body()
    state.health_requests += 1
    is_ready = state.is_ready()
    state.ready_answers += is_ready
    c.answer(b"{}", status=200 if is_ready else 503)


def stats(c: Connection, state: State) -> None:
    c.body()
    names = (
        "requests", "inside", "peak", "abandoned", "ready_at_s", "escapee_pid", "health_requests", "ready_answers",
        "connections",
    )  # fmt: skip
    seen = {name: getattr(state, name) for name in names}
    if seen["ready_at_s"] is not None and not state.is_ready():
        seen["ready_at_s"] = None
    c.answer(to_json({"pid": os.getpid(), "port": state.flags.port, **seen}))


def control(c: Connection, state: State) -> None:
    c.body()
    what = c.path.removeprefix("/control/")
    if what == "ready":
        state.ready_at_s = now() + c.number("in_ms", 0) / 1000
    elif what == "unready":
        state.ready_at_s, state.flags.ready_file = None, None
    elif what == "fail":
        state.fails = c.query.get("how", "")
    elif what == "print":
        for _ in range(c.number("lines", 1)):
            say(c.query.get("text", ""))
    elif what == "reset-stats":
        with state.lock:
            state.requests = state.peak = state.abandoned = 0
    elif what == "crash":
        die(c.number("code", 3), c.query.get("message", ""))
    else:
        return c.answer(b"{}", status=404)
    return c.answer(b"{}")


PRIVATE = {"health": health, "stats": stats, "control": control}


def serve(sock: _socket.socket, state: State) -> None:
    """One connection until it ends."""
    sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    c = Connection(sock)
    with state.lock:
        state.connections += 1
    try:
        while True:
            c.read_head()
            private = PRIVATE.get(c.path.split("/")[1] if c.path.startswith("/") else "")
            if private:
                private(c, state)
            else:
                work(c, state)
            if "close" in c.header("connection").lower():
                break
    except (HangupError, OSError, ValueError):
        pass
    finally:
        sock.close()


def work(c: Connection, state: State) -> None:
    """A request that counts."""
    state.enter()
    try:
        if state.fails:
            fail(c, state.fails)
        ROUTES.get(c.path, anything)(c, state)
    except (HangupError, OSError):
        if c.path not in ("/until-close", "/cut"):
            state.abandon()
        raise
    finally:
        state.leave()


def die(code: int, message: str) -> None:
    if message:
        say(message, sys.stderr)
    if code < 0:
        if -code not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(-code, _signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        time.sleep(10)
    os._exit(code)


def later(seconds: float, code: int, message: str) -> None:
    """Die after a while."""

    def wait() -> None:
        time.sleep(seconds)
        die(code, message)

    _thread.start_new_thread(wait, ())


def start_escapee(flags: Flags) -> int:
    """A child in a session of its own; with `--escapee-clean-env` without any environment."""
    polite = "" if flags.escapee_polite else "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    code = f"import os, signal, time; {polite} print('escapee', os.getpid(), flush=True); time.sleep(3600)"
    pid = os.fork()
    if pid == 0:
        os.setsid()
        env = {} if flags.escapee_clean_env else dict(os.environ)
        os.execve(sys.executable, [sys.executable, "-S", "-E", "-c", code], env)
    return pid


def on_sigterm(flags: Flags) -> None:
    if flags.ignore_sigterm:
        _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
    else:
        _signal.signal(_signal.SIGTERM, lambda *_: later(flags.term_after, 0, "") if flags.term_after else die(0, ""))


def listener(flags: Flags) -> _socket.socket:
    """Listening; the port that the kernel chose is in the flags."""
    sock = _socket.socket()
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    try:
        sock.bind((flags.host, flags.port))
    except OSError as error:
        die(1, f"stub: cannot listen on port {flags.port}: {error}")
    sock.listen(4096)
    flags.port = sock.getsockname()[1]
    return sock


def main() -> None:
    flags = Flags(sys.argv[1:])
    if flags.fail_unless and not os.path.exists(flags.fail_unless):
        die(flags.crash_code, flags.crash_message)
    on_sigterm(flags)
    for n in range(1, flags.print_lines + 1):
        say(f"line {n}")
    state = State(flags)
    if flags.escapee or flags.escapee_polite or flags.escapee_clean_env:
        state.escapee_pid = start_escapee(flags)
    if flags.crash_after >= 0:
        later(flags.crash_after, flags.crash_code, flags.crash_message)
    time.sleep(flags.listen_after)
    sock = listener(flags)
    say(f"stub: listening on port {flags.port}")
    while True:
        fd, _ = sock._accept()  # type: ignore[attr-defined]
        _thread.start_new_thread(serve, (_socket.socket(fileno=fd), state))


if __name__ == "__main__":
    main()

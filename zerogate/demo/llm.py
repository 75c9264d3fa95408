"""The demonstration's model server: `python -m zerogate.demo.llm --port 9000`.

llama.cpp's own HTTP server with Gemma 3 270M on the CPU: `/health`, `/v1/chat/completions` (streaming too) and the
rest of its OpenAI-compatible API. It is a model server like any other; nothing in it knows of zerogate.

SIGTERM and SIGINT keep their default action, so the kernel ends the process at once, even while it loads: there is
nothing to save, and the server's own shutdown was seen to hang.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from zerogate.demo.weights import MISSING, cache_folder, weights_file
from zerogate.errors import MachineError

ALIAS = "gemma3-270m"
SLOTS = 4
"""Answers generated at once; further requests wait inside the server. Two threads share the work."""
THREADS = 2
CONTEXT_PER_SLOT = 2048
CONNECTIONS = 24
"""The server gives each open connection a thread: enough for ten clients, their keep-alives and probes."""

NEXT_QUESTION = "\nQuestion:"
TEMPLATE = """{{ bos_token }}A friendly expert answers questions in clear, complete sentences.

{% for message in messages %}{% if message.role == 'assistant' %}Answer: {{ message.content }}

{% elif message.role == 'user' %}Question: {{ message.content }}
{% endif %}{% endfor %}Answer:"""
"""The weights are those of the base model, which continues a text and knows no chat format: with one it repeats its
markup, with questions and answers it answers. The next question ends the answer."""


def serve(port: int, *, host: str = "127.0.0.1", weights: Path) -> object:
    """Load the model and serve it; returns the running server, which lives as long as the object.

    Raises MachineError where it cannot be loaded or the port cannot be had.
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise MachineError(MISSING) from error
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {ALIAS}
    params.hostnames, params.port = [host], port
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    params.n_parallel, params.n_ctx = SLOTS, SLOTS * CONTEXT_PER_SLOT
    params.n_threads_http = CONNECTIONS
    params.n_predict = 512  # a base model does not always find an end
    params.fit_params = False  # measuring the devices first costs 0.8 s and decides nothing on a CPU
    params.cache_ram_mib = 0  # by default it keeps up to 8 GiB of earlier prompts
    params.ui = False
    params.verbosity = 1  # errors only
    params.chat_template, params.antiprompt = TEMPLATE, [NEXT_QUESTION]
    params.sampling.temp, params.sampling.penalty_repeat = 0.6, 1.15
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise MachineError(f"The model does not start on {host}:{port}: {str(error).rstrip('.')}.") from error


def main() -> None:
    """Serve until a signal ends the process. Exit code 1 with one sentence where that cannot begin."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    arguments = argparse.ArgumentParser(prog="python -m zerogate.demo.llm", description="The demonstration's model.")
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=os.environ.get("PORT"), help="default: $PORT")
    chosen = arguments.parse_args()
    if chosen.port is None:
        arguments.error("--port is missing, and PORT is not set")
    try:
        server = serve(chosen.port, host=chosen.host, weights=weights_file(cache_folder(os.environ)))
    except MachineError as error:
        sys.exit(str(error))
    sys.stderr.write(f"{ALIAS} is ready on {chosen.host}:{chosen.port}\n")
    while server:
        signal.pause()


if __name__ == "__main__":
    main()

"""Clients of a Service, as a process inside a node: `python -m tests.kubernetes.takeover_client ADDRESS FILE`.

One makes a connection for each request, one keeps its connection as long as it may, as urllib3 does. Every line of the
file is one answer: kind, when it began and ended (CLOCK_MONOTONIC), what came. They end when their parent ends them.
"""

import http.client
import json
import select
import sys
import threading
import time
from typing import TextIO

PAUSE_S = 0.05
PATIENCE_S = 60.0


def fresh(address: str, said: TextIO) -> None:
    number = 0
    while True:
        number += 1
        connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
        ask("fresh", connection, number, said)
        connection.close()
        time.sleep(PAUSE_S)


def kept(address: str, said: TextIO) -> None:
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    number = 0
    while True:
        number += 1
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            connection.close()  # the other side has ended it
        ask("kept", connection, number, said)
        time.sleep(PAUSE_S)


def ask(kind: str, connection: http.client.HTTPConnection, number: int, said: TextIO) -> None:
    body = f"{kind} {number}".encode()
    is_new = connection.sock is None
    began = time.monotonic()
    try:
        connection.request("POST", "/echo", body)
        answer = connection.getresponse()
        content = answer.read()
        came = "ok" if answer.status == 200 and content == body else f"{answer.status} {content[:300]!r}"
        waited = answer.getheader("Server-Timing") or ""
    except (OSError, http.client.HTTPException) as error:
        came, waited = repr(error), ""
        connection.close()
    line = {"kind": kind, "began": began, "ended": time.monotonic(), "came": came, "waited": waited, "new": is_new}
    said.write(json.dumps(line) + "\n")
    said.flush()


def main(address: str, file: str) -> None:
    with open(file, "w") as said:
        threads = [threading.Thread(target=one, args=(address, said), daemon=True) for one in (fresh, kept)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])

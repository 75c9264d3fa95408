"""The webhook's server: TLS, bounded bodies, a deadline, and no answer that stops a pod.

Whatever goes wrong behind it (a lookup, a mistake of ours, time), the object is allowed unchanged with a warning; only
what is no review at all gets an error, at which an API server goes on too (`failurePolicy: Ignore`). It is no server
for the public: API servers come, few and kept alive. Owned by the autoscaler's process.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from autoscaler.certificates import load
from autoscaler.injector.manifests import MUTATE_PATH, VALIDATE_PATH
from autoscaler.injector.review import Answer, MalformedReviewError, Request, read_review, write_review

LARGEST_BODY_BYTES: Final = 8 * 1024 * 1024
"""An API server stores objects up to 1.5 MiB, as etcd does, and sends the old one too; JSON adds to both."""
DEADLINE_S: Final = 2.0
"""Below the three seconds that the API server waits: our warning arrives, instead of its time-out."""
_BODY_WITHIN_S: Final = 5.0

log = logging.getLogger(__name__)
Answerer = Callable[[Request], Awaitable[Answer]]


class Webhook:
    """Serves reviews. `use` gives it certificates, before `start` and at any time later."""

    def __init__(self, mutate: Answerer, validate: Answerer, *, deadline_s: float = DEADLINE_S) -> None:
        self._answerers = {MUTATE_PATH: mutate, VALIDATE_PATH: validate}
        self._deadline_s = deadline_s
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        app = web.Application(client_max_size=LARGEST_BODY_BYTES)
        for path in self._answerers:
            app.router.add_post(path, self._review)
        app.router.add_get("/healthz", self._health)
        self._runner = web.AppRunner(app, access_log=None)
        self.counts = {"answered": 0, "refused": 0, "failed": 0, "malformed": 0}
        """Reviews by what came of them."""
        self.is_leaving = False
        """Each answer is the last one on its connection."""

    def use(self, certificate: bytes, key: bytes) -> None:
        """Serve these (PEM) to connections from now on."""
        load(self._context, certificate, key)

    async def start(self, sock: socket.socket) -> None:
        """Serve on a bound socket."""
        await self._runner.setup()
        await web.SockSite(self._runner, sock, ssl_context=self._context).start()

    async def stop(self) -> None:
        """Finish what is asked, and close."""
        await self._runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _review(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_BODY_WITHIN_S):
                review = read_review(await request.read())
        except MalformedReviewError as error:
            self.counts["malformed"] += 1
            return web.Response(status=400, text=f"{error}\n")
        except TimeoutError:
            self.counts["malformed"] += 1
            return web.Response(status=408, text="The review did not come to its end.\n")
        answer = await self._answered(self._answerers[request.path], review)
        response = web.Response(body=write_review(review.uid, answer), content_type="application/json")
        if self.is_leaving:
            response.force_close()
        return response

    async def _answered(self, answerer: Answerer, review: Request) -> Answer:
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await answerer(review)
        except TimeoutError:
            return self._failed(review, "the cluster did not answer in time")
        except Exception as error:
            log.exception("a review of %s %s/%s failed", review.kind.kind, review.namespace, review.name)
            return self._failed(review, f"{type(error).__name__}: {error}")
        self.counts["refused" if answer.refusal is not None else "answered"] += 1
        return answer

    def _failed(self, review: Request, why: str) -> Answer:
        self.counts["failed"] += 1
        return Answer(warnings=[f"this {review.kind.kind} was let through unchanged and unchecked: {why}"])

"""How tests talk to an API server: a kubeconfig of a user, and a small client that waits.

The client is not the one of zerogate: what the product reads and writes is checked with other eyes.
"""

import json
import ssl
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from tests.kubernetes.harness.processes import ClusterError, run
from zerogate.http.certificates import KeyPair

Manifest = Mapping[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"

_KEPT_S = 20
"""How long an idle connection is used again: an API server closes it at some time, maybe under the next request."""


class Access(msgspec.Struct, frozen=True):
    """What one user needs to reach an API server."""

    url: str
    authority: str
    pair: KeyPair | None
    kubeconfig: Path
    token: str | None = None

    @classmethod
    def written(
        cls, path: Path, url: str, authority: str, pair: KeyPair | None = None, *, token: str | None = None
    ) -> "Access":
        """With its kubeconfig written to `path`."""
        user = {"token": token} if token else {}
        if pair is not None:
            user = {"client-certificate": pair.certificate, "client-key": pair.key}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": {"server": url, "certificate-authority": authority}}],
            "users": [{"name": "tests", "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        }
        path.write_text(yaml.safe_dump(content))
        path.chmod(0o600)
        return cls(url, authority, pair, path, token)

    def through(self, url: str) -> "Access":
        """The same user by way of another address: the fault proxy's, for one."""
        path = self.kubeconfig.with_name(f"{self.kubeconfig.stem}-{urlsplit(url).port}.kubeconfig")
        return Access.written(path, url, self.authority, self.pair, token=self.token)


class Answer(msgspec.Struct, frozen=True):
    """A status and the decoded body."""

    status: int
    body: dict[str, Any]


class Cluster:
    """One user's view of a cluster. Not for use by several threads at once."""

    def __init__(self, access: Access, kubectl: Path) -> None:
        self.access = access
        self._kubectl = kubectl
        self._connection: HTTPConnection | None = None
        self._used_s = 0.0

    @property
    def kubeconfig(self) -> Path:
        """For programs that are given one."""
        return self.access.kubeconfig

    def ask(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> Answer:
        """One request, whatever its answer. OSError or HTTPException where there is none."""
        headers = {"Content-Type": kind, "Accept": "application/json"}
        if self.access.token:
            headers["Authorization"] = f"Bearer {self.access.token}"
        if time.monotonic() - self._used_s > _KEPT_S:
            self.close()
        connection = self._connection or self._connect()
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException):
            self.close()
            raise
        self._used_s = time.monotonic()
        if answer.will_close:
            self.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return Answer(answer.status, json.loads(content) if is_json else {"text": content.decode(errors="replace")})

    def get(self, path: str) -> dict[str, Any]:
        """An object or a list; ClusterError where it is not there."""
        return self._succeed("GET", path)

    def find(self, path: str) -> dict[str, Any] | None:
        """An object, or None where there is none of that name."""
        answer = self.ask("GET", path)
        return None if answer.status == 404 else _checked("GET", path, answer)

    def create(self, path: str, body: Manifest) -> dict[str, Any]:
        """POST to the path of a collection; an object that is there already is left as it is."""
        answer = self.ask("POST", path, body)
        return answer.body if answer.status == 409 else _checked("POST", path, answer)

    def patch(self, path: str, body: Any, *, kind: str = MERGE_PATCH) -> dict[str, Any]:
        """PATCH by a merge patch, or by a list of operations with `kind=JSON_PATCH`."""
        return self._succeed("PATCH", path, body, kind=kind)

    def delete(self, path: str) -> None:
        """DELETE; one that is gone already is fine."""
        answer = self.ask("DELETE", path)
        if answer.status != 404:
            _checked("DELETE", path, answer)

    def apply(self, *manifests: Manifest, namespace: str | None = None) -> None:
        """`kubectl apply` of any objects."""
        many = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "-f", "-", *(["-n", namespace] if namespace else []), stdin=json.dumps(many))

    def kubectl(self, *arguments: str, stdin: str | None = None, within_s: float = 60) -> str:
        """What kubectl prints; ClusterError with what it complains of."""
        home = str(self.kubeconfig.parent)
        return run(
            self._kubectl, f"--kubeconfig={self.kubeconfig}", *arguments,
            stdin=stdin, within_s=within_s, env={"HOME": home},
        )  # fmt: skip

    def until(self, path: str, holds: Callable[[dict[str, Any]], Any], *, within_s: float = 60) -> dict[str, Any]:
        """The object or list at `path` once `holds` of it; ClusterError shows the last one."""
        end = time.monotonic() + within_s
        while True:
            found = self.find(path)
            if found is not None and holds(found):
                return found
            if time.monotonic() > end:
                last = json.dumps(found, indent=1)
                raise ClusterError(f"{path}: it did not come to pass within {within_s:.0f} s; the last one was\n{last}")
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Whether the API server answers and says that it is ready."""
        try:
            return self.ask("GET", "/readyz").status == 200
        except (OSError, HTTPException):
            return False

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _succeed(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> dict[str, Any]:
        return _checked(method, path, self.ask(method, path, body, kind=kind))

    def _connect(self) -> HTTPConnection:
        context = ssl.create_default_context(cafile=self.access.authority)
        if self.access.pair is not None:
            context.load_cert_chain(self.access.pair.certificate, self.access.pair.key)
        url = urlsplit(self.access.url)
        self._connection = HTTPSConnection(str(url.hostname), url.port, context=context, timeout=30)
        return self._connection


def _checked(method: str, path: str, answer: Answer) -> dict[str, Any]:
    if answer.status >= 300:
        raise ClusterError(f"{method} {path} was answered {answer.status}: {answer.body.get('message', answer.body)}")
    return answer.body

"""The way through an API server: requests to it, and the autoscaler's admin API behind it. It blocks.

A kubeconfig says where the server is and who asks; what may be asked is the user's own right. `ClusterAdmin` asks the
admin API through the API server's proxy of Services, so nothing has to be opened and no port be forwarded; that API is
for looking, and what a person says of a workload is written to it with the person's own rights. Errors of
the server become sentences that name the missing rule, Service or pod.
"""

import asyncio
import http.client
import os
import re
import socket
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from cli.client import Admin, CommandError, UnreachableError, cause_of
from zerogate.admin.api import PinRequest, PinStatus, ServiceStatus
from zerogate.clock import wall
from zerogate.errors import ZerogateError
from zerogate.home import home_folder
from zerogate.kube.access import Access, by_kubeconfig
from zerogate.kube.decoding import status_of
from zerogate.kube.errors import Asked, Forbidden, KubeError, Unreachable, refusal
from zerogate.kube.pins import PIN, pin_text

SYSTEM: Final = "zerogate-system"
RELEASE: Final = "zerogate"
ADMIN_PORT: Final = 8081
_TIMEOUT_S: Final = 15.0
"""An API server gives up on a Service after 10 s or so; its own word says more than our silence."""
_HOOK: Final = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zerogate"
_VERBS: Final = {"GET": "get", "POST": "create", "DELETE": "delete"}


class Answer(msgspec.Struct, frozen=True):
    """What an API server said. `date_at`: its clock, seconds since 1970; None where it told none."""

    body: dict[str, Any]
    date_at: float | None


def access_of(kubeconfig: Path | None, context: str | None) -> Access:
    """The user's own way in. CommandError says what is missing."""
    paths = [kubeconfig] if kubeconfig else _usual_paths()
    if not any(path.exists() for path in paths):
        given = "" if kubeconfig or os.environ.get("KUBECONFIG") else ", and KUBECONFIG is not set"
        raise UnreachableError(
            f"There is no kubeconfig {', '.join(map(str, paths))}{given}. It says where the cluster is; --kubeconfig "
            "PATH names another."
        )
    try:
        return asyncio.run(by_kubeconfig(kubeconfig, context=context))
    except ImportError as error:
        raise CommandError(
            f"`kubectl zerogate` needs what reads kubeconfigs, and {error.name} is not installed. "
            "Run `pip install 'zerogate[kubernetes]'` where this command is installed."
        ) from error
    except ZerogateError as error:
        raise UnreachableError(
            f"{str(error).rstrip('.')}. `kubectl config get-contexts` shows what there is; --kubeconfig PATH and "
            "--context NAME choose another."
        ) from error


def _usual_paths() -> list[Path]:
    """As kubectl has them."""
    named = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [home_folder(os.environ) / ".kube" / "config"]


class _Connection(http.client.HTTPSConnection):
    """TLS by an `Access`, whose certificate may be for another name than the address."""

    def __init__(self, host: str, port: int | None, *, tls: ssl.SSLContext, server_name: str | None) -> None:
        super().__init__(host, port, timeout=_TIMEOUT_S, context=tls)
        self._tls = tls
        self._server_name = server_name
        self.tunnel_to: str | None = None

    def connect(self) -> None:
        HTTPConnection.connect(self)
        name = self._server_name or self.tunnel_to or self.host
        self.sock: socket.socket = self._tls.wrap_socket(self.sock, server_hostname=name)


class Api:
    """One API server. Raises the errors of `zerogate.kube.errors`."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.server = access.server
        parts = urlsplit(access.server)
        self._host, self._port, self._base = parts.hostname or "", parts.port, parts.path

    def connect(self) -> HTTPConnection:
        """A connection, not yet open."""
        host, port = self._host, self._port
        proxy = urlsplit(self.access.proxy) if self.access.proxy else None
        if proxy is not None:
            if proxy.scheme not in ("http", "https") or not proxy.hostname:
                raise UnreachableError(
                    f"The kubeconfig's proxy-url {self.access.proxy} is not one of http://HOST:PORT."
                )
            host, port = proxy.hostname, proxy.port or 3128
        if self.access.tls is None:
            connection: HTTPConnection = HTTPConnection(host, port, timeout=_TIMEOUT_S)
        else:
            connection = secure = _Connection(host, port, tls=self.access.tls, server_name=self.access.server_name)
            secure.tunnel_to = self._host if proxy is not None else None
        if proxy is not None:
            connection.set_tunnel(self._host, self._port or 443)
        return connection

    def send(
        self, connection: HTTPConnection, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> None:
        """One request, with the user's credentials."""
        own = {"Accept": "application/json", **self.access.headers(), **headers}
        connection.request(method, self._base + path, data, own)

    def get(self, path: str, asked: Asked) -> Answer:
        """An object or a list."""
        return self._ask("GET", path, None, asked)

    def create(self, path: str, body: Mapping[str, Any], asked: Asked) -> Answer:
        """What is answered to a new object, such as a review."""
        return self._ask("POST", path, msgspec.json.encode(body), asked)

    def merge_patch(self, path: str, body: Mapping[str, Any], asked: Asked) -> Answer:
        """Change some fields of an object."""
        return self._ask("PATCH", path, msgspec.json.encode(body), asked, "application/merge-patch+json")

    def renew(self) -> None:
        """The credentials are not accepted: ask for new ones, which the next request shows."""
        asyncio.run(self.access.renew())

    def _ask(
        self, method: str, path: str, data: bytes | None, asked: Asked, content_type: str = "application/json"
    ) -> Answer:
        connection = self.connect()
        try:
            self.send(connection, method, path, data, {} if data is None else {"Content-Type": content_type})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(asked, cause_of(error)) from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise refusal(asked, answer.status, status_of(content), retry_after=answer.getheader("Retry-After"))
        try:
            return Answer(msgspec.json.decode(content, type=dict[str, Any]), _date(answer))
        except msgspec.MsgspecError as error:
            raise Unreachable(asked, "what answers is no API server") from error


def _date(answer: HTTPResponse) -> float | None:
    try:
        return parsedate_to_datetime(answer.getheader("Date") or "").timestamp()
    except ValueError:
        return None


def _silent(server: str, why: str) -> UnreachableError:
    return UnreachableError(
        f"The API server {server} does not answer ({why}). `kubectl version` should show it; --context NAME chooses "
        "another cluster."
    )


def unseen(error: KubeError) -> str:
    """What is said of something that could not be looked at."""
    if isinstance(error, Forbidden) and error.rule:
        return f"you may not look: {error.asked}. This rule would let you: {error.rule}"
    return f"could not be looked at: {error}"


def find_system(api: Api) -> str:
    """The namespace of zerogate itself, as its webhook says; where that cannot be read, the usual one."""
    asked = Asked(verb="get", group="admissionregistration.k8s.io", resource="mutatingwebhookconfigurations",
                  name="zerogate")  # fmt: skip
    try:
        hooks = api.get(_HOOK, asked).body["webhooks"]
        namespace: str = hooks[0]["clientConfig"]["service"]["namespace"]
    except Unreachable as error:
        raise _silent(api.server, error.detail) from error
    except (ZerogateError, KeyError, IndexError, TypeError):
        return SYSTEM
    return namespace


class ClusterAdmin(Admin):
    """The admin API of the autoscaler in the namespace `system`, through the API server."""

    program = "kubectl zerogate"
    nothing = "No services. `kubectl annotate deployment NAME zerogate.dev/enabled=true` puts one under zerogate."

    def __init__(self, api: Api, system: str, release: str = RELEASE) -> None:
        self._api = api
        self._system = system
        self._service = f"{release}-autoscaler"
        self._prefix = f"/api/v1/namespaces/{quote(system)}/services/{quote(self._service)}:{ADMIN_PORT}/proxy"
        self.url = api.server + self._prefix

    def pin(self, name: str, request: PinRequest) -> ServiceStatus:
        """With the user's own right to patch the workload: the autoscaler cannot know who asks it."""
        status = self.service(name)
        if request.replicas > status.max_replicas:
            raise CommandError(
                f"{name} has max-replicas {status.max_replicas}: it cannot be pinned to {request.replicas}. "
                "Raise max-replicas first."
            )
        until = wall() + request.for_s if request.for_s is not None else None
        self._note_pin(status, pin_text(request.replicas, until))
        return msgspec.structs.replace(status, pin=PinStatus(replicas=request.replicas, until_at=until))

    def unpin(self, name: str) -> ServiceStatus:
        """The same."""
        status = self.service(name)
        self._note_pin(status, None)
        return msgspec.structs.replace(status, pin=None)

    def _note_pin(self, status: ServiceStatus, text: str | None) -> None:
        namespace, _, name = status.name.partition("/")
        # the path is somebody else's word: it may lead to this workload, and to nothing else
        place = re.fullmatch(
            r"/apis/([a-z0-9.-]+)/v[a-z0-9]+/namespaces/([^/]+)/([a-z0-9]+)/([^/]+)", status.api_path or ""
        )
        if place is None or (place[2], place[4]) != (namespace, name):
            raise CommandError(
                f"The autoscaler does not say where the workload of {status.name} is. Is it an older one?"
            )
        asked = Asked(verb="patch", group=place[1], resource=place[3], namespace=namespace, name=name)
        try:
            self._api.merge_patch(place[0], {"metadata": {"annotations": {PIN: text}}}, asked)
        except Unreachable as error:
            raise _silent(self._api.server, error.detail) from error
        except Forbidden as error:
            if not error.rule:
                raise CommandError(str(error)) from error
            rule = (
                f'{{apiGroups: ["{place[1]}"], resources: ["{place[3]}"], resourceNames: ["{name}"], verbs: ["patch"]}}'
            )
            raise CommandError(
                f"You are not permitted to patch {place[3]} {name} in namespace {namespace}, and a pin is an "
                "annotation of it. Whoever may edit the workload may pin it; this rule of a Role there is enough: "
                f"{rule}"
            ) from error
        except KubeError as error:
            raise CommandError(str(error)) from error

    def _connect(self) -> HTTPConnection:
        return self._api.connect()

    def _send(
        self, connection: HTTPConnection, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> None:
        self._verb = _VERBS.get(method, method.lower())
        self._api.send(connection, method, self._prefix + path, data, headers)

    def _unreachable(self, error: Exception) -> UnreachableError:
        return _silent(self._api.server, cause_of(error))

    def _of_somebody_else(self, status: int, reason: str, content: bytes) -> CommandError:
        """The API server itself says no: it has nobody to ask, or we may not."""
        said = status_of(content).message
        place = f"Service {self._service} in namespace {self._system}"
        if status == 401:
            self._api.renew()
            return UnreachableError(
                f"The API server does not know who you are ({said or 'Unauthorized'}). Log in anew."
            )
        if status == 403:
            names = f'["{self._service}:{ADMIN_PORT}"]'
            role = f"{self._service.removesuffix('-autoscaler')}-viewer"
            return CommandError(
                f"You are not permitted to {self._verb} services/proxy of {place}. Who looks after the cluster can "
                f"bind you to the Role {role} there (access: in the chart's values), or give you this rule: "
                f'{{apiGroups: [""], resources: ["services/proxy"], resourceNames: {names}, verbs: ["{self._verb}"]}}'
            )
        if status == 404 and "services" in said:
            return UnreachableError(
                f"zerogate is not installed: there is no {place}. `helm install zerogate deploy/chart -n {SYSTEM} "
                "--create-namespace` installs it; --system NAMESPACE says where else it is."
            )
        if "no endpoints available" in said:
            return UnreachableError(
                f"No autoscaler is ready: {place} leads to no pod. `kubectl -n {self._system} get pods` shows why."
            )
        return UnreachableError(
            f"{place} does not answer as zerogate does: the API server said {status} ({said or reason}). A "
            "NetworkPolicy may keep the API server out: networkPolicy.adminFrom in the chart's values."
        )

"""What can go wrong with the Kubernetes API, as a tree of our own.

Every error knows what was asked (`Asked`), the HTTP status (0: no answer came) and the server's own sentence; the
foreign exception, where there is one, is its `__cause__`. `str(error)` is a sentence for a person. Pure.
"""

import json

import msgspec

from zerogate.errors import ZerogateError
from zerogate.kube.decoding import Status


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the words of RBAC: verb, API group, resource (with its subresource), namespace, name.

    A resource that begins with a slash is a path of the server's own (a `nonResourceURL`).
    """

    verb: str
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        place = "/".join(part for part in (self.namespace, self.name) if part)
        return " ".join(part for part in (self.verb, kind, place) if part)

    @property
    def rule(self) -> str:
        """The RBAC rule that permits it, as one line of a Role or ClusterRole."""
        if self.resource.startswith("/"):
            return f'{{"nonResourceURLs": ["{self.resource}"], "verbs": ["{self.verb}"]}}'
        words = {"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb]}
        return f"{{{', '.join(f'{key}: {json.dumps(value)}' for key, value in words.items())}}}"


class KubeError(ZerogateError):
    """Root of the tree. `retry_after_s` is set where the server named a time."""

    def __init__(
        self,
        asked: Asked,
        detail: str = "",
        *,
        status: int = 0,
        reason: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        self.asked = asked
        self.detail = detail
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(asked, detail)

    def __str__(self) -> str:
        return f"{self.asked}: {self.detail or self.reason or self.status}"


class Unreachable(KubeError):  # noqa: N818 - the words of the API
    """No (whole) answer: refused, reset, timed out. Whether the server did what was asked is not known."""

    def __str__(self) -> str:
        return f"{self.asked}: the Kubernetes API did not answer ({self.detail})"


class NotDue(KubeError):  # noqa: N818
    """It was not sent: while it waited for its turn it ceased to be wanted."""

    def __str__(self) -> str:
        return f"{self.asked}: not sent, because it is not wanted any more"


class Silent(Unreachable):
    """A watch that was accepted says nothing, not even that nothing happens."""


class ServerFault(KubeError):  # noqa: N818
    """5xx: the server, or something before it, is in trouble."""


class TooManyRequests(KubeError):  # noqa: N818
    """429: refused before anything was done, so it may be asked again, whatever it is."""


class Unauthorized(KubeError):  # noqa: N818
    """401: the credentials are not, or no longer, known."""

    def __str__(self) -> str:
        return f"{self.asked}: the Kubernetes API does not accept the credentials ({self.detail or 'Unauthorized'})"


class Forbidden(KubeError):  # noqa: N818
    """403: by RBAC (then `rule` permits it), or by admission or a quota (then `rule` is empty)."""

    @property
    def rule(self) -> str:
        """The missing RBAC rule. An authorizer's refusal always says who "cannot" do what; admission never does."""
        return self.asked.rule if " cannot " in self.detail else ""

    def __str__(self) -> str:
        if not self.rule:
            return f"{self.asked}: refused: {self.detail}"
        where = f"a Role in namespace {self.asked.namespace}" if self.asked.namespace else "a ClusterRole"
        return f"{self.asked}: not permitted. Add this rule to {where} of zerogate: {self.rule}"


class NotFound(KubeError):  # noqa: N818
    """404: the object, or the whole kind, does not exist."""


class Conflict(KubeError):  # noqa: N818
    """409: somebody changed it in between, another field manager owns it."""


class AlreadyExists(Conflict):
    """409 on a create: the name is taken."""


class Gone(KubeError):  # noqa: N818
    """410: the resource version or the continue token is too old. Only a new list helps."""


class Invalid(KubeError):  # noqa: N818
    """400 or 422: not acceptable. A JSON Patch whose `test` fails is one, too."""


class Unreadable(KubeError):  # noqa: N818
    """The answer is not what the API promises."""


class VersionTooLarge(ServerFault):
    """The server does not know a resource version that is this new: its data was set back. Only a new list helps."""


_BY_STATUS: dict[int, type[KubeError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def refusal(asked: Asked, code: int, status: Status, *, retry_after: str | None = None) -> KubeError:
    """The error of an answer with HTTP status `code` (or of an ERROR in a watch) and the Status in it."""
    kind = _BY_STATUS.get(code, ServerFault if code >= 500 else KubeError)
    if status.reason == "AlreadyExists":
        kind = AlreadyExists
    elif status.has_cause("ResourceVersionTooLarge"):
        kind = VersionTooLarge
    return kind(
        asked,
        status.message,
        status=code,
        reason=status.reason,
        retry_after_s=_seconds(retry_after, status),
    )


def _seconds(header: str | None, status: Status) -> float | None:
    if header and header.isdigit():
        return float(header)
    if status.details is not None and status.details.retry_after_seconds:
        return float(status.details.retry_after_seconds)
    return None

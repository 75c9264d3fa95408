"""A `CertificateStore` in the cluster: a Secret, and the trust in both webhook configurations.

Replicas race for the Secret: it is created or replaced as what was read, never else, so one authority wins. Trust is
applied under a field manager of its own: whoever installs the configurations may go on applying them without it.
Owned by `autoscaler.injector.injector`.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from autoscaler.injector.rotation import ChangedError, Stored
from zerogate.kube.admission import MUTATING_HOOKS, SECRETS, VALIDATING_HOOKS, Secret
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Conflict, NotFound
from zerogate.kube.objects import Json

SECRET: Final = "zerogate-webhook"
MANAGER: Final = "zerogate-webhook-trust"
_HOOKS: Final = {
    "MutatingWebhookConfiguration": MUTATING_HOOKS,
    "ValidatingWebhookConfiguration": VALIDATING_HOOKS,
}


class SecretStore:
    """`configuration`: the name of both webhook configurations; empty: their trust is somebody else's, or there are
    none."""

    def __init__(self, client: KubeClient, *, namespace: str, configuration: str, secret: str = SECRET) -> None:
        self._client = client
        self._namespace = namespace
        self._configuration = configuration
        self._secret = secret

    async def read(self) -> Stored:
        try:
            found = await self._client.get(SECRETS, self._secret, namespace=self._namespace)
        except NotFound:
            return Stored({}, "")
        return Stored(_decoded(found), found.metadata.resource_version)

    async def write(self, data: Mapping[str, bytes], version: str) -> None:
        encoded = {name: base64.b64encode(one).decode() for name, one in data.items()}
        try:
            if version:
                body = {"metadata": {"resourceVersion": version}, "data": encoded}
                await self._client.merge_patch(SECRETS, self._secret, body, namespace=self._namespace)
            else:
                metadata = {"name": self._secret, "labels": {"app.kubernetes.io/name": "zerogate"}}
                made: dict[str, Json] = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}
                await self._client.create(SECRETS, made, namespace=self._namespace)
        except (Conflict, NotFound) as error:
            raise ChangedError(f"Secret {self._namespace}/{self._secret} is another than a moment ago.") from error

    async def publish(self, bundle: bytes) -> bool:
        if not self._configuration:
            return False
        text = base64.b64encode(bundle).decode()
        writes = [await self._trust(kind, text) for kind in _HOOKS]
        return any(writes)

    async def _trust(self, kind: str, text: str) -> bool:
        """Whether it was written. A configuration that is not there asks nobody."""
        resource, name = _HOOKS[kind], self._configuration
        try:
            found = await self._client.get(resource, name)
        except NotFound:
            return False
        if all(hook.client_config.ca_bundle == text for hook in found.webhooks):
            return False
        hooks = [{"name": hook.name, "clientConfig": {"caBundle": text}} for hook in found.webhooks]
        body = {"apiVersion": resource.api_version, "kind": kind, "metadata": {"name": name}, "webhooks": hooks}
        await self._client.apply(resource, name, body, manager=MANAGER)
        return True


def _decoded(secret: Secret) -> dict[str, bytes]:
    """What is no base64 cannot be in a Secret."""
    try:
        return {name: base64.b64decode(text) for name, text in (secret.data or {}).items()}
    except binascii.Error:
        return {}

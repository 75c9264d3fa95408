"""What the admission webhook reads and writes for itself: its Secret, and who the API server trusts to be it. Pure."""

import msgspec

from zerogate.kube.objects import Kind, Resource, Wire


class Secret(Kind, frozen=True, kw_only=True):
    """`data` in base64, as on the wire."""

    data: dict[str, str] | None = None


class HookClient(Wire, frozen=True, kw_only=True):
    """Whom the API server asks. `ca_bundle`: PEM in base64; empty: whom the machine trusts."""

    ca_bundle: str = msgspec.field(default="", name="caBundle")


class Hook(Wire, frozen=True, kw_only=True):
    name: str
    client_config: HookClient = HookClient()


class HookConfiguration(Kind, frozen=True, kw_only=True):
    """A MutatingWebhookConfiguration or a ValidatingWebhookConfiguration."""

    webhooks: tuple[Hook, ...] = ()


_GROUP = "admissionregistration.k8s.io"
SECRETS = Resource("", "v1", "secrets", Secret)
MUTATING_HOOKS = Resource(_GROUP, "v1", "mutatingwebhookconfigurations", HookConfiguration, namespaced=False)
VALIDATING_HOOKS = Resource(_GROUP, "v1", "validatingwebhookconfigurations", HookConfiguration, namespaced=False)

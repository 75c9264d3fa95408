"""`kubectl zerogate doctor`: what is wrong with zerogate on a cluster. Changes nothing.

Each check asks the API server and returns findings that name what is missing: the rule, the object, the setting. What
the user may not look at is a note, since it need not be wrong.
"""

import base64
import binascii
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Console

from cli.client import CommandError
from cli.commands.doctor import Finding, Level, show_findings
from cli.exits import ExitCode
from cli.kubectl.conflicts import conflicts
from cli.kubectl.way import SYSTEM, Answer, Api, ClusterAdmin, find_system, unseen
from zerogate.clock import wall
from zerogate.kube.catalog import CONFIG_MAP
from zerogate.kube.errors import Asked, Forbidden, KubeError, NotFound
from zerogate.kube.policies import read_defaults
from zerogate.kube.rights import ROLES, Role, Step, rights_of, rule_text, steps_of
from zerogate.quantities import format_duration
from zerogate.version import version

Json = Mapping[str, Any]

LEAST_VERSION: Final = (1, 29)
"""From here on native sidecars are there without a feature gate."""
_SKEW_S: Final = 10.0
"""Seconds; tokens and certificates allow for about a minute."""
_SOON_S: Final = 14 * 86400.0
_KINDS: Final = (("Mutating", "pods get no sidecar"), ("Validating", "wrong annotations are not refused"))
_FURTHER: Final = {
    "apps.kruise.io": "CloneSets",
    "leaderworkerset.x-k8s.io": "LeaderWorkerSets",
    "gateway.networking.k8s.io": "Gateway API",
    "monitoring.coreos.com": "Prometheus Operator",
}


def examine(api: Api, system: str | None, release: str, console: Console) -> ExitCode:
    """Print all findings; FAILED where something is wrong."""
    return show_findings(list(findings(api, system, release)), console)


def findings(api: Api, system: str | None, release: str) -> Iterator[Finding]:
    """All checks, in an order in which each explains the next."""
    try:
        answer = api.get("/version", Asked(verb="get", resource="/version"))
    except KubeError as error:
        yield Finding(Level.WRONG, "API server", f"{api.server}: {error}")
        return
    yield _server_version(api.server, answer.body)
    yield _clocks(answer, wall())
    home = system or find_system(api)
    roles: list[Role] = []
    for role in ROLES:
        found = _process(api, home, release, role)
        if found is not None:
            roles.append(role)
            yield found
        elif role == "autoscaler":
            says = f"not in namespace {home}: `helm install {release} deploy/chart -n {SYSTEM} --create-namespace`"
            yield Finding(Level.WRONG, role, f"{says}, or say with --system where it is.")
    yield from _releases(api)
    yield from _webhooks(api, home, release)
    if "autoscaler" in roles:
        yield _lease(api, home, release)
        yield _admin_api(api, home, release)
        yield from conflicts(api, ClusterAdmin(api, home, release))
    for role in roles:
        yield _rights(api, home, release, role, has_takeover="activator" in roles)
    yield from _policy(api, home)
    yield from _kinds(api)


def _server_version(server: str, body: Json) -> Finding:
    text = str(body.get("gitVersion", "unknown"))
    match = re.match(r"v(\d+)\.(\d+)", text)
    if match is not None and (int(match[1]), int(match[2])) < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        return Finding(Level.WRONG, "API server", f"{text}; native sidecars need Kubernetes {least} or newer.")
    return Finding(Level.OK, "API server", f"{server}, Kubernetes {text}")


def _clocks(answer: Answer, now_at: float) -> Finding:
    if answer.date_at is None:
        return Finding(Level.NOTE, "clocks", "the API server does not tell its time")
    skew_s = answer.date_at - now_at
    if abs(skew_s) > _SKEW_S:
        way = "ahead of" if skew_s > 0 else "behind"
        says = f"the API server is {format_duration(round(abs(skew_s)))} {way} this machine"
        return Finding(Level.WRONG, "clocks", f"{says}: calendars, tokens and certificates need right clocks (NTP).")
    return Finding(Level.OK, "clocks", "the API server's and this machine's agree")


def _process(api: Api, home: str, release: str, role: Role) -> Finding | None:
    asked = Asked(verb="get", group="apps", resource="deployments", namespace=home, name=f"{release}-{role}")
    try:
        found = api.get(f"/apis/apps/v1/namespaces/{home}/deployments/{release}-{role}", asked).body
    except NotFound:
        return None
    except KubeError as error:
        return Finding(Level.NOTE, role, unseen(error))
    wanted = found["spec"].get("replicas", 1)
    ready = found.get("status", {}).get("readyReplicas", 0)
    runs = found["metadata"].get("labels", {}).get("app.kubernetes.io/version", "unknown")
    says = f"{ready} of {wanted} ready in namespace {home}, version {runs}"
    if not ready and wanted:
        return Finding(Level.WRONG, role, f"{says}; `kubectl -n {home} describe pods` shows why.")
    if ready < wanted:
        return Finding(Level.NOTE, role, says)
    if runs != version():
        return Finding(Level.NOTE, role, f"{says}; this command is of version {version()}")
    return Finding(Level.OK, role, says)


def _releases(api: Api) -> Iterator[Finding]:
    """Two would scale the same workloads."""
    labels = "app.kubernetes.io/name%3Dzerogate,app.kubernetes.io/component%3Dautoscaler"
    asked = Asked(verb="list", group="apps", resource="deployments")
    try:
        found = api.get(f"/apis/apps/v1/deployments?labelSelector={labels}", asked).body["items"]
    except KubeError as error:
        yield Finding(Level.NOTE, "releases", unseen(error))
        return
    places = sorted(f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in found)
    if len(places) > 1:
        says = f"{len(places)} are in this cluster: {', '.join(places)}. They scale the same workloads: uninstall all "
        yield Finding(Level.WRONG, "releases", f"{says}but one.")


def _webhooks(api: Api, home: str, release: str) -> Iterator[Finding]:
    for kind, without in _KINDS:
        about = f"{kind.lower()} webhook"
        resource = f"{kind.lower()}webhookconfigurations"
        group = "admissionregistration.k8s.io"
        asked = Asked(verb="get", group=group, resource=resource, name="zerogate")
        try:
            found = api.get(f"/apis/{group}/v1/{resource}/zerogate", asked).body
        except NotFound:
            yield Finding(Level.NOTE, about, f"there is none: {without}. webhook.enabled in the chart's values.")
        except KubeError as error:
            yield Finding(Level.NOTE, about, unseen(error))
        else:
            yield _hooks(about, found.get("webhooks") or [], f"{release}-autoscaler", home)


def _hooks(about: str, hooks: Sequence[Json], service: str, home: str) -> Finding:
    """Whether they lead to this zerogate, and the API server knows whom to trust there."""
    for hook in hooks:
        client = hook["clientConfig"]
        target = client.get("service")
        if target is not None and (target["namespace"], target["name"]) != (home, service):
            says = f"leads to {target['namespace']}/{target['name']}, not to {home}/{service}: `helm upgrade` mends it."
            return Finding(Level.WRONG, about, f"{hook['name']} {says}")
        until_at = _trusted_until(client.get("caBundle", ""))
        if until_at is None:
            says = "has no authority in its caBundle. The autoscaler writes it when it starts; its log says what fails."
            return Finding(Level.WRONG, about, f"{hook['name']} {says}")
        if until_at - wall() < _SOON_S:
            return Finding(Level.WRONG, about, f"the authority of {hook['name']} ends soon and was not renewed.")
    return Finding(Level.OK, about, f"{len(hooks)} of them, with an authority")


def _trusted_until(bundle: str) -> float | None:
    """When the last authority of a bundle ends; None where there is none that can be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=base64.b64decode(bundle).decode())
    except (binascii.Error, UnicodeDecodeError, ssl.SSLError, ValueError):
        return None
    ends = [str(one["notAfter"]) for one in context.get_ca_certs()]
    return max((ssl.cert_time_to_seconds(end) for end in ends), default=None)


def _lease(api: Api, home: str, release: str) -> Finding:
    name = f"{release}-autoscaler"
    asked = Asked(verb="get", group="coordination.k8s.io", resource="leases", namespace=home, name=name)
    try:
        spec = api.get(f"/apis/coordination.k8s.io/v1/namespaces/{home}/leases/{name}", asked).body["spec"]
    except NotFound:
        return Finding(Level.WRONG, "leader", f"nobody has ever led: there is no Lease {home}/{name}.")
    except KubeError as error:
        return Finding(Level.NOTE, "leader", unseen(error))
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if not holder or not renewed:
        return Finding(Level.WRONG, "leader", f"nobody leads (Lease {home}/{name}); nothing is scaled until one does.")
    age_s = wall() - datetime.fromisoformat(renewed).timestamp()
    if age_s > spec.get("leaseDurationSeconds", 15):
        says = f"{holder} has not renewed its Lease for {format_duration(round(age_s))}; nothing is scaled."
        return Finding(Level.WRONG, "leader", f"{says} The autoscaler's log says what keeps it.")
    return Finding(Level.OK, "leader", f"{holder}")


def _admin_api(api: Api, home: str, release: str) -> Finding:
    try:
        health = ClusterAdmin(api, home, release).health()
    except CommandError as error:
        return Finding(Level.WRONG, "admin API", str(error))
    del health
    return Finding(Level.OK, "admin API", "answers through the API server")


def _rights(api: Api, home: str, release: str, role: Role, *, has_takeover: bool) -> Finding:
    """Asks the API server about each thing that a role does, as its account."""
    account = f"system:serviceaccount:{home}:{release}-{role}"
    about = f"rights of {role}"
    has_webhook, has_cert_manager = _webhook(api)
    rights = rights_of(
        role, release=release, has_webhook=has_webhook, has_takeover=has_takeover, has_cert_manager=has_cert_manager
    )
    steps = [step for right in rights for step in steps_of(right, home)]
    try:
        missing = [step for step in steps if not _may(api, account, step)]
        elsewhere = _wake_namespaces(api) if role != "autoscaler" and missing else ()
    except Forbidden as error:
        return Finding(Level.NOTE, about, unseen(error))
    except KubeError as error:
        return Finding(Level.WRONG, about, str(error))
    narrow = [step for step in missing if step.subresource == "scale"] if elsewhere else []
    missing = [step for step in missing if step not in narrow]
    if missing:
        kinds = {True: f"the Role {home}/{release}-{role}", False: f"the ClusterRole zerogate-{role}"}
        rules = "; ".join(f"{rule_text(step)} in {kinds[bool(step.namespace)]}" for step in missing)
        return Finding(Level.WRONG, about, f"missing: {rules}. `helm upgrade` puts back what the chart has.")
    if narrow:
        return Finding(Level.OK, about, f"all; it may wake only in {', '.join(elsewhere)}")
    return Finding(Level.OK, about, f"all {len(steps)}")


def _may(api: Api, account: str, step: Step) -> bool:
    if step.is_path:
        about: dict[str, object] = {"nonResourceAttributes": {"verb": step.verb, "path": step.resource}}
    else:
        about = {
            "resourceAttributes": {
                "verb": step.verb, "group": step.group, "resource": step.resource, "subresource": step.subresource,
                "name": step.name, "namespace": step.namespace,
            }
        }  # fmt: skip
    asked = Asked(verb="create", group="authorization.k8s.io", resource="subjectaccessreviews")
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": account, "groups": _groups(account), **about},
    }
    answer = api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", body, asked).body
    return bool(answer["status"].get("allowed"))


def _groups(account: str) -> list[str]:
    namespace = account.split(":")[2]
    return ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]


def _webhook(api: Api) -> tuple[bool, bool]:
    """Whether there is one, and whether cert-manager says whom API servers trust for it: without, the autoscaler has no
    rights for that. Who may not look takes it to be there, and the autoscaler's own."""
    resource = "mutatingwebhookconfigurations"
    asked = Asked(verb="get", group="admissionregistration.k8s.io", resource=resource, name="zerogate")
    try:
        found = api.get(f"/apis/admissionregistration.k8s.io/v1/{resource}/zerogate", asked).body
    except NotFound:
        return False, False
    except KubeError:
        return True, False
    return True, "cert-manager.io/inject-ca-from" in (found["metadata"].get("annotations") or {})


def _wake_namespaces(api: Api) -> list[str]:
    asked = Asked(verb="list", group="rbac.authorization.k8s.io", resource="rolebindings")
    path = "/apis/rbac.authorization.k8s.io/v1/rolebindings?fieldSelector=metadata.name%3Dzerogate-wake"
    return sorted(one["metadata"]["namespace"] for one in api.get(path, asked).body["items"])


def _policy(api: Api, home: str) -> Iterator[Finding]:
    asked = Asked(verb="get", resource="configmaps", namespace=home, name=CONFIG_MAP)
    try:
        data = api.get(f"/api/v1/namespaces/{home}/configmaps/{CONFIG_MAP}", asked).body.get("data") or {}
    except NotFound:
        return
    except KubeError as error:
        yield Finding(Level.NOTE, "policy", unseen(error))
        return
    _, errors = read_defaults(data, f"ConfigMap {home}/{CONFIG_MAP}")
    for wrong in errors:
        yield Finding(Level.WRONG, "policy", str(wrong))
    if not errors:
        yield Finding(Level.OK, "policy", f"{len(data)} defaults and bounds")


def _kinds(api: Api) -> Iterator[Finding]:
    """Kinds of other projects that zerogate knows; none of them is needed."""
    asked = Asked(verb="get", resource="/apis")
    try:
        groups = {one["name"] for one in api.get("/apis", asked).body.get("groups", ())}
    except KubeError as error:
        yield Finding(Level.NOTE, "kinds", unseen(error))
        return
    there = [name for group, name in _FURTHER.items() if group in groups]
    absent = [name for group, name in _FURTHER.items() if group not in groups]
    said = [f"there: {', '.join(there)}"] if there else []
    said += [f"not there, and not needed: {', '.join(absent)}"] if absent else []
    yield Finding(Level.OK, "further kinds", "; ".join(said))

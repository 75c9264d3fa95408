"""The page `docs/rights.md`: what each role may do on a cluster, and why. Written by `tools/write_docs.py`."""

from typing import Final

from zerogate.kube.rights import ROLES, Right, rights_of

_HEAD: Final = """# Rights on Kubernetes

What the [chart](deploying.md) gives each process, and nothing else: tests compare the chart with this table, and try on
a real API server that each line is allowed and that what stands beside it is refused. `kubectl zerogate doctor` asks
about each line and names the one that is missing. This page is made by `make docs`.

*Own* means zerogate's own namespace. `replicasets` and the webhook configurations are there only with
`webhook.enabled` (the latter not where cert-manager keeps the certificate), what is about taking over only with
`activator.enabled`; kinds of `extraWorkloads` get the lines of Deployments. With `gateway.wakeNamespaces`, gateways
and activators have `…/scale` in those namespaces alone.
"""
_PEOPLE_ROWS: Final = (
    ("bound to the Role `zerogate-viewer` (`access.viewers`)", "`status`, `explain`, `plan`",
     "`get` on `services/proxy` of `zerogate-autoscaler:8081`"),
    ("may `patch` a workload", "`pin` and `unpin` it", "its annotation `state.zerogate.dev/pin`"),
    ("may `create` `pods/portforward` of a gateway or activator",
     "drain it, and have a gateway look at its certificates anew", "`POST /drain`, `/reload` on 127.0.0.1:8081 in it"),
    ("may `get` a pod with a sidecar", "read the token of its `/drain` and the key by which it knows autoscalers",
     "the sidecar's environment"),
    ("reaches the network", "read metrics and readiness; the autoscaler's services", "`networkPolicy` closes it"),
)  # fmt: skip
_NOBODY: Final = """
Nobody changes anything through the autoscaler's admin port: an API server takes off who asks, so it could not be known.
"""


def rights_page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for role in ROLES:
        rows = "\n".join(_row(right) for right in rights_of(role))
        head = "| API group | resources | verbs | where | why |\n|---|---|---|---|---|"
        parts.append(f"## {role[0].upper()}{role[1:]}\n\n{head}\n{rows}\n")
    people = "\n".join(f"| {who} | {may} | {how} |" for who, may, how in _PEOPLE_ROWS)
    return "\n".join([*parts, f"## People\n\n| who | may | by |\n|---|---|---|\n{people}\n{_NOBODY}"])


def _row(right: Right) -> str:
    where = "own" if right.at_home else "all"
    if right.names:
        where += f": {_words(right.names)}"
    group = "paths" if right.is_path else f"`{right.group}`" if right.group else "core"
    return f"| {group} | {_words(right.resources)} | {_words(right.verbs)} | {where} | {right.why} |"


def _words(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)

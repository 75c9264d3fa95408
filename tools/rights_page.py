"""The page `docs/rights.md`: what each role may do on a cluster, and why. Written by `tools/write_docs.py`."""

from typing import Final

from zerogate.kube.rights import ROLES, Right, rights_of

_HEAD: Final = """# Rights on Kubernetes

What the [chart](deploying.md) gives each process, and nothing else: tests compare the chart with this table, and try on
a real API server that each line is allowed and that what stands beside it is refused. `kubectl zerogate doctor` asks
about each line and names the one that is missing. This page is made by `make docs`.

*Own* means zerogate's own namespace. `replicasets`, `secrets` and the webhook configurations are there only with
`webhook.enabled`, what is about taking over only with `activator.enabled`; kinds of `extraWorkloads` get the lines of
Deployments. With `gateway.wakeNamespaces`, gateways and activators have `…/scale` in those namespaces alone.
"""


def rights_page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for role in ROLES:
        rows = "\n".join(_row(right) for right in rights_of(role))
        head = "| API group | resources | verbs | where | why |\n|---|---|---|---|---|"
        parts.append(f"## {role[0].upper()}{role[1:]}\n\n{head}\n{rows}\n")
    return "\n".join(parts)


def _row(right: Right) -> str:
    where = "own" if right.at_home else "all"
    if right.names:
        where += f": {_words(right.names)}"
    group = f"`{right.group}`" if right.group else "core"
    return f"| {group} | {_words(right.resources)} | {_words(right.verbs)} | {where} | {right.why} |"


def _words(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)

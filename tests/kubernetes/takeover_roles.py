"""What the account of each process may do for takeover, as `docs/rights.md` lists it."""

from typing import Any

LEADER: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch", "patch"]},
    {
        "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
        "verbs": ["list", "watch", "create", "patch", "delete"],
    },
]  # fmt: skip
SCALER: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "patch"]},
    {"apiGroups": [""], "resources": ["namespaces", "configmaps"], "verbs": ["list", "watch"]},
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["list", "watch"]},
    {"apiGroups": ["apps"], "resources": ["deployments/scale", "statefulsets/scale"], "verbs": ["get", "patch"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
ACTIVATOR: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["pods", "namespaces", "configmaps"], "verbs": ["list", "watch"]},
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["list", "watch"]},
    {"apiGroups": ["apps"], "resources": ["deployments/scale", "statefulsets/scale"], "verbs": ["get", "patch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
]


def objects(name: str, rules: list[dict[str, Any]], subject: dict[str, Any]) -> list[dict[str, Any]]:
    """A ClusterRole with its binding."""
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name}, "subjects": [subject],
    }  # fmt: skip
    return [role, binding]

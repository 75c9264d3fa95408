"""Other projects' custom resource definitions, as they publish them: out of Go modules, with the checksums of `go.sum`.

`ensure(name)` is what fixtures call: the manifests of one project. A module is fetched once by the machine's own Go
(`tests/kubernetes/binaries/definitions` pins versions and checksums), and what is needed of it is kept in the cache
beside the programs, under a digest of those files: a warm cache needs neither Go nor network.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.kubernetes.harness.access import Cluster
from tests.kubernetes.harness.binaries import MODULES, UnavailableError, alone, cache, find_go
from tests.kubernetes.harness.processes import say, until

PINS = MODULES / "definitions"


class Project(msgspec.Struct, frozen=True):
    """A module, and the files of it that define resources."""

    module: str
    folder: str
    files: tuple[str, ...]


PROJECTS = {
    "cert-manager": Project(
        "github.com/cert-manager/cert-manager",
        "deploy/crds",
        tuple(
            f"crd-{kind}.yaml"
            for kind in ("certificaterequests", "certificates", "challenges", "clusterissuers", "issuers", "orders")
        ),
    ),
    "gateway-api": Project(
        "sigs.k8s.io/gateway-api",
        "config/crd/standard",
        tuple(
            f"gateway.networking.k8s.io_{kind}.yaml"
            for kind in ("gatewayclasses", "gateways", "httproutes", "referencegrants")
        ),
    ),
    "kruise": Project("github.com/openkruise/kruise", "config/crd/bases", ("apps.kruise.io_clonesets.yaml",)),
    "lws": Project("sigs.k8s.io/lws", "config/crd/bases", ("leaderworkerset.x-k8s.io_leaderworkersets.yaml",)),
}


def ensure(name: str) -> list[dict[str, Any]]:
    """The definitions of a project. Raises UnavailableError with the reason."""
    project, folder = PROJECTS[name], _folder() / name
    if not folder.exists():
        with alone():
            if not folder.exists():
                _fetch(project, folder)
    found = [yaml.load((folder / file).read_text(), Loader=yaml.CSafeLoader) for file in project.files]
    for definition in found:
        # cert-manager's are written by Helm
        definition["metadata"].pop("labels", None)
    return found


def install(cluster: Cluster, names: Sequence[str]) -> None:
    """Define their resources, and wait until the API server serves them."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    wanted = [one for name in names for one in ensure(name)]
    for definition in wanted:
        cluster.create(path, definition)
    for definition in wanted:
        cluster.until(f"{path}/{definition['metadata']['name']}", _is_served)
        until(partial(_is_listed, cluster, definition["spec"]), within_s=30, what=definition["metadata"]["name"])


def remove(cluster: Cluster, name: str) -> None:
    """Take a project's definitions away, and with them all its objects."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for definition in ensure(name):
        cluster.delete(f"{path}/{definition['metadata']['name']}")


def _is_served(definition: dict[str, Any]) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _is_listed(cluster: Cluster, spec: dict[str, Any]) -> bool:
    """The server is "(re)initializing" its storage for a while after it said that it serves them."""
    version = next(one["name"] for one in spec["versions"] if one["served"])
    return cluster.ask("GET", f"/apis/{spec['group']}/{version}/{spec['names']['plural']}").status == 200


def _folder() -> Path:
    digest = hashlib.sha256()
    for file in sorted(PINS.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return cache() / f"definitions-{digest.hexdigest()[:12]}"


def _fetch(project: Project, folder: Path) -> None:
    version = _version(project.module)
    say(f"fetching the definitions of {project.module} {version}")
    done = subprocess.run(
        [find_go(), "mod", "download", "-json", f"{project.module}@{version}"],
        cwd=PINS,
        env={**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UnavailableError(
            f"{project.module} {version} could not be fetched: {' / '.join(done.stderr.strip().splitlines()[:3])}\n"
            "It comes through Go's module proxy: is the network up, and `go env GOPROXY` right?",
            is_mendable=True,
        )
    source = Path(json.loads(done.stdout)["Dir"]) / project.folder
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for file in project.files:
        (fresh / file).write_bytes((source / file).read_bytes())
    fresh.rename(folder)


def _version(module: str) -> str:
    for line in (PINS / "go.mod").read_text().splitlines():
        name, _, version = line.strip().removeprefix("require ").partition(" ")
        if name == module:
            return version
    raise LookupError(module)

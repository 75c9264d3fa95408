"""What the product imports is what it declares: a package that only the tests install must not be needed to run."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("zerogate", "gateway", "activator", "queueproxy", "autoscaler", "cli")
EXTRAS = ("demo", "kubernetes", "gpu", "otel")


def imported() -> dict[str, Path]:
    """Top-level modules that the product imports from elsewhere, each with one place that does."""
    found: dict[str, Path] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                for name in names:
                    found.setdefault(name.split(".")[0], path)
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | set(PACKAGES)}


def declared() -> set[str]:
    """Names of the distributions that the product or one of its extras requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_every_import_of_the_product_is_declared() -> None:
    known = packages_distributions()
    modules = imported()
    assert "httptools" in modules
    missing = {
        name: str(path)
        for name, path in modules.items()
        if not declared() & {canonicalize_name(distribution) for distribution in known.get(name, [name])}
    }
    assert not missing

"""Dashboard and alerts ask for metrics that there are, with labels that they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "chart"
NAME = re.compile(r"\b(?:zerogate|process)_[a-z0-9_]+")
OF_SERIES = {"service", "pod", "job", "le"}
"""Labels that every family may have: of the service, of histograms, and of whoever scrapes."""


def documented() -> dict[str, tuple[str, set[str]]]:
    """Families of the documents: their kind and their labels."""
    found: dict[str, tuple[str, set[str]]] = {}
    for page in sorted((ROOT / "docs").glob("*.md")):
        for line in page.read_text().splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) >= 3 and re.fullmatch(r"`(zerogate|process)_\w+`", cells[0]):
                found[cells[0].strip("`")] = (cells[1], set(re.findall(r"`(\w+)`", " ".join(cells[2:]))))
    return found


def expressions() -> Iterator[tuple[str, str]]:
    dashboard = json.loads((CHART / "dashboards" / "zerogate.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for group in yaml.safe_load((CHART / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def family_of(name: str) -> str:
    families = documented()
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    return base if base != name and families.get(base, ("",))[0] == "histogram" else name


EXPRESSIONS = dict(expressions())


def test_there_are_families_and_expressions() -> None:
    assert len(documented()) > 30
    assert len(EXPRESSIONS) > 15


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_each_metric_that_is_asked_for_exists_with_these_labels(title: str) -> None:
    expression, families = EXPRESSIONS[title], documented()
    names = NAME.findall(expression)
    assert names
    labels = set(re.findall(r"(\w+)\s*=~?\"", expression)) - OF_SERIES
    labels |= {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")} - OF_SERIES
    for name in names:
        kind, of_family = families[family_of(name)]
        assert (kind == "histogram") == name.endswith("_bucket")
        assert labels <= of_family, name
        assert kind == "gauge" or f"{name}{{" in expression or f"{name}[" in expression


def test_counters_are_never_shown_as_they_are() -> None:
    families = documented()
    for expression in EXPRESSIONS.values():
        for name in NAME.findall(expression):
            if families[family_of(name)][0] == "counter":
                assert re.search(rf"(rate|increase)\({name}[{{\[]", expression), expression


def test_each_alert_says_what_to_do() -> None:
    rules: list[dict[str, Any]] = yaml.safe_load((CHART / "alerts.yaml").read_text())["groups"][0]["rules"]
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_panels_do_not_overlap() -> None:
    panels = json.loads((CHART / "dashboards" / "zerogate.json").read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len(panels)

"""The operations of the admin API as one table, and the OpenAPI document made from it. Pure.

`zerogate.admin.app` registers its handlers by `operation_id`; a test sees to it that each has one.
"""

from typing import Any, Final

import msgspec

from zerogate.admin.api import Explanation, Health, PinRequest, Plan, Problem, Readiness, ReloadReport, ServiceStatus

VERSION: Final = "1"
"""Of the API; grows when an answer loses or changes something."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A query parameter: an integer between `least` and `most`."""

    name: str
    says: str
    default: int
    least: int = 0
    most: int = 1


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path. `answer` is the type of the JSON body, or a media type where it is not JSON."""

    method: str
    path: str
    operation_id: str
    says: str
    answer: Any
    body: Any = None
    query: tuple[Parameter, ...] = ()
    problems: tuple[int, ...] = ()


COUNT: Final = Parameter(name="count", says="How many transitions at most.", default=20, least=1, most=1000)
LINES: Final = Parameter(name="lines", says="How many of the last lines to begin with.", default=200, most=100_000)
FOLLOW: Final = Parameter(name="follow", says="1: go on with what is written from now on.", default=0)

_SERVICE = "/api/services/{name}"
OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/api/services",
        operation_id="list_services",
        says="All services, in the order of the file.",
        answer=tuple[ServiceStatus, ...],
    ),
    Operation(
        method="GET",
        path=_SERVICE,
        operation_id="get_service",
        says="One service.",
        answer=ServiceStatus,
        problems=(404,),
    ),
    Operation(
        method="GET",
        path=f"{_SERVICE}/decisions",
        operation_id="get_decisions",
        says="Why it has the replicas it has, what comes next, and the decisions before.",
        answer=Explanation,
        problems=(404,),
    ),
    Operation(
        method="GET",
        path=f"{_SERVICE}/plan",
        operation_id="get_plan",
        says="The next transitions of its calendar.",
        answer=Plan,
        query=(COUNT,),
        problems=(400, 404),
    ),
    Operation(
        method="POST",
        path=f"{_SERVICE}/pin",
        operation_id="pin_service",
        says="Hold the number of replicas. A suspended start is tried again at once.",
        answer=ServiceStatus,
        body=PinRequest,
        problems=(400, 404, 409),
    ),
    Operation(
        method="DELETE",
        path=f"{_SERVICE}/pin",
        operation_id="unpin_service",
        says="Take the pin away; without one nothing changes.",
        answer=ServiceStatus,
        problems=(404,),
    ),
    Operation(
        method="GET",
        path=f"{_SERVICE}/logs",
        operation_id="get_logs",
        says="What its replicas printed.",
        answer="text/plain",
        query=(LINES, FOLLOW),
        problems=(400, 404, 409),
    ),
    Operation(
        method="POST",
        path="/api/reload",
        operation_id="reload",
        says="Apply the file as it is now, as a whole or not at all.",
        answer=ReloadReport,
        problems=(422,),
    ),
    Operation(method="GET", path="/metrics", operation_id="get_metrics", says="For Prometheus.", answer="text/plain"),
    Operation(
        method="GET", path="/healthz", operation_id="get_health", says="Does the process do its work?", answer=Health
    ),
    Operation(
        method="GET",
        path="/readyz",
        operation_id="get_readiness",
        says="Is traffic taken? 503 with the same body where it is not.",
        answer=Readiness,
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        operation_id="get_document",
        says="This document.",
        answer="application/json",
    ),
)


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    types = {
        kind
        for operation in OPERATIONS
        for kind in (operation.answer, operation.body, Problem)
        if kind is not None and not isinstance(kind, str)
    }
    ordered = sorted(types, key=str)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "zerogate admin API",
            "version": VERSION,
            "description": "Everything that the command line shows and does. Binds loopback; has no passwords.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": dict(sorted(components.items()))},
    }


def document_text() -> str:
    """The document as it stands in docs/openapi.json."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=1).decode() + "\n"


def _operation(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    answers = {"200": {"description": "Done.", "content": _content(operation.answer, schemas)}}
    problem = {"application/problem+json": {"schema": schemas[Problem]}}
    for status in operation.problems:
        answers[str(status)] = {"description": _MEANING[status], "content": problem}
    made: dict[str, Any] = {
        "operationId": operation.operation_id,
        "summary": operation.says,
        "responses": answers,
    }
    parameters = [_parameter(parameter) for parameter in operation.query]
    if "{name}" in operation.path:
        parameters.insert(0, {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}})
    if parameters:
        made["parameters"] = parameters
    if operation.body is not None:
        made["requestBody"] = {"required": True, "content": _content(operation.body, schemas)}
    return made


_MEANING: Final = {
    400: "The request is malformed.",
    404: "There is no such service.",
    409: "The service is not of a kind that can do this.",
    422: "The file is wrong; nothing was changed.",
}


def _content(kind: Any, schemas: dict[Any, Any]) -> dict[str, Any]:
    if isinstance(kind, str):
        return {kind: {"schema": {"type": "object" if kind == "application/json" else "string"}}}
    return {"application/json": {"schema": schemas[kind]}}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.says,
        "schema": {
            "type": "integer",
            "default": parameter.default,
            "minimum": parameter.least,
            "maximum": parameter.most,
        },
    }

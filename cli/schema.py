"""The JSON Schema of the box file, made from the tables that parse it. Pure.

Editors complete and check with it. What the parser takes, the schema takes; what the schema cannot say (bounds of
durations, contradictions between keys, two services with one model) only the parser refuses. Shipped as
`zerogate.schema.json`, which `tools/write_docs.py` writes. Draft 7: the one that editors' YAML support reads best.
"""

import json
from collections.abc import Iterable
from typing import Any

from cli.file_keys import (
    BOX_KEYS,
    ENDPOINT_TLS_KEYS,
    ENVIRONMENT,
    PAIR_KEYS,
    SERVICE_KEYS,
    SERVICE_NAME_PATTERN,
    FileKey,
)
from zerogate.kinds import Fragment
from zerogate.policy_keys import KEYS, LATER_KEYS, Key


def schema() -> Fragment:
    """The whole schema."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "zerogate.yaml",
        "description": "The services that zerogate runs or routes to on one box.",
        "type": "object",
        "additionalProperties": False,
        "required": ["services"],
        "properties": {
            **{key.name: _of_file_key(key) for key in BOX_KEYS.values()},
            "tls": {
                "description": "Certificates of listen-tls, chosen by the name that a client asks for, the first for "
                "all others; or a folder with NAME.crt and NAME.key, or folders with tls.crt and tls.key.",
                "anyOf": [
                    {"type": "string", "minLength": 1},
                    {"type": "array", "minItems": 1, "items": {"$ref": "#/definitions/certificate"}},
                ],
            },
            "services": {
                "description": "The services by name: a DNS label of small letters, digits and -.",
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": SERVICE_NAME_PATTERN},
                "additionalProperties": {"$ref": "#/definitions/service"},
            },
        },
        "dependencies": {
            "listen-tls": ["tls"],
            "tls": ["listen-tls"],
            "client-ca": ["listen-tls"],
            "client-certificates": ["client-ca"],
        },
        "definitions": {
            "certificate": {
                "type": "object",
                "additionalProperties": False,
                "required": [*PAIR_KEYS],
                "properties": {key.name: _of_file_key(key) for key in PAIR_KEYS.values()},
            },
            "service": _service(),
            "policy": _policy(KEYS.values(), "How the service is scaled, held, timed and routed."),
            "endpoint-policy": _policy(
                (key for key in KEYS.values() if not key.scales),
                "How requests to the service are held, timed and routed.",
            ),
        },
    }


def schema_text() -> str:
    """The schema as the file that is shipped."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _service() -> Fragment:
    running = [*(key.name for key in SERVICE_KEYS.values() if key.runs), "env"]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **{key.name: _of_file_key(key) for key in SERVICE_KEYS.values()},
            "env": {"description": "Variables for the command.", **ENVIRONMENT.fragment()},
            "tls": {
                "description": "How an https endpoint is known, and what it is shown.",
                "type": "object",
                "additionalProperties": False,
                "properties": {key.name: _of_file_key(key) for key in ENDPOINT_TLS_KEYS.values()},
                "dependencies": {"certificate": ["key"], "key": ["certificate"]},
            },
            "policy": {"type": "object"},
            **{key.name: _of_policy_key(key) for key in KEYS.values() if key.routes},
        },
        "oneOf": [
            {
                "required": ["command"],
                "properties": {"endpoint": False, "tls": False, "policy": {"$ref": "#/definitions/policy"}},
            },
            {
                "required": ["endpoint"],
                "properties": {
                    **dict.fromkeys(running, False),
                    "policy": {"$ref": "#/definitions/endpoint-policy"},
                },
            },
        ],
    }


def _policy(keys: Iterable[Key], description: str) -> Fragment:
    neutral: dict[str, Any] = {
        name: {"description": "Not available in this version.", "enum": [later.neutral]}
        for name, later in LATER_KEYS.items()
        if later.neutral is not None
    }
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "properties": {**{key.name: _of_policy_key(key) for key in keys}, **neutral},
    }


def _of_file_key(key: FileKey) -> Fragment:
    default = {"default": key.default} if key.default else {}
    return {"description": _sentences(key.doc, key.kind.allowed()), **default, **key.kind.fragment()}


def _of_policy_key(key: Key) -> Fragment:
    text = key.default_text()
    default = {} if text == "–" else {"default": text}
    return {"description": _sentences(key.doc, key.kind.allowed()), **default, **key.kind.fragment()}


def _sentences(doc: str, allowed: str) -> str:
    return f"{doc} Allowed: {allowed}."

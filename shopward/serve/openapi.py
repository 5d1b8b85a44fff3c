"""The API as an OpenAPI 3.1 document, with the fields of the rulebook that is in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shopward import __version__
from shopward.declare.types import ACTIONS

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook

TYPES: dict[str, Any] = {
    "string": {"type": ["string", "number", "null"]}, "number": {"type": ["number", "null"]}, "bool": {"type": ["boolean", "null"]},
    "money": {"type": ["number", "string", "null"]}, "decimal": {"type": ["number", "string", "null"]},
    "time": {"type": ["string", "integer", "null"]}, "list": {"type": ["array", "null"], "items": {"type": "string"}},
}  # fmt: skip
TIME = {"description": "UTC: ISO 8601 or epoch milliseconds", "type": ["string", "integer"]}
ERRORS = {
    "400": "The request is not what this route takes.", "401": "A valid bearer token is needed.", "403": "The token lacks the scope.",
    "408": "The request came too slowly.", "413": "Too large.", "422": "The content cannot be used; the error says why.",
    "429": "Too much at once; see Retry-After.", "503": "Not now (disk full, not deciding); see Retry-After.",
}  # fmt: skip


def document(rulebook: Rulebook | None) -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shopward", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Explained decisions on a marketplace's events, on disk before they are answered.",
        },
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(rulebook),
            "responses": {code: _failure(words) for code, words in ERRORS.items()},
        },
    }  # fmt: skip


def _paths() -> dict[str, Any]:
    return {
        "/v1/decide": {"post": _call("decide", "Decide on one event.", _json("Event"), _json("Decision"))},
        "/v1/decide/batch": {
            "post": _call(
                "decideBatch", "Decide on a stream of events (NDJSON in and out, one line an input line, in order).",
                _lines("One event a line."), _lines("A decision, or {line, error}."),
            )
        },
        "/v1/traffic": {
            "post": _call(
                "traffic", "Look at requests as they are logged; verdicts reach decisions as events and list entries.",
                {**_lines("One request a line: id, method, url, headers, body, ts, ip, session, account, device, status ..."), **_TEXT},
                _lines("A traffic_verdict, or {line, error}; the last line sums up."),
            )
        },
        "/v1/labels": {"post": _call("label", "Tell what turned out to be fraud.", _json("Label", _TEXT), _json("Taken"))},
        "/v1/lists": {"post": _call("writeLists", "Put keys on lists or take them off; all or none.", _json("Entry", _TEXT), _json("Count"))},
        "/v1/decisions/{event_id}": {
            "get": {**_call("decision", "A decision made before.", None, _json("Decision"), more={"404": {"description": "Unknown."}}),
                    "parameters": [{"name": "event_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}]}
        },
        "/v1/admin/rulebook": {
            "get": _call("rulebook", "Which rulebook decides, which did before, and what is warming.", None, _json("Object")),
            "post": _call("changeRulebook", "Check, warm and switch to a rulebook; or go back to one.", _json("Change"), _json("Object"),
                          more={"409": {"description": "Another change is under way."}, "202": {"description": "It is being warmed."}}),
        },
        "/v1/admin/erase": {"post": _call("erase", "Forget the personal values of an entity.", _json("Erase"), _json("Object"))},
        "/healthz": {"get": _open("health", "Alive?")},
        "/readyz": {"get": _open("ready", "Does it decide?")},
        "/metrics": {"get": {**_open("metrics", "Counters for Prometheus."),
                             "responses": {"200": {"description": "Text.", "content": _TEXT}}}},
        "/openapi.json": {"get": {**_open("openapi", "This document."), "responses": {"200": {"description": "JSON.", "content": _json("Object")}}}},
    }  # fmt: skip


_TEXT = {"text/plain": {"schema": {"type": "string"}}}


def _call(name: str, words: str, body: Any, answer: Any, more: Any = None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": name,
        "summary": words,
        "responses": {"200": {"description": "Done.", "content": answer}},
    }
    told["responses"] |= {code: {"$ref": f"#/components/responses/{code}"} for code in ERRORS} | (more or {})
    return told | ({"requestBody": {"required": True, "content": body}} if body else {})


def _open(name: str, words: str) -> dict[str, Any]:
    answers = {
        "200": {"description": "Yes.", "content": _json("Object")},
        "503": {"$ref": "#/components/responses/503"},
    }
    return {"operationId": name, "summary": words, "security": [], "responses": answers}


def _json(name: str, more: Any = None) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _lines(words: str) -> dict[str, Any]:
    return {"application/x-ndjson": {"schema": {"type": "string", "description": words}}}


def _failure(words: str) -> dict[str, Any]:
    return {"description": words, "content": _json("Error")}


def _schemas(rulebook: Rulebook | None) -> dict[str, Any]:
    fields = rulebook.schema.fields.values() if rulebook else ()
    types = [t for t in rulebook.schema.types if t != "label"] if rulebook else []
    text, texts = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    number = {"type": ["number", "null"]}
    event = {
        "event_id": {"type": "string", "minLength": 1, "maxLength": 200, "description": "Your id; the same again gets the same answer."},
        "ts": TIME, "type": {"type": "string", **({"enum": types} if types else {})},
    }  # fmt: skip
    event |= {f.name: {**TYPES[f.type], **({"description": f.doc} if f.doc else {})} for f in fields}
    return {
        "Event": {"type": "object", "required": ["ts", "type"], "properties": event},
        "Decision": {
            "type": "object", "required": ["event_id", "ts", "type", "action"],
            "properties": {
                "event_id": text, "ts": {"type": "integer"}, "type": text, "action": {"enum": list(ACTIONS)}, "reasons": texts, "score": number,
                "risk": number, "arm": text, "shadow": texts, "labels": texts, "evidence": {"type": "array", "items": {"type": "object"}},
                "rulebook_version": text, "shadow_evidence": {"type": "array", "items": {"type": "object"}},
            },
        },
        "Label": {
            "type": "object", "required": ["event_id", "label", "label_ts"],
            "properties": {"event_id": text, "label": {"enum": [0, 1]}, "label_ts": TIME, "source": text, "amount": {"type": "number"}},
        },
        "Entry": {
            "type": "object", "required": ["list", "key"], "additionalProperties": False,
            "properties": {
                "list": {"type": "string", **({"enum": [*rulebook.lists]} if rulebook and rulebook.lists else {})}, "key": {"type": ["string", "array"]},
                "valid_from": TIME, "expires": {"type": ["string", "integer"]}, "provenance": text, "remove": {"type": "boolean"},
            },
        },
        "Change": {
            "type": "object", "additionalProperties": False,
            "properties": {
                "files": {"type": "object", "additionalProperties": text, "description": "Relative path -> text."},
                "version": {"type": "string", "description": "One that was in force before."}, "rollback": {"type": "boolean"}, "wait": {"type": "boolean"},
            },
        },
        "Erase": {"type": "object", "required": ["entity"], "properties": {"entity": {"type": "string", "description": "KIND:ID"}}},
        "Taken": {"type": "object", "properties": {name: {"type": ["integer", "array"]} for name in ("taken", "repeated", "unknown", "refused")}},
        "Count": {"type": "object", "properties": {"taken": {"type": "integer"}}},
        "Object": {"type": "object"},
        "Error": {"type": "object", "required": ["error"], "properties": {"error": text}},
    }  # fmt: skip

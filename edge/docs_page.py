"""`GET /docs`: the interface as a page without scripts, drawn from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from edge.page_routes import TYPES, PageFile

Schema = Mapping[str, Any]
"""A part of an OpenAPI document."""
_NO_SCHEMA: Final[Schema] = {}
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/page/page.css">
<link rel="icon" href="/page/icon.svg">
</head>
<body class="docs">
<header><h1>{title} <span class="soft">{version}</span></h1></header>
<main>
<section>
<p>{description}</p>
<p>For programs: <a href="/openapi.json">/openapi.json</a>. For people: <a href="/">the live page</a>.</p>
</section>
{sections}
</main>
</body>
</html>
"""


def docs_routes(app: FastAPI) -> APIRouter:
    """The page of an application's own interface."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def get_docs(request: Request) -> Response:
        """The page."""
        return PageFile(_page(app.openapi()).encode(), TYPES[".html"]).answer(request)

    return router


def _page(document: Schema) -> str:
    info = {name: escape(str(document["info"].get(name, ""))) for name in ("title", "version", "description")}
    calls = [
        _call(f"{method.upper()} {path}", call)
        for path, methods in document["paths"].items()
        for method, call in methods.items()
    ]
    schemas = document.get("components", _NO_SCHEMA).get("schemas", _NO_SCHEMA)
    objects = [_object(name, schema) for name, schema in schemas.items()]
    return _PAGE.format(sections="\n".join([*calls, *objects]), **info)


def _call(title: str, call: Schema) -> str:
    """One method of one path."""
    parts = [f"<section><h2><code>{escape(title)}</code></h2>", _paragraphs(call.get("description", ""))]
    if parameters := call.get("parameters"):
        rows = (
            (escape(one["name"]), one["in"], _kind(one["schema"]), escape(one.get("description", "")))
            for one in parameters
        )
        parts.append(_table(("parameter", "in", "type", ""), rows))
    if body := call.get("requestBody"):
        parts.append(f"<p>Body: {', '.join(_content(body))}</p>")
    answers = (
        (status, ", ".join(_content(answer)), escape(answer.get("description", "")))
        for status, answer in call["responses"].items()
    )
    parts.append(_table(("status", "answer", ""), answers))
    return "\n".join([*parts, "</section>"])


def _object(name: str, schema: Schema) -> str:
    """What an answer or a body is made of."""
    fields = (
        (escape(field), _kind(one), escape(one.get("description", "")))
        for field, one in schema.get("properties", _NO_SCHEMA).items()
    )
    title = f'<section id="{escape(name)}"><h2>{escape(name)}</h2>'
    table = _table(("field", "type", ""), fields)
    return "\n".join([title, _paragraphs(schema.get("description", "")), table, "</section>"])


def _content(holder: Schema) -> list[str]:
    """The media types of a body or an answer, each with its schema."""
    return [
        f"<code>{escape(kind)}</code> {_kind(one.get('schema', _NO_SCHEMA))}".strip()
        for kind, one in holder.get("content", _NO_SCHEMA).items()
    ]


def _kind(schema: Schema) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(escape(repr(value)) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', _NO_SCHEMA))}"
    return escape(str(schema.get("type", "")))


def _paragraphs(text: str) -> str:
    return "\n".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip())


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells are HTML already."""
    lines = ["".join(f"<th>{head}</th>" for head in heads)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"

#!/usr/bin/env python3
"""Writes the client's types and methods from the fleet server's OpenAPI document.

    python tools/generate.py            # after the API changed
    python tools/generate.py --check    # exits with 1 if what is committed is not what would be written

`datamodel-code-generator` writes the types (`types.py`, one `TypedDict` a schema); the methods (`api.py`, one an
operation) are written here. What the client does by hand is in `connection.py` (sending) and `client.py` (waiting,
pages, events).
"""

from __future__ import annotations

import json
import keyword
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from datamodel_code_generator import InputFileType, LiteralType, PythonVersion, generate
from datamodel_code_generator.enums import DataModelType
from datamodel_code_generator.format import Formatter

HERE = Path(__file__).resolve().parent.parent
DOCUMENT = HERE.parent.parent / "fleet" / "docs" / "openapi.json"
OUT = HERE / "src" / "muster"

#: Answers without an end; `Muster.events` follows them.
ENDLESS = {"follow_events"}
#: The one header that an operation takes: the revision that was seen.
REVISION = "if-match"
#: Python's names of what OpenAPI calls differently.
SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}

Schema = dict[str, Any]


def named_items(document: Schema) -> Schema:
    """A list's items by the name of their schema: the document repeats each of them within its list."""
    schemas: dict[str, Schema] = document["components"]["schemas"]
    for name, schema in schemas.items():
        item = name.removeprefix("List_")
        if item != name and item in schemas:
            schema["properties"]["items"]["items"] = {"$ref": f"#/components/schemas/{item}"}
    return document


def types(document: Schema) -> str:
    """One `TypedDict` for each schema."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "types.py"
        _ = generate(
            json.dumps(document),
            input_filename="openapi.json",
            input_file_type=InputFileType.OpenAPI,
            output=out,
            output_model_type=DataModelType.TypingTypedDict,
            target_python_version=PythonVersion.PY_311,
            enum_field_as_literal=LiteralType.All,
            collapse_root_models=True,
            use_schema_description=True,
            use_field_description=True,
            use_standard_collections=True,
            use_union_operator=True,
            use_closed_typed_dict=False,
            use_double_quotes=True,
            disable_timestamp=True,
            formatters=[Formatter.BUILTIN],
            custom_file_header='"""The API\'s types. Written by tools/generate.py; do not edit."""',
        )
        return out.read_text()


def class_name(schema: str) -> str:
    """What `datamodel-code-generator` calls a schema."""
    return "".join(part[:1].upper() + part[1:] for part in schema.split("_"))


def python_name(name: str) -> str:
    """`if-match` as an argument's name."""
    name = re.sub(r"\W", "_", name)
    return f"{name}_" if keyword.iskeyword(name) else name


def type_of(schema: Schema) -> str:
    """A schema as an annotation."""
    if "$ref" in schema:
        return f"types.{class_name(schema['$ref'].rsplit('/', 1)[1])}"
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next(part for part in kind if part != "null")
    if kind == "array":
        return f"list[{type_of(schema['items'])}]"
    return SCALARS.get(str(kind), "Any")


def answer_of(operation: Schema) -> tuple[str, str]:
    """The annotation of what comes back, and how it is read: `json`, `bytes` or `nothing`."""
    good = [response for status, response in sorted(operation["responses"].items()) if status.startswith("2")]
    content = [response["content"] for response in good if response.get("content")]
    json_media = [media["application/json"] for media in content if "application/json" in media]
    documents = [type_of(media.get("schema", {})) for media in json_media]
    if documents:
        nothing = [] if len(content) == len(good) else ["None"]
        return " | ".join([*dict.fromkeys(documents), *nothing]), "json"
    return ("bytes", "bytes") if content else ("None", "nothing")


def method(verb: str, path: str, operation: Schema) -> str:
    """One operation as a method."""
    parameters = operation.get("parameters", [])
    inside = [python_name(p["name"]) for p in parameters if p["in"] == "path"]
    arguments = ["self", *(f"{name}: str" for name in inside)]
    call = [f'"{verb.upper()}"', path_expression(path)]

    body = operation.get("requestBody")
    if body is not None:
        ((media, content),) = body["content"].items()
        is_json = media == "application/json"
        arguments.append(f"body: {type_of(content.get('schema', {})) if is_json else 'bytes'}")
        call.append("json=body" if is_json else "content=body")

    outside = [p for p in parameters if p["in"] in ("query", "header")]
    if outside:
        arguments.append("*")
    query = [f"{p['name']!r}: {python_name(p['name'])}" for p in outside if p["in"] == "query"]
    if query:
        call.append(f"query={{{', '.join(query)}}}")
    for p in sorted(outside, key=lambda p: not p.get("required", False)):
        if p["in"] == "header" and p["name"] != REVISION:
            raise SystemExit(f"{operation['operationId']}: no rule for the header {p['name']}")
        annotation = "int" if p["name"] == REVISION else type_of(p.get("schema", {}))
        optional = "" if p.get("required", False) else " | None = None"
        arguments.append(f"{python_name(p['name'])}: {annotation}{optional}")
        if p["name"] == REVISION:
            call.append(f"revision={python_name(REVISION)}")

    answer, read = answer_of(operation)
    call.append(f'read="{read}"')
    lines = [
        f"    def {operation['operationId']}({', '.join(arguments)}) -> {answer}:",
        f'        """{docstring(operation, outside)}"""',
        f"        {'return ' if answer != 'None' else ''}self._send({', '.join(call)})",
    ]
    return "\n".join(lines)


def path_expression(path: str) -> str:
    """A path whose holes are filled with quoted arguments."""
    if "{" not in path:
        return f'"{path}"'
    return 'f"' + re.sub(r"\{([^}]+)\}", lambda hole: f"{{_quote({python_name(hole[1])})}}", path) + '"'


def docstring(operation: Schema, parameters: list[Schema]) -> str:
    """What the document says of it."""
    said = [str(operation.get("summary", operation["operationId"])).strip().rstrip(".") + "."]
    if operation.get("description"):
        said.append("\n\n" + operation["description"].strip())
    told = [(python_name(p["name"]), p["description"]) for p in parameters if p.get("description")]
    if told:
        said.append("\n\n" + "\n".join(f":param {name}: {text}" for name, text in told))
    text = "".join(said).replace("\n", "\n        ").replace('"""', "'''").replace("\\", "\\\\")
    return text + ("\n        " if "\n" in text else "")


HEADER = '''"""One method for each operation of the API. Written by tools/generate.py; do not edit."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from . import types
from .connection import Connection


def _quote(part: str) -> str:
    return quote(part, safe="")


class Operations(Connection):
    """The API as it is described."""
'''


def methods(document: Schema) -> str:
    """The module with all operations."""
    found = [
        method(verb, path, operation)
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
        if isinstance(operation, dict) and operation.get("operationId", "") not in ENDLESS
    ]
    return formatted(HEADER + "\n" + "\n\n".join(found) + "\n")


def formatted(code: str) -> str:
    """As `ruff format` writes it."""
    ruff = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", str(OUT / "api.py"), "-"]
    return subprocess.run(ruff, input=code, capture_output=True, text=True, check=True, cwd=HERE).stdout


def main() -> int:
    """Writes both files, or says which of them is not current."""
    document = named_items(json.loads(DOCUMENT.read_text()))
    written = {"types.py": types(document), "api.py": methods(document)}
    if "--check" not in sys.argv:
        for name, text in written.items():
            (OUT / name).write_text(text)
        return 0
    stale = [name for name, text in written.items() if (OUT / name).read_text() != text]
    for name in stale:
        print(f"{name} does not follow {DOCUMENT.name}: run `make clients`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

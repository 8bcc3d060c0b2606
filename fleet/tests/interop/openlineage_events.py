"""Reads events as OpenLineage's own Python client has them: its generated classes, its checks.

openlineage_events.py < NDJSON of run events

Prints one JSON line an event: the list of its faults. A facet is read by the class whose schema it names; facets that
OpenLineage does not know, such as ours, are read as plain ones.
"""

import importlib
import json
import pkgutil
import sys
import types
import typing

import attr
from openlineage.client import generated
from openlineage.client.generated import base

for module in pkgutil.iter_modules(generated.__path__):
    importlib.import_module(f"{generated.__name__}.{module.name}")


def every(of: type) -> typing.Iterator[type]:
    """A class and all that derive from it."""
    yield of
    for derived in of.__subclasses__():
        yield from every(derived)


FACETS = {facet._get_schema(): facet for facet in every(base.BaseFacet)}


def parts(hint: object) -> list[object]:
    """The alternatives of a type."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return list(typing.get_args(hint)) if is_union else [hint]


def read(hint: object, value: object) -> object:
    """The value as this type."""
    for part in parts(hint):
        inner = typing.get_args(part)
        if isinstance(part, type) and issubclass(part, base.EventType):
            return part(value)
        if isinstance(part, type) and attr.has(part) and isinstance(value, dict):
            return build(part, value)
        if isinstance(value, dict) and typing.get_origin(part) is dict:
            return {key: read(inner[1], item) for key, item in value.items()}
        if isinstance(value, list) and typing.get_origin(part) is list:
            return [read(inner[0], item) for item in value]
    return value


def build(of: type, fields: dict[str, object]) -> object:
    """An object of this class, or of the class that a facet's schema names."""
    if issubclass(of, base.BaseFacet):
        of = FACETS.get(str(fields["_schemaURL"]), of)
    known = {field.name: field for field in attr.fields(of)}
    hints = typing.get_type_hints(of)
    # The client writes its schema's address itself, so its classes do not take it.
    taken = {name: value for name, value in fields.items() if name in known and known[name].init}
    given = {known[name].alias: read(hints.get(name, object), value) for name, value in taken.items()}
    more = {name: value for name, value in fields.items() if name not in known}
    if more and of.__name__ not in ("RunFacet", "JobFacet", "DatasetFacet"):
        raise TypeError(f"{of.__name__} has no {', '.join(sorted(more))}")
    return of(**given)


def main() -> None:
    """Reads, checks, prints."""
    for line in sys.stdin:
        try:
            build(base.RunEvent, json.loads(line))
            faults = []
        except (KeyError, TypeError, ValueError) as error:
            faults = [repr(error)]
        print(json.dumps(faults))


if __name__ == "__main__":
    main()

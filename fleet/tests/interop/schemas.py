"""Holds documents against JSON Schemas with `jsonschema`, offline.

schemas.py FOLDER… < NDJSON of {"schema": "address#pointer", "document": …}

Prints one JSON line a document: the list of its faults.
"""

import datetime
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

formats = FormatChecker()


@formats.checks("date-time", raises=ValueError)
def is_time(value: object) -> bool:
    """A time with a zone."""
    return not isinstance(value, str) or datetime.datetime.fromisoformat(value).tzinfo is not None


@formats.checks("uri")
def is_address(value: object) -> bool:
    """An address with a scheme and a place."""
    return not isinstance(value, str) or all(urlsplit(value)[:2])


def main() -> None:
    """Reads, checks, prints."""
    registry = Registry()
    for folder in sys.argv[1:]:
        for path in sorted(Path(folder).glob("*.json")):
            resource = Resource.from_contents(json.loads(path.read_text()))
            registry = resource @ registry
    for line in sys.stdin:
        asked = json.loads(line)
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": asked["schema"]}
        validator = Draft202012Validator(schema, registry=registry, format_checker=formats)
        faults = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(asked["document"])]
        print(json.dumps(faults))


if __name__ == "__main__":
    main()

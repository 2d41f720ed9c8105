#!/usr/bin/env python3
"""Compares the table of fields that the Firecracker client uses with Firecracker's API description of one version.

Usage: scripts/compare_firecracker_api.py FIRECRACKER.yaml...

The description is `src/firecracker/swagger/firecracker.yaml` of a release of Firecracker. Versions between 1.12 and 1.16 are compared by the fields
that are the same in both."""

import pathlib
import sys

try:
    import yaml
except ImportError:
    sys.exit("PyYAML is missing: install python3-yaml")

TABLE = pathlib.Path(__file__).parent.parent / "crates/firecracker/tests/contract/fields.txt"
COLUMNS = {"1.12": 0, "1.16": 1}


def rows():
    for line in TABLE.read_text().splitlines():
        if not line.startswith("#"):
            method, path, direction, definition, field, old, new, *kind = line.split()
            yield method.lower(), path, direction, definition, field, (old, new), " ".join(kind)


def name_of(reference):
    return (reference or "").rpartition("/")[2]


def body_of(operation, direction):
    """The definition of a request's body, or of the answer with status 200 or of errors."""
    if direction == ">":
        bodies = [parameter for parameter in operation.get("parameters", []) if parameter["in"] == "body"]
    else:
        bodies = list(operation["responses"].values())
    return {name_of((body.get("schema") or {}).get("$ref")) for body in bodies}


def differences_of_value(kind, value):
    word, _, rest = kind.partition(" ")
    if word == "enum":
        return set(rest.split("|")) - {str(one) for one in value.get("enum", [])}
    if word == "object":
        return {rest} - {name_of(value.get("$ref"))}
    return {word} - {value.get("type")}


def compare(description):
    minor = ".".join(str(description["info"]["version"]).split(".")[:2])
    used, roots = {}, set()
    for method, path, direction, definition, field, presence, kind in rows():
        if minor not in COLUMNS and presence[0] != presence[1]:
            continue
        expected = presence[COLUMNS.get(minor, 0)]
        operation = description["paths"].get(path, {}).get(method)
        is_root = (method, path, direction) not in roots
        roots.add((method, path, direction))
        where = f"{method.upper()} {path}: {definition}.{field}"
        value = description["definitions"].get(definition, {}).get("properties", {}).get(field)
        if expected == "-":
            if operation and value:
                yield f"{where} exists"
            continue
        if not operation:
            yield f"{where}: the operation is missing"
            continue
        if is_root and definition not in body_of(operation, direction):
            yield f"{where}: the body is {body_of(operation, direction)}"
        if direction == ">":
            used.setdefault((where.rpartition(".")[0], definition), set()).add(field)
        if field == "-":
            continue
        if not value:
            yield f"{where} is missing"
            continue
        required = field in description["definitions"][definition].get("required", [])
        if required != (expected == "required"):
            yield f"{where} is {'required' if required else 'optional'}"
        for difference in differences_of_value(kind, value):
            yield f"{where} is not {difference!r}: {value}"
    for (where, definition), fields in used.items():
        for field in set(description["definitions"][definition].get("required", [])) - fields:
            yield f"{where}.{field} is required and is not sent"


def main(paths):
    if not paths:
        sys.exit(__doc__)
    failed = False
    for path in paths:
        with open(path, encoding="utf-8") as file:
            description = yaml.safe_load(file)
        found = list(compare(description))
        failed = failed or bool(found)
        print(f"{description['info']['version']}: {len(found)} differences")
        for difference in found:
            print(f"  {difference}")
    sys.exit(failed)


main(sys.argv[1:])

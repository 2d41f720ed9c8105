"""Validates the examples of the schemas of an OpenAPI document (a file), and prints their number."""

import json
import sys

import jsonschema


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        components = json.load(file)["components"]
    count = 0
    for name, schema in components["schemas"].items():
        whole = {"$ref": f"#/components/schemas/{name}", "components": components}
        validator = jsonschema.Draft202012Validator(whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        for example in schema.get("examples", []):
            errors = [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(example)]
            if errors:
                raise SystemExit("\n".join(errors))
            count += 1
    print(count)


main()

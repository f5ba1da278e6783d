"""`components`, `models`, `schema`: what there is, told from the code."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intarsia.cli.output import Json

if TYPE_CHECKING:
    from pydantic import BaseModel


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(components)
    app.command()(models)
    app.command()(schema)


def components(
    name: Annotated[str | None, typer.Argument(help="Component to describe. Default: a list of all.")] = None,
    json: Json = False,
) -> None:
    """List the components that blocks are made of, or describe one with its options."""
    from intarsia.nn import catalogue

    if name is not None:
        entry = catalogue.resolve(name)
        facts = {
            "name": entry.name,
            "aliases": list(entry.aliases),
            "message": entry.field,
            "module": entry.cls.__module__,
            "description": inspect.getdoc(entry.cls) or "",
            "options": _options(catalogue.config_of(entry)),
        }
        field = entry.field or "st_params"
        _describe(facts, json, f"layer: {{class_name: {entry.name}, {field}: {{...}}}}")
        return
    rows = [
        {"name": e.name, "message": e.field or "st_params", "summary": _summary(e.cls)}
        for e in catalogue.COMPONENTS.values()
    ]
    _list(rows, ["name", "message", "summary"], json)


def models(
    name: Annotated[str | None, typer.Argument(help="Model to describe. Default: a list of all.")] = None,
    yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the configuration that is shipped with the model.")
    ] = False,
    json: Json = False,
) -> None:
    """List the models, or describe one with its options."""
    if yaml and (name is None or json):
        raise typer.BadParameter("--yaml prints one model's configuration: name the model, and leave --json out.")
    from intarsia.models import catalogue

    if name is not None:
        model = catalogue.resolve(name)
        shipped = catalogue.shipped_yaml(name)
        if yaml:
            _print_yaml(name, shipped)
            return
        config: type[BaseModel] | None = getattr(model, "Config", None)
        module = catalogue.names()[name]
        facts = {
            "name": name,
            "message": module if config is not None else "backbone",
            "shipped": shipped is not None,
            "module": model.__module__,
            "description": inspect.getdoc(model) or "",
            "options": _options(config) if config is not None else [],
        }
        example = f"{{{module}: {{...}}}}" if config is not None else "{backbone: {...}}"
        _describe(facts, json, f"model_config: {{model_class: {name}, feature_groups: [...]}} with {example}")
        return
    rows = [
        {
            "name": found,
            "message": module if getattr(catalogue.resolve(found), "Config", None) else "backbone",
            "shipped": "yes" if catalogue.shipped_yaml(found) else "",
            "summary": _summary(catalogue.resolve(found)),
        }
        for found, module in sorted(catalogue.names().items())
    ]
    _list(rows, ["name", "message", "shipped", "summary"], json)


def schema(
    json: Annotated[bool, typer.Option("--json", help="Accepted; the schema is JSON anyway.")] = False,
) -> None:
    """Print the JSON schema of pipeline files, with which editors complete and check YAML.

    In VS Code: intarsia schema > intarsia.schema.json, and as the first line of a pipeline
    `# yaml-language-server: $schema=intarsia.schema.json`.
    """
    from intarsia.cli.output import print_json
    from intarsia.config.jsonschema import json_schema
    from intarsia.recommender.pipeline import extensions

    print_json(json_schema(extensions()))


def _options(config: type[BaseModel]) -> list[dict[str, Any]]:
    from intarsia.core.params import describe

    return [
        {"name": name, "type": kind, "default": default, "meaning": " ".join(meaning.split())}
        for name, kind, default, meaning in describe(config)
    ]


def _summary(cls: type[Any]) -> str:
    return (inspect.getdoc(cls) or "").split("\n")[0]


def _list(rows: list[dict[str, Any]], columns: list[str], json: bool) -> None:
    from intarsia.cli.output import print_json, table

    if json:
        print_json(rows)
    else:
        table("", columns, [[row[column] for column in columns] for row in rows])


def _describe(facts: dict[str, Any], json: bool, usage: str) -> None:
    from intarsia.cli.output import print_json, say, table

    if json:
        print_json(facts)
        return
    aliases = f" (also {', '.join(facts['aliases'])})" if facts.get("aliases") else ""
    say(f"{facts['name']}{aliases}", style="bold")
    say()
    say(facts["description"])
    say()
    say(f"in a pipeline file: {usage}")
    if facts["options"]:
        say()
        columns = ["name", "type", "default", "meaning"]
        table("options", columns, [[option[c] for c in columns] for option in facts["options"]])


def _print_yaml(name: str, shipped: Any) -> None:
    from intarsia.core.errors import ConfigError

    if shipped is None:
        raise ConfigError(f"`{name}` ships no configuration: it is made of blocks that a pipeline file lists")
    typer.echo(shipped.read_text(encoding="utf-8"), nl=False)

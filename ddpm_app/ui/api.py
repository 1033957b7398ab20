"""The reference part of docs/api.md, made from the served API: `python -m ddpm_app.ui.api` writes it anew."""

__all__ = ["MARK", "reference"]

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARK = "<!-- from here on written by `python -m ddpm_app.ui.api` -->\n"
DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"


def reference(info: Mapping[str, Any]) -> str:
    """Every public endpoint of `Blocks.get_api_info()`: parameters, defaults and what comes back."""
    return "".join(
        _endpoint(name, endpoint) for name, endpoint in sorted(info["named_endpoints"].items())
    ).lstrip()


def _endpoint(name: str, endpoint: Mapping[str, Any]) -> str:
    rows = [
        f"| `{each['parameter_name']}` | {_shown(each['label'])} | {_kind(each)} | {_default(each)} |"
        for each in endpoint["parameters"]
    ]
    returns = ", ".join(map(_returned, endpoint["returns"]))
    head = ["| parameter | on the page | type | default |", "|---|---|---|---|"]
    return "\n".join(
        [f"\n### {name}\n", endpoint["description"], "", *head, *rows, f"\nReturns {returns}.\n"]
    )


def _returned(value: Mapping[str, Any]) -> str:
    """A value by its label; Gradio numbers those without one, anew in every version of the page."""
    unnamed = re.fullmatch(r"value_\d+", value["label"])
    return f"a {value['component']}" if unnamed else f"{value['label']} ({value['component']})"


def _kind(parameter: Mapping[str, Any]) -> str:
    if parameter["component"] == "Image":
        return "a picture's file"
    schema = parameter["type"]
    choices = schema.get("enum") or schema.get("items", {}).get("enum") or []
    if choices and parameter["parameter_name"] != "model":
        several = "a list of " if schema.get("type") == "array" else ""
        return several + " or ".join(f"`{each}`" for each in choices)
    return f"`{parameter['python_type']['type'].split(' |')[0]}`" if not choices else "`str`"


def _default(parameter: Mapping[str, Any]) -> str:
    default = parameter["parameter_default"]
    return "an example" if isinstance(default, dict) else f"`{default!r}`"


def _shown(label: str) -> str:
    """The label in a cell; that of a hidden widget is a number of Gradio's, which changes with the page."""
    return "hidden" if re.fullmatch(r"parameter_\d+", label) else label.replace("|", "\\|")


def main() -> None:
    """Writes what follows MARK in docs/api.md."""
    from ddpm_app.ui.app import build_app

    written = DOCUMENT.read_text(encoding="utf-8").split(MARK)[0]
    DOCUMENT.write_text(written + MARK + "\n" + reference(build_app().get_api_info()), encoding="utf-8")


if __name__ == "__main__":
    main()

"""template.yaml as data, so that the sandbox and the tests run and check what is deployed."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = Path(__file__).resolve().parents[2] / "template.yaml"
NO_VALUE = object()
"""What `AWS::NoValue` resolves to: the property that has it is left out."""


class _Constructor(SafeConstructor):
    """Reads the short forms of CloudFormation's functions (`!Ref x`) into the long ones ({"Ref": "x"})."""

    def short_form(self, name: str, node: Node) -> dict[str, Any]:
        value: Any
        match node:
            case ScalarNode():
                value = self.construct_scalar(node)
            case SequenceNode():
                value = self.construct_sequence(node, deep=True)
            case MappingNode():
                value = self.construct_mapping(node, deep=True)
        if name == "GetAtt" and isinstance(value, str):
            value = value.split(".", maxsplit=1)
        return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Constructor.add_multi_constructor("!", _Constructor.short_form)


@cache
def _load(path: Path) -> dict[str, Any]:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    data: dict[str, Any] = yaml.load(path)
    return data


class Template:
    """A CloudFormation template.

    Logical names stand in its order. `references` gives what only a deployment knows: the value of
    `!Ref X` under "X", of `!GetAtt X.Arn` under "X.Arn", and the pseudo parameters under their own names.
    """

    def __init__(self, path: Path = PATH) -> None:
        self.data = _load(path)
        """To be read only: all templates of one file share it."""

    def resource(self, name: str) -> dict[str, Any]:
        """One resource, whole. Raises KeyError if there is none of that name."""
        resource: dict[str, Any] = self.data["Resources"][name]
        return resource

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of every resource of a type, for example "AWS::SQS::Queue", by logical name."""
        resources = self.data["Resources"].items()
        return {name: each.get("Properties", {}) for name, each in resources if each["Type"] == kind}

    def functions(self) -> dict[str, dict[str, Any]]:
        """The properties of every function, with what `Globals` adds to them."""
        shared = self.data["Globals"]["Function"]
        functions = self.resources("AWS::Serverless::Function")
        return {name: _merged(shared, own) for name, own in functions.items()}

    def parameters(self, given: Mapping[str, str | int]) -> dict[str, str | int]:
        """The given parameters and the defaults of the rest. Raises KeyError for one that lacks both."""
        declared = self.data["Parameters"]
        if unknown := given.keys() - declared.keys():
            raise KeyError(f"template.yaml has no such parameters: {', '.join(sorted(unknown))}")
        return {name: given[name] if name in given else each["Default"] for name, each in declared.items()}

    def resolve(self, value: Any, parameters: Mapping[str, str | int], references: Mapping[str, str | int]) -> Any:
        """What a value of the template is in a deployment. Raises KeyError for a name that nobody gave."""
        known = {"AWS::NoValue": NO_VALUE, **references, **self.parameters(parameters)}
        return self._resolve(value, known)

    def is_made(self, name: str, parameters: Mapping[str, str | int], references: Mapping[str, str | int]) -> bool:
        """Whether a deployment has this resource at all."""
        condition = self.resource(name).get("Condition")
        return condition is None or bool(self.resolve({"Fn::If": [condition, 1, 0]}, parameters, references))

    def _resolve(self, value: Any, known: Mapping[str, Any]) -> Any:
        match value:
            case {"Ref": str(name)}:
                return known[name]
            case {"Fn::GetAtt": [name, attribute]}:
                return known[f"{name}.{attribute}"]
            case {"Fn::Sub": str(text)}:
                return _filled(text, known)
            case {"Fn::Sub": [str(text), own]}:
                return _filled(text, {**known, **self._resolve(own, known)})
            case {"Fn::If": [condition, yes, no]}:
                return self._resolve(yes if self._holds(condition, known) else no, known)
            case {"Fn::FindInMap": [name, key, second]}:
                return self.data["Mappings"][name][str(self._resolve(key, known))][second]
            case dict() if any(name.startswith("Fn::") for name in value):
                raise ValueError(f"template.yaml uses what this reader does not know: {value}")
            case dict():
                resolved = {name: self._resolve(each, known) for name, each in value.items()}
                return {name: each for name, each in resolved.items() if each is not NO_VALUE}
            case list():
                return [each for each in (self._resolve(one, known) for one in value) if each is not NO_VALUE]
            case _:
                return value

    def _holds(self, condition: str, known: Mapping[str, Any]) -> bool:
        return self._is_true(self.data["Conditions"][condition], known)

    def _is_true(self, condition: Any, known: Mapping[str, Any]) -> bool:
        match condition:
            case {"Fn::Equals": [left, right]}:
                return str(self._resolve(left, known)) == str(self._resolve(right, known))
            case {"Fn::Not": [inner]}:
                return not self._is_true(inner, known)
            case _:
                raise ValueError(f"template.yaml uses what this reader does not know: {condition}")


def _filled(text: str, known: Mapping[str, Any]) -> str:
    """A text with what is known in the place of its names, `${Name}`."""
    return re.sub(r"\$\{([\w:.]+)\}", lambda match: str(known[match[1]]), text)


def _merged(shared: Any, own: Any) -> Any:
    """SAM's rule for Globals: mappings merge, lists add up, a function's own value wins."""
    match shared, own:
        case dict(), dict():
            return shared | {name: _merged(shared.get(name), value) for name, value in own.items()}
        case list(), list():
            return shared + own
        case _:
            return own

"""The console as a shell runs it, and the stacks that CloudFormation shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flask import Flask, Response, request
from typer.testing import CliRunner

from fairturn_console.cli import app

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typer.testing import Result

XML: Final = (
    '<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">{}</DescribeStacksResponse>'
)


def run(*arguments: str, typed: str | None = None) -> Result:
    """Type a command of `fairturn`, and what it asks for."""
    return CliRunner().invoke(app, arguments, typed)


def cloudformation(stacks: Mapping[str, Mapping[str, str]]) -> Flask:
    """What CloudFormation answers about stacks with these outputs, and about any other."""
    web = Flask("cloudformation")

    @web.post("/")
    def describe() -> Response:
        stack = request.form["StackName"]
        if stack not in stacks:
            error = f"<Code>ValidationError</Code><Message>Stack with id {stack} does not exist</Message>"
            return Response(f"<ErrorResponse><Error>{error}</Error></ErrorResponse>", 400, content_type="text/xml")
        members = "".join(
            f"<member><OutputKey>{name}</OutputKey><OutputValue>{value}</OutputValue></member>"
            for name, value in stacks[stack].items()
        )
        member = f"<member><StackName>{stack}</StackName><Outputs>{members}</Outputs></member>"
        answer = XML.format(f"<DescribeStacksResult><Stacks>{member}</Stacks></DescribeStacksResult>")
        return Response(answer, content_type="text/xml")

    return web

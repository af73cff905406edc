"""A deployed stack: where its table is, and the token with which it calls HubSpot."""

from __future__ import annotations

import boto3
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from botocore.exceptions import BotoCoreError, ClientError

from fairturn.credentials import Credentials
from fairturn.crm import HubSpot
from fairturn.errors import FairturnError
from fairturn.store import Store


class StackUnknown(FairturnError):
    """There is no such deployment to be seen from here; the message says what to check."""


class Deployment:
    """The stack of this name, in the account and region that the shell is set to. Raises StackUnknown."""

    def __init__(self, stack: str, hubspot_url: str) -> None:
        try:
            (found,) = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        except (ClientError, BotoCoreError) as error:
            raise StackUnknown(
                f"no stack {stack!r} to be seen ({type(error).__name__}): "
                "check --stack, the region and the credentials of this shell"
            ) from error
        self._hubspot_url = hubspot_url
        self._outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}

    def store(self) -> Store:
        """Its table."""
        return Store(boto3.client("dynamodb"), self._outputs["TableName"])

    def crm(self) -> HubSpot:
        """HubSpot, with the stack's own token."""
        secrets = SecretsProvider(boto3_client=boto3.client("secretsmanager"))
        credentials = Credentials(secrets, self._outputs["WebhookSecretArn"], self._outputs["HubSpotTokenArn"])
        return HubSpot(credentials.hubspot_token, self._hubspot_url)

"""What talks to others: DynamoDB, SQS, Secrets Manager and HubSpot."""

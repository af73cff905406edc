"""Pure rules: no AWS, no HubSpot, no clock, no environment."""

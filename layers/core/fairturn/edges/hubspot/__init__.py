"""HubSpot: its client, and what its answers mean."""

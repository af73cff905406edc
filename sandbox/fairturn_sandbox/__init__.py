"""Fairturn on one machine: AWS in one process, a HubSpot simulator, the demo. Never deployed."""

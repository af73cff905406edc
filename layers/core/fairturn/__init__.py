"""Fairturn gives every new HubSpot lead to the right sales rep, fairly, and can prove it."""

"""HubSpot's side of an installation: the app's files, and the contact properties."""

"""What the services are made of: each takes its collaborators as arguments."""

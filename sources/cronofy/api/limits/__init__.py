"""Limits: what every request has to pass before it is sent."""

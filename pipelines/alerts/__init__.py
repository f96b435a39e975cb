"""Alerts: what changed, sent to a channel."""

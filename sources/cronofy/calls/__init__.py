"""Calls: one read of one endpoint, many of them at once, within limits and with manners."""

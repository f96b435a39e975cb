"""The API: one read of one endpoint for one token, many of them at once, within limits."""

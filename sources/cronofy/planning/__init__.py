"""Planning: which tokens are due, and in what order. Pure."""

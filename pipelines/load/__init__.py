"""The scheduled load: plan, poll, load, and what is kept in order around it."""

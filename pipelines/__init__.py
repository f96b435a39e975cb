"""The scheduled load of Cronofy connection health: plan, poll, load, views, and the commands around it."""

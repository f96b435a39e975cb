"""Erasing one person from every table and every working file."""

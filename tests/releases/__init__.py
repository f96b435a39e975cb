"""Warehouses of released versions, each made by eight loads of the sandbox with the code of that release."""

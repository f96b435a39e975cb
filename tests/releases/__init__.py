"""Warehouses of released versions, made by loads of the sandbox with the code of that release."""

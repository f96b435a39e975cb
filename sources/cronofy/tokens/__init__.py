"""Tokens: the credentials to poll with, the stores they come from, and refreshed ones on their way back."""

from .base import Renewal, StoreError, TokenStore

__all__ = ["Renewal", "StoreError", "TokenStore"]

"""Whom tests trust: nobody, but where they install from a package index."""

import os

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def trust_nobody() -> None:
    """Whom the system trusts takes each load 20 ms to read, and no test calls anybody outside."""
    for variable in VARIABLES:
        os.environ.setdefault(variable, os.devnull)


def trusting() -> dict[str, str]:
    """The environment variables of a program that verifies the certificate of a package index."""
    trusts_nobody = {name for name in VARIABLES if os.environ.get(name) == os.devnull}
    return {name: value for name, value in os.environ.items() if name not in trusts_nobody}

"""The Makefile: what its targets run is there. Most of them are not run every day."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Makefile").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"(?<![\w./-])(?:\.ci|[a-z]+)/[\w./-]+(?![$\w./-])", TEXT)))
MODULES = sorted(set(re.findall(r"python -m ([\w.]+)", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_there(module: str) -> None:
    assert importlib.util.find_spec(module) is not None

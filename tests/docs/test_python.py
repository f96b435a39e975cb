"""The examples of docs/python.md, on the warehouse of the demo."""

import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.certificates import trusting
from tests.docs.questions import DOCS

PAGE = (DOCS / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
# these open whatever warehouse is configured
ANYWHERE = [example for example in EXAMPLES if "import dlt_cronofy" in example]
IBIS = [example for example in EXAMPLES if "import ibis" in example]
(RENAME,) = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
BI, LAKE, ATTACH = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
FILE, EARLIER = "connections.duckdb", "cronofy.duckdb"
# the first test plays the demo, which takes long on a busy machine
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def folder(demo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the demo's warehouse, where dlt has no working files."""
    shutil.copy(demo_file, tmp_path / FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    yield tmp_path
    duckdb.connect(FILE, read_only=True).close()  # nobody holds it for writing


def run_example(example: str) -> None:
    """Run it where the configured warehouse is; what it reads has rows."""
    found: dict[str, Any] = {}
    exec(example, found)
    for name in ("worklist", "outages", "companies", "profiles", "needs_relink"):
        assert len(found.pop(name, [()])) > 0


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each not in IBIS])
def test_an_example(example: str, folder: Path) -> None:
    run_example(example)


def test_all_examples_but_one_are_run_here() -> None:
    assert (len(EXAMPLES), len(IBIS), len(ANYWHERE)) == (5, 1, 2)


def test_a_query_of_a_bi_tool(folder: Path) -> None:
    with closing(duckdb.connect(FILE, read_only=True)) as connection:
        assert connection.execute(BI).fetchall()


@pytest.mark.long
def test_ibis(folder: Path) -> None:
    python = folder / "venv" / "bin" / "python"
    venv.create(python.parents[1])
    install = [str(Path(sys.executable).parent / "uv"), "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, "ibis-framework[duckdb]", "duckdb<2"], check=True, env=trusting())
    command = [str(python), "-c", f"{IBIS[0]}print(len(states))"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout > "0\\n") == (0, True), done.stderr


def test_a_file_of_an_earlier_release(folder: Path) -> None:
    (folder / FILE).rename(folder / EARLIER)
    (folder / f"{EARLIER}.wal").touch()
    with closing(duckdb.connect()) as connection:
        assert connection.execute(ATTACH).fetchall()[0][0] > 0
    subprocess.run(["bash", "-euc", RENAME], check=True)
    assert {path.name for path in folder.iterdir() if path.is_file()} == {FILE, f"{FILE}.wal"}

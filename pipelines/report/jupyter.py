"""The notebook, executed, for Jupyter.

    python -m dlt_cronofy.report.jupyter notebooks/connection_health.py connection_health.ipynb

marimo runs it. Charts come out as Vega-Lite, which GitHub and some versions of Jupyter do not draw, so each
gets a picture besides.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import vl_convert

_VEGA_LITE = "application/vnd.vegalite."
_SCALE = 2


def export_executed(notebook: Path, output: Path) -> None:
    """Run a marimo notebook and write it as a Jupyter notebook, all outputs included.

    Raises:
        subprocess.CalledProcessError: a cell failed; marimo has said which on stderr.
    """
    command = ["marimo", "export", "ipynb", "--include-outputs", "--sort", "top-down", "--force"]
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", *command, str(notebook), "--output", str(output)], check=True
    )
    document = json.loads(output.read_text(encoding="utf-8"))
    for cell in document["cells"]:
        for shown in cell.get("outputs", []):
            _add_picture(shown.get("data", {}))
    output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _add_picture(data: dict[str, Any]) -> None:
    for kind in [name for name in data if name.startswith(_VEGA_LITE)]:
        spec = data[kind]
        if not isinstance(spec, dict):
            spec = json.loads("".join(spec))
        picture = vl_convert.vegalite_to_png(spec, scale=_SCALE)
        data["image/png"] = base64.b64encode(picture).decode()
        data[kind] = spec


if __name__ == "__main__":
    export_executed(Path(sys.argv[1]), Path(sys.argv[2]))

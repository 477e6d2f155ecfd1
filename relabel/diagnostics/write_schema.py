"""Write ``diagnosis.schema.json``: ``python -m relabel.diagnostics.write_schema``."""

from __future__ import annotations

import json
from pathlib import Path

from relabel.diagnostics.checks import BUILT_IN
from relabel.diagnostics.diagnosis import schema

__all__ = ["PATH", "shipped_schema"]

PATH = Path(__file__).parent / "diagnosis.schema.json"


def shipped_schema() -> str:
    """Return the text of the file: the schema of the checks of this package."""
    return json.dumps(schema(BUILT_IN), indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(shipped_schema(), encoding="utf-8")

"""Record the JSON of some diagnoses: ``golden/diagnosis_*.json``.

Run ``python tests/data/make_golden_diagnosis.py`` only where a change of what `diagnose` says is
meant; ``tests/diagnostics/test_golden_diagnosis.py`` compares with these files. They were first
written by the version before checks were files of their own.
"""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"
sys.path.insert(0, str(Path(__file__).parent.parent))

from diagnosis_cases import CASES, diagnosis_of  # noqa: E402


def main() -> None:
    """Write one file for each case."""
    for name in CASES:
        found = diagnosis_of(name).to_dict()
        text = json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False)
        (FOLDER / f"diagnosis_{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

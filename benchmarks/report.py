"""Turns all results in `benchmarks/results` into tables: `python benchmarks/report.py` rewrites REPORT.md.

`python benchmarks/report.py --check` writes nothing and fails if REPORT.md is not what the results say.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from snow.compare import table, triangle

HERE = Path(__file__).parent
REPORT = HERE / "REPORT.md"
HEAD = "# Results\n\nWritten by `python benchmarks/report.py` from the files in `results/`; do not edit.\n"


def report() -> str:
    parts = [HEAD]
    for path in sorted((HERE / "results").glob("*.json")):
        results = json.loads(path.read_text("utf-8"))
        kind = triangle if "orders" in results else table
        note = f"{results['note']}\n\n" if "note" in results else ""
        parts.append(f"## {path.stem}\n\n{note}{kind.markdown(results)}")
    return "\n".join(parts)


if __name__ == "__main__":
    text = report()
    if "--check" not in sys.argv[1:]:
        REPORT.write_text(text, "utf-8")
    elif not REPORT.exists() or REPORT.read_text("utf-8") != text:
        sys.exit("benchmarks/REPORT.md is not what the results say: run python benchmarks/report.py")

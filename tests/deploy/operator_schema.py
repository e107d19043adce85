"""The Prometheus operator's own schemas, which an npm package has as code."""

import json
import os
from pathlib import Path

from findings import output_of


def expect_valid(document, found):
    script = Path(__file__).with_name("operator.mjs").read_text(encoding="utf-8")
    name = f"{document['kind']}/{document['metadata']['name']}"
    code, said = output_of(
        "node", "--input-type=module", "--eval", script, cwd=os.environ["NODE_FOLDER"], stdin=json.dumps(document)
    )
    if found.expect(code == 0, f"{name} is not valid: {said[-500:]}"):
        found.fact(f"{name} is valid by the Prometheus operator's schema")

"""Makes rayjob-schema.json.gz from a checkout of KubeRay: python tests/data/kuberay/fetch.py KUBERAY

KUBERAY is the folder of `git clone --branch v1.7.0 https://github.com/ray-project/kuberay`.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import yaml

KUBERAY, HERE = Path(sys.argv[1]), Path(__file__).parent


def closed(schema: Any) -> Any:
    """The schema without descriptions, in which an object that names its properties has no others: a typing error is one."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: closed(part) for key, part in schema.items() if not isinstance(part, str) or key != "description"
    }
    if isinstance(names := schema.get("properties"), dict):
        kept["properties"] = {name: closed(part) for name, part in names.items()}
        kept.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        kept.pop("type", None)
    return kept


definition = yaml.safe_load((KUBERAY / "ray-operator/config/crd/bases/ray.io_rayjobs.yaml").read_text())
[version] = [one for one in definition["spec"]["versions"] if one["name"] == "v1"]
schema = closed(version["schema"]["openAPIV3Schema"])
schema["properties"]["metadata"] = {"type": "object"}
content = json.dumps(schema, separators=(",", ":"), sort_keys=True).encode()
(HERE / "rayjob-schema.json.gz").write_bytes(gzip.compress(content, 9, mtime=0))
(HERE / "LICENSE").write_bytes((KUBERAY / "LICENSE").read_bytes())

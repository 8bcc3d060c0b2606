"""Reads Prometheus text from a file with Prometheus's own Python parser, and prints what it found as JSON."""

import json
import sys

from prometheus_client.parser import text_fd_to_metric_families

families = {}
with open(sys.argv[1], encoding="utf-8") as text:
    for family in text_fd_to_metric_families(text):
        # The parser makes two families of lines that do not stand together.
        assert family.name not in families, f"{family.name} comes twice"
        families[family.name] = {
            "type": family.type,
            "help": family.documentation,
            "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples],
        }
json.dump(families, sys.stdout)

#!/usr/bin/env bash
# The alerts as Prometheus reads them: the rules, what they fire for and what not, and every
# question of the dashboard.
#
#   tests/rigs/alerts/run.sh
#
# Needs promtool (Debian: prometheus) and python3; nothing is started. Without them the rig is
# skipped with exit code 77, and fails where CI=true.
set -euo pipefail
cd "$(dirname "$0")/../../.."
rig=alerts
. tests/rigs/needs.sh
needs promtool python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'echo "alerts rig: line $LINENO failed" >&2' ERR

promtool check config --syntax-only contrib/prometheus/prometheus.yml
promtool check rules --lint=all --lint-fatal contrib/prometheus/sealift.rules.yml
promtool test rules contrib/prometheus/sealift.tests.yml

# Each alert is among those that are seen to fire.
for alert in $(sed -n 's/^ *- alert: //p' contrib/prometheus/sealift.rules.yml); do
    grep -q "alertname=\\\\\?\"$alert\"" contrib/prometheus/sealift.tests.yml || { echo "alerts rig: $alert is not seen to fire" >&2; exit 1; }
done

# Grafana fills in its variables before it asks. As rules the questions are parsed by Prometheus
# itself.
python3 - contrib/grafana/sealift.json >"$work/questions.yml" <<'PYTHON'
import json, sys
panels = json.load(open(sys.argv[1]))["panels"]
questions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
assert len(questions) > 30, questions
print("groups:\n- name: dashboard\n  rules:")
for n, question in enumerate(questions):
    for variable, value in (("$__rate_interval", "5m"), ("$host", ".*"), ("$receiver", ".*")):
        question = question.replace(variable, value)
    assert "$" not in question, question
    print(f"  - record: question_{n}\n    expr: {json.dumps(question)}")
PYTHON
promtool check rules "$work/questions.yml"

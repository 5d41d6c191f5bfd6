"""Reads the unit's entries (journalctl -o json) and says what is not as docs/operations.md has it.

    journal.py delivered ID...      each has one entry that says so, and none twice; with all fields
    journal.py fatal ID...          the same of quarantined ones
"""

import collections
import json
import sys

verdict, expected = sys.argv[1], sys.argv[2:]
# The manager's own word about the unit is in the journal as well.
entries = [entry for line in sys.stdin if (entry := json.loads(line)).get("_SYSTEMD_UNIT") == "sealift.service"]
wrong = []

for entry in entries:
    # What came by stderr besides would be there twice.
    if entry["_TRANSPORT"] != "journal":
        wrong.append(f"by {entry['_TRANSPORT']}: {entry['MESSAGE']}")
    repeated = [name for name, value in entry.items() if isinstance(value, list) and name.isupper()]
    if repeated:
        wrong.append(f"{', '.join(repeated)} more than once in one entry: {entry['MESSAGE']}")

told = collections.defaultdict(list)
for entry in entries:
    if entry.get("VERDICT") == verdict:
        told[entry["EPISODE"]].append(entry)
for episode in expected:
    of_it = told.get(episode, [])
    if len(of_it) != 1:
        wrong.append(f"{episode}: {len(of_it)} entries say {verdict}")
    for entry in of_it:
        numbers = {"delivered": ["STATUS_CODE", "BYTES", "ELAPSED_MS"], "fatal": ["STATUS_CODE", "ELAPSED_MS"]}[verdict]
        for name in numbers:
            if not entry.get(name, "").isdigit():
                wrong.append(f"{episode}: {name} is {entry.get(name)!r}")
        if entry["PRIORITY"] != {"delivered": "6", "fatal": "3"}[verdict]:
            wrong.append(f"{episode}: priority {entry['PRIORITY']}")
if verdict == "delivered":
    # What had to be tried again is one more entry each time; everything else about an episode is
    # the one that says delivered.
    counts = collections.Counter(entry.get("EPISODE") for entry in entries if entry.get("VERDICT") != "transient")
    for episode in expected:
        if counts[episode] != 1:
            wrong.append(f"{episode}: {counts[episode]} entries")

for what in wrong[:20]:
    print(what, file=sys.stderr)
sys.exit(1 if wrong else 0)

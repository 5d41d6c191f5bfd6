#!/usr/bin/env bash
# Python's tarfile with `filter="data"`, which Python 3.14 takes by default (PEP 706): extractall()
# ends at the first symlink with an absolute target, and what stands behind it in the archive is not
# there.
#
# The archive is sound, and GNU tar and bsdtar restore all of it: a link to /srv/config/robot.yaml,
# say, which a recorder has made. extractall() raises AbsoluteLinkError in the middle. The folder
# holds the members up to it and looks like a smaller recording; a program that looks only whether
# the folder is there works with a part. A filter of one's own that returns None
# for what it does not want (it is left out then) gets the rest.
#
# Needs python3 of 3.11.4 or later. Ends with 0 where it is so, with 1 where it is not, 77 without.
# Seen with Python 3.11.7 and 3.13.0 (filter="data" given), 2026-11-30:
#   filter="data":   AbsoluteLinkError; 1 of 3 members
#   left out:        2 of 3 members
set -euo pipefail
python3 -c 'import tarfile; tarfile.data_filter' 2>/dev/null || { echo "python3 has no tarfile.data_filter"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir run
echo first >run/a.bin
ln -s /srv/config/robot.yaml run/b.yaml
echo last >run/c.bin
tar --sort=name -cf run.tar run
python3 - <<'PYTHON'
import os, sys, tarfile

print("Python", sys.version.split()[0])
error = "nothing"
try:
    with tarfile.open("run.tar") as archive:
        archive.extractall("by-data", filter="data")
except tarfile.FilterError as raised:
    error = type(raised).__name__
by_data = sorted(os.listdir("by-data/run"))
print(f'filter="data":   {error}; {len(by_data)} of 3 members')


def without_absolute_links(member, path):
    try:
        return tarfile.data_filter(member, path)
    except tarfile.AbsoluteLinkError:
        return None


with tarfile.open("run.tar") as archive:
    archive.extractall("left-out", filter=without_absolute_links)
left_out = sorted(os.listdir("left-out/run"))
print(f"left out:        {len(left_out)} of 3 members")
sys.exit((error, by_data, left_out) != ("AbsoluteLinkError", ["a.bin"], ["a.bin", "c.bin"]))
PYTHON

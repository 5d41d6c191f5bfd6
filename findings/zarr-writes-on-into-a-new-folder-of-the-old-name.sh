#!/bin/bash
# zarr 3.1.6 (PyPI): an array whose folder was renamed while it was open is written on into a new
# folder of the old name, without an error.
#
# A LocalStore keeps the path and no descriptor. Each chunk is written by making its parent folders
# and then the file. When the store's folder has been renamed meanwhile (moved away by a program
# that ships finished recordings), the next assignment succeeds: the folder of the old name comes
# back with that chunk in it and without zarr.json. The folder that was moved lacks the chunk, and
# opening the new one fails.
#
# Seen with zarr 3.1.6 under Python 3.11. Ends with 0 where it is so, with 1 where the library
# behaves otherwise.
set -euo pipefail
command -v python3 > /dev/null || { echo "python3 is missing"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" 2> /dev/null || { echo "python3 -m venv is missing"; exit 77; }
"$folder/venv/bin/pip" install --quiet zarr==3.1.6 numpy==2.3.5 2> "$folder/pip.log" || {
    cat "$folder/pip.log"
    exit 77
}
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import os, sys

import zarr

folder = sys.argv[1]
here, there = os.path.join(folder, "run-1"), os.path.join(folder, "moved")
array = zarr.create_array(store=here, shape=(4,), chunks=(1,), dtype="i4", fill_value=-1, compressors=None)
array[0] = 10
os.rename(here, there)
array[1] = 11
print("zarr", zarr.__version__, "Python", sys.version.split()[0])
came_back = sorted(os.path.relpath(os.path.join(at, name), here) for at, _, names in os.walk(here) for name in names)
moved = list(map(int, zarr.open_array(there, mode="r")[:]))
print(f"the old name holds {came_back}; the folder that was moved reads {moved}")
try:
    zarr.open_array(here, mode="r")
    opens = True
except Exception as error:
    opens = False
    print(f"opening the old name: {type(error).__name__}: {error}")
is_so = came_back == ["c/1"] and moved == [10, -1, -1, -1] and not opens
sys.exit(0 if is_so else 1)
PYTHON

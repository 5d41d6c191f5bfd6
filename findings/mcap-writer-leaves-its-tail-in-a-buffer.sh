#!/bin/bash
# mcap 1.3.0 (PyPI): a Writer that was given an open file leaves the end of the recording in
# Python's buffer after finish().
#
# `Writer(stream)` takes a path or an open binary file. finish() writes the summary, the footer and
# the closing magic, and returns; it closes only a file that it has opened by itself, and does not
# flush one that it was given. With an open file, as in the library's own examples inside `with
# open(...)`, what is on the disk right after finish() is shorter than the recording, ends without
# the magic, and cannot be read by the library's own reader. A program that seals, copies or ships
# the file between finish() and the end of the `with` block has a torn one.
#
# Seen with mcap 1.3.0 under Python 3.11. Ends with 0 where it is so, with 1 where the library
# behaves otherwise.
set -euo pipefail
command -v python3 > /dev/null || { echo "python3 is missing"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Without what its compressed chunks want: none is used here.
python3 -m pip install --quiet --no-deps --target "$folder/lib" mcap==1.3.0 2> "$folder/pip.log" || {
    cat "$folder/pip.log"
    exit 77
}
mkdir -p "$folder/stubs/lz4" "$folder/stubs/zstandard"
touch "$folder/stubs/lz4/__init__.py" "$folder/stubs/lz4/frame.py" "$folder/stubs/zstandard/__init__.py"
PYTHONPATH="$folder/lib:$folder/stubs" python3 - "$folder/run.mcap" <<'PYTHON'
import importlib.metadata, io, sys

from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

path = sys.argv[1]
MAGIC = b"\x89MCAP0\r\n"


def on_disk():
    with open(path, "rb") as reader:
        return reader.read()


with open(path, "wb") as stream:
    writer = Writer(stream, compression=CompressionType.NONE)
    writer.start()
    schema = writer.register_schema(name="sample", encoding="jsonschema", data=b"{}")
    channel = writer.register_channel(topic="/arm", message_encoding="json", schema_id=schema)
    for n in range(2000):
        writer.add_message(channel_id=channel, log_time=n, publish_time=n, data=b'{"x": %d}' % n)
    writer.finish()
    finished = on_disk()
closed = on_disk()
print("mcap", importlib.metadata.version("mcap"), "Python", sys.version.split()[0])
print(f"after finish(): {len(finished)} bytes on the disk, ends with the magic: {finished.endswith(MAGIC)}")
print(f"after close():  {len(closed)} bytes on the disk, ends with the magic: {closed.endswith(MAGIC)}")
try:
    readable = make_reader(io.BytesIO(finished)).get_summary() is not None
except Exception as error:
    readable = False
    print(f"the library's reader of what finish() left: {type(error).__name__}: {error}")
torn = not readable and len(finished) < len(closed) and not finished.endswith(MAGIC) and closed.endswith(MAGIC)
sys.exit(0 if torn else 1)
PYTHON

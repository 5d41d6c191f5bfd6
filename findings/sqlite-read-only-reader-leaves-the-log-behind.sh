#!/usr/bin/env bash
# SQLite in WAL mode: where a read-only connection closes last, `-wal` and `-shm` stay beside the
# database, and what was committed is in the `-wal` alone.
#
# The last connection that closes a database in WAL mode moves the log into it and removes it, and
# that is what those see who try it: write, close, one file. A connection with `mode=ro` (a viewer,
# a live plot) cannot write, and leaves both files when it closes behind the writer. All processes
# have ended then, nothing has the files open, and the database file alone has not even the table.
# Who copies or ships `*.db` loses the recording without an error; all three files belong together.
#
# Needs python3 with sqlite3. Ends with 0 where it is so, with 1 where it is not.
# Seen with SQLite 3.40.1 (Python 3.11.7, Debian 12), 2026-11-30:
#   the writer closes last:  run.db
#   a reader closes last:    run.db run.db-shm run.db-wal; run.db alone: no such table: samples
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 - <<'PYTHON'
import os, shutil, sqlite3, sys


def recorded(folder, reader_closes_last):
    os.mkdir(folder)
    path = os.path.join(folder, "run.db")
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE samples (x)")
    writer.execute("INSERT INTO samples VALUES (1)")
    writer.commit()
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    reader.execute("SELECT * FROM samples").fetchall()
    for connection in (writer, reader) if reader_closes_last else (reader, writer):
        connection.close()
    return " ".join(sorted(os.listdir(folder)))


print("SQLite", sqlite3.sqlite_version, "Python", sys.version.split()[0])
one = recorded("one", False)
two = recorded("two", True)
shutil.copy("two/run.db", "alone.db")
try:
    alone = str(sqlite3.connect("alone.db").execute("SELECT * FROM samples").fetchall())
except sqlite3.OperationalError as error:
    alone = str(error)
together = sqlite3.connect("two/run.db").execute("SELECT * FROM samples").fetchall()
print(f"the writer closes last:  {one}")
print(f"a reader closes last:    {two}; run.db alone: {alone}; all three: {together}")
is_so = one == "run.db" and two == "run.db run.db-shm run.db-wal" and alone == "no such table: samples" and together == [(1,)]
sys.exit(not is_so)
PYTHON

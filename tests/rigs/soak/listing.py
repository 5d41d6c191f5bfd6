"""What is in a folder, as far as an archive keeps it: noted by the recorder, compared by the judge."""

import hashlib
import os
import stat

MARKER = "done.marker"


def listing(folder):
    """Every entry below `folder` by its path. Names that are not UTF-8 travel as surrogates, through JSON as well."""
    found = {}
    pending = [""]
    while pending:
        above = pending.pop()
        with os.scandir(os.path.join(folder, above)) as entries:
            for entry in entries:
                path = os.path.join(above, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                found[path] = described(entry.path)
    return found


def described(path):
    """One entry. Times of folders, symlinks and the marker are not kept, and owners are not."""
    about = os.lstat(path)
    if stat.S_ISLNK(about.st_mode):
        return ["symlink", os.readlink(path)]
    mode = stat.S_IMODE(about.st_mode)
    if stat.S_ISDIR(about.st_mode):
        return ["folder", mode]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    seconds = 0 if os.path.basename(path) == MARKER else int(about.st_mtime)
    return ["file", mode, about.st_size, digest, seconds]


def differences(expected, found):
    """What differs, in words; nothing where the two are the same."""
    words = [f"{path!r} is missing" for path in expected.keys() - found.keys()]
    words += [f"{path!r} was never recorded" for path in found.keys() - expected.keys()]
    words += [
        f"{path!r} is {found[path]}, and was {expected[path]}"
        for path in expected.keys() & found.keys()
        if expected[path] != found[path]
    ]
    return sorted(words)

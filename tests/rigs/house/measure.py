#!/usr/bin/env python3
"""Measures the house: how much product code there is, and how it is named.

    tests/rigs/house/measure.py [CHECKOUT]

Product code is what is neither blank, nor comment, nor test, at rustfmt's defaults: a copy of
src/ is formatted so, whatever rustfmt.toml says. Tests are modules behind `#[cfg(test)]`, in their
own files or not.
"""

import collections
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

WIDTH = 100
UNWANTED = re.compile(r"\b(somebody|nobody|whoever|anybody)\b", re.IGNORECASE)
TYPE = re.compile(r"^(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|type|union) (\w+)", re.M)
TEST_FILE = re.compile(r"#\[cfg\(test\)\]\n(?:#\[[^\n]*\n)*(?:pub(?:\([^)]*\))? )?mod (\w+);")
TEST_MODULE = re.compile(r"#\[cfg\(test\)\]\n(?:#\[[^\n]*\n)*(?:pub(?:\([^)]*\))? )?mod \w+ \{\n.*?^\}\n", re.S | re.M)

CONSTANT = re.compile(r"^((?:///[^\n]*\n)*)(?:pub(?:\([^)]*\))? )?const (\w+): ([^;]*);", re.M)


def kind_of(comment, name, value):
    """What a constant is, by its comment: the test in tests/it/tidy.rs holds that the words of a
    promise are in the document, and that what could be another number stands in limits.rs."""
    comment = re.sub(r"\n?///", "", comment)
    if not re.search(r"(?<!\w)\d", re.sub(r'"[^"]*"', "", value)):
        return "derived"
    if "Fixed by " in comment:
        return "fixed"
    return "promised" if "Promised in " in comment else "tuning"


def formatted(src):
    files = [str(path) for path in src.rglob("*.rs")]
    settings = "max_width=100,use_small_heuristics=Default"
    plain = ["rustfmt", "--edition", "2024", "--config", settings]
    subprocess.run(plain + files, check=True, stdout=subprocess.DEVNULL)


def test_files(src):
    """Files and folders of modules that are compiled for tests alone."""
    found = set()
    for path in src.rglob("*.rs"):
        is_root = path.name in ("lib.rs", "main.rs", "mod.rs")
        folder = path.parent if is_root else path.with_suffix("")
        for name in TEST_FILE.findall(path.read_text()):
            found |= {folder / f"{name}.rs", folder / name}
    return found


def is_test(path, tests):
    return path in tests or any(parent in tests for parent in path.parents)


def product(src):
    tests = test_files(src)
    for path in sorted(src.rglob("*.rs")):
        if not is_test(path, tests):
            yield path, TEST_MODULE.sub("", path.read_text())


def body_of(texts, head):
    for text in texts.values():
        found = re.search(rf"^pub(?:\([^)]*\))? {head} \{{\n(.*?)^\}}", text, re.S | re.M)
        if found:
            return [line.strip() for line in found[1].splitlines() if not line.strip().startswith(("//", "#["))]
    return []


def main():
    checkout = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    with tempfile.TemporaryDirectory() as folder:
        src = pathlib.Path(folder) / "src"
        shutil.copytree(checkout / "src", src)
        formatted(src)
        texts = dict(product(src))
    code = sum(
        1 for text in texts.values() for line in text.splitlines()
        if line.strip() and not line.strip().startswith("//")
    )
    types = collections.Counter(name for text in texts.values() for name in set(TYPE.findall(text)))
    twice = sorted(name for name, files in types.items() if files > 1)
    own = [path for path in (checkout / "src").rglob("*.rs")]
    words = sum(len(UNWANTED.findall(path.read_text())) for path in own)
    rust = own + [path for folder in ("tests", "benches", "examples") for path in (checkout / folder).rglob("*.rs")]
    wide = sum(
        1 for path in rust for line in path.read_text().splitlines()
        if line.strip().startswith("//") and len(line) > WIDTH
    )
    documents = [*checkout.glob("*.md"), *(checkout / "docs").rglob("*.md")]
    wide_documents = sum(
        1 for path in documents for line in path.read_text().splitlines()
        if len(line) > WIDTH and not line.startswith("|")
    )
    decisions = {path: text for path, text in texts.items() if "ship/machine" in str(path)}
    machine = body_of(decisions, "struct Machine")
    episode = body_of(decisions, "struct Episode")
    impls = sum(1 for text in decisions.values() if re.search(r"^impl Machine\b", text, re.M))
    kinds = collections.Counter(
        kind_of(*constant) for text in decisions.values() for constant in CONSTANT.findall(text)
    )
    print(f"product files            {len(texts)}")
    print(f"product code             {code} lines")
    print(f"type names               {len(types)}, in two files or more {len(twice)} ({100 * len(twice) / len(types):.1f} %)")
    print(f"fields of Machine        {sum(1 for line in machine if ':' in line)}, files with impl Machine {impls}")
    print(f"booleans of Episode      {sum(1 for line in episode if line.endswith(': bool,'))}")
    print(f"constants of the machine {kinds.total()}: tuning {kinds['tuning']}, promised {kinds['promised']}, "
          f"fixed {kinds['fixed']}, derived from others or words {kinds['derived']}")
    print(f"unwanted words in src/   {words}")
    print(f"comment lines > {WIDTH}      {wide}; lines of documents but tables {wide_documents}")
    if "--names" in sys.argv:
        print("\n".join(twice))


main()

"""No file over 600 lines, unless it says at its top why. Usage: file_length.py SOURCE_ROOT

The reason is a line within the first 20 that holds the words "Long because".
"""
import os
import sys

import source_tree

LIMIT = 600
TOP = 20
REASON = "Long because"
SUFFIXES = (".h", ".cc", ".c", ".inc", ".py", ".cmake", ".sh", ".txt")
NAMES = ("dev", "run")


def main():
    root = sys.argv[1]
    found = []
    for path in source_tree.files(root):
        if not (path.endswith(SUFFIXES) or os.path.basename(path) in NAMES):
            continue
        lines = (source_tree.text(root, path) or "").splitlines()
        if len(lines) > LIMIT and not any(REASON in line for line in lines[:TOP]):
            found.append(f"{path}: {len(lines)} lines, and no line \"{REASON} ...\" at its top")
    print("\n".join(found) or f"no file is longer than {LIMIT} lines without a reason")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

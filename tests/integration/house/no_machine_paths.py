"""No committed file names a place on somebody's machine. Usage: no_machine_paths.py SOURCE_ROOT"""
import re
import sys

import source_tree

# Home folders, and the place where this very checkout lies.
HOME = re.compile(r"(?<![\w.%/-])/(?:home|Users|root)/[A-Za-z0-9_.-]+")
# Names that stand for "some user" in examples.
EXAMPLES = ("/home/user", "/home/you", "/home/me", "/home/someone")


def main():
    root = sys.argv[1]
    # A checkout right below the root has a name too common to be looked for.
    own_place = None
    if root.rstrip("/").count("/") >= 2:
        own_place = re.compile(r"(?<![\w.%/-])" + re.escape(root.rstrip("/") + "/"))
    found = []
    for path in source_tree.files(root):
        content = source_tree.text(root, path)
        if content is None:
            continue
        for number, line in enumerate(content.splitlines(), 1):
            homes = [h for h in HOME.findall(line) if not h.startswith(EXAMPLES)]
            if homes or (own_place and own_place.search(line)):
                found.append(f"{path}:{number}: {line.strip()[:120]}")
    print("\n".join(found) or "no file names a place on this machine")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

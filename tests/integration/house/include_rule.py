"""Who may include whom (docs/architecture.md, "The map"). Usage: include_rule.py SOURCE_ROOT"""
import os
import re
import sys

import source_tree

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
PROJECT_FOLDERS = ("formats", "tracer", "converter", "simulator", "analysis", "cli", "tests")
SOURCES = (".h", ".cc", ".c", ".inc")

# Folder -> the folders of the project that it may include. The longest matching folder counts, on both
# sides: formats/wire is not formats.
ALLOWED = {
    "formats/wire": {"formats/wire"},
    "formats": {"formats/wire", "formats"},
    "tracer/preload": {"formats/wire", "tracer/preload"},
    "tracer": {"formats/wire", "formats", "tracer"},
    "converter": {"formats/wire", "formats", "converter"},
    "simulator/replayer": {"formats/wire", "simulator/replayer", "simulator"},
    "simulator": {"formats/wire", "formats", "simulator", "simulator/replayer"},
    "analysis": {"formats/wire", "formats", "analysis"},
    "cli": {"cli"},
}
# The tools' folders reach the terminal through their command side alone: a subcommand, and the files
# through which it reads its arguments and speaks. The engines behind them know of no terminal.
COMMAND_SIDE = re.compile(r"(^commands\.h|_command\.cc|_render\.(h|cc)|_summary\.(h|cc)|_format\.(h|cc)"
                          r"|_table\.(h|cc)|_text\.(h|cc)|_options\.(h|cc)|_json\.(h|cc))$")
COMMAND_SIDE_FILES = {
    "tracer/record_session.cc",   # opens what the recording stands on: reports to the user
    "tracer/traced_program.cc",   # starts the program: reports to the user
    "analysis/input.cc",          # opens the files named on the command line
    "analysis/json.h",            # prints results
    "analysis/explained_memory.cc",  # says in a sentence what it found, with sizes
    "tracer/process_diagnosis.cc",   # the same
}
DRIVER = "cli/main.cc"  # the one place that knows every command: includes every commands.h

# Code inside the tracee has C's headers and those of C++ that hold neither code nor a library.
FREESTANDING = {"cstddef", "cstdint", "type_traits", "limits", "climits", "cstdarg"}
LIBC_ONLY = ("formats/wire", "tracer/preload")


def folder_of(path):
    """The longest folder with a rule of its own, or the top folder."""
    parts = os.path.dirname(path).split("/")
    for length in range(len(parts), 0, -1):
        candidate = "/".join(parts[:length])
        if candidate in ALLOWED:
            return candidate
    return parts[0]


def is_command_side(path):
    return path in COMMAND_SIDE_FILES or COMMAND_SIDE.search(os.path.basename(path))


def complaint(path, kind, included):
    folder = folder_of(path)
    if kind == "<":
        # C++'s own headers have neither a folder nor a suffix.
        if folder in LIBC_ONLY and "." not in included and included not in FREESTANDING:
            return "is of the C++ library, and this code has libc only"
        return None
    if included.split("/")[0] not in PROJECT_FOLDERS:
        return "is no path from the root of the source tree"
    target = folder_of(included)
    if folder == "tests":
        return None
    if target == "cli" and "cli" not in ALLOWED[folder]:
        if folder in ("tracer", "converter", "simulator", "analysis") and is_command_side(path):
            return None
        return "is the command line's, and this file is not on the command side"
    if path == DRIVER and included == f"{included.split('/')[0]}/commands.h":
        return None
    if target not in ALLOWED[folder]:
        return f"lies in {target}, which {folder} may not include"
    return None


def main():
    root = sys.argv[1]
    found, checked = [], 0
    for path in source_tree.files(root):
        if not path.endswith(SOURCES) or path.split("/")[0] not in PROJECT_FOLDERS:
            continue
        content = source_tree.text(root, path) or ""
        for match in INCLUDE.finditer(content):
            checked += 1
            kind, included = match.groups()
            if folder_of(path) == "tests" and kind == '"':
                continue  # tests may include anything, their own headers by name
            why = complaint(path, kind, included)
            if why:
                line = content.count("\n", 0, match.start()) + 1
                found.append(f"{path}:{line}: {included} {why}")
    print("\n".join(found))
    print(f"{checked} includes checked, {len(found)} against the rule")
    if checked == 0:
        sys.exit("no include was found: is this the source tree?")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

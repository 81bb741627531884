"""The files of the source tree: those that are, or could be, committed."""
import os
import subprocess


def files(root):
    """Yields paths relative to the root."""
    # The tree may belong to somebody else: reading its list of files is harmless.
    git = subprocess.run(
        ["git", "-C", root, "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
        capture_output=True)
    if git.returncode == 0 and git.stdout:
        names = sorted(os.fsdecode(name) for name in git.stdout.split(b"\0") if name)
        yield from (name for name in names if os.path.isfile(os.path.join(root, name)))
        return
    # No repository: all but what builds leave behind.
    for folder, folders, names in os.walk(root):
        at_top = folder == root
        folders[:] = sorted(f for f in folders if f not in (".git", ".cache", "__pycache__") and
                            not (at_top and (f == "build" or f.startswith("build-"))))
        for name in sorted(names):
            yield os.path.relpath(os.path.join(folder, name), root)


def text(root, path):
    """The file's text, or None when it is binary."""
    with open(os.path.join(root, path), "rb") as file:
        data = file.read()
    if b"\0" in data:
        return None
    return data.decode("utf-8", "replace")

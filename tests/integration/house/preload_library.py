"""The preload library needs libc alone and exports the malloc API, no more and no less.
Usage: preload_library.py LIBRARY LIST_API_SYMBOLS
"""
import re
import subprocess
import sys


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main():
    library, lister = sys.argv[1:]
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-dW", library))
    wanted = set(output(lister).split())
    exported = set()
    for line in output("readelf", "-W", "--dyn-syms", library).splitlines():
        fields = line.split()
        # Num: Value Size Type Bind Vis Ndx Name
        if len(fields) < 8 or fields[6] == "UND" or not fields[0].rstrip(":").isdigit():
            continue
        if fields[3] in ("FUNC", "OBJECT", "TLS", "IFUNC", "NOTYPE"):
            exported.add(fields[7].split("@")[0])
    problems = []
    if needed != ["libc.so.6"]:
        problems.append(f"NEEDED is {needed}, not libc.so.6 alone")
    problems += [f"not exported: {name}" for name in sorted(wanted - exported)]
    problems += [f"exported, but no function of the API: {name}" for name in sorted(exported - wanted)]
    print("\n".join(problems) or f"NEEDED libc.so.6 alone; {len(exported)} symbols, exactly the API")
    sys.exit(1 if problems or not wanted else 0)


if __name__ == "__main__":
    main()

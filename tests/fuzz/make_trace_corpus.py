#!/usr/bin/env python3
"""Makes the seed corpus of trace_fuzz from a trace: the whole with a short header page, and each block
alone. Usage: make_trace_corpus.py TRACE DIRECTORY"""
import pathlib
import struct
import sys

HEADER = 384  # sizeof(TraceHeader): the least that header_bytes may say


def main():
    trace = pathlib.Path(sys.argv[1]).read_bytes()
    out = pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    start = struct.unpack_from("<I", trace, 12)[0]
    header = bytearray(trace[:HEADER])
    struct.pack_into("<I", header, 12, HEADER)
    (out / "whole").write_bytes(header + trace[start:])
    at = start
    number = 0
    while at + 64 <= len(trace):
        if trace[at:at + 4] != b"ABLK":
            at += 64
            continue
        payload = struct.unpack_from("<Q", trace, at + 8)[0]
        block = bytearray(trace[at:at + 64 + payload])
        struct.pack_into("<Q", block, 24, 0)  # the first of its stream
        (out / f"block-{number:02}").write_bytes(header + block)
        number += 1
        at += (64 + payload + 63) // 64 * 64


if __name__ == "__main__":
    main()

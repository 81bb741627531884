// The law for code that runs inside the tracee; docs/tracer-rules.md gives the reasons.
//
//  1. Links libc alone. No exceptions, no RTTI, no function-local statics, no TLS destructors, no
//     global constructors but the one in image.cc.
//  2. Never allocates: memory comes from mmap, files are reached by raw system calls (syscalls.h),
//     which do not touch errno either.
//  3. Forwards every function through RTLD_NEXT, so that all of them reach the same allocator, and
//     never changes a request, an answer or errno.
//  4. Runs in any state of the program: before its constructors, after its destructors, in signal
//     handlers (also of itself: Stream::mode), after fork (memory that is wiped by the kernel), in
//     vfork children, with its descriptor closed or its directory gone.
//  5. No failure here is the program's problem: count it, say one line, go on.
//
// Names that would break the law do not compile: every .cc of this folder includes forbidden.h
// last.
#pragma once

#define ALLOCTAPE_LIKELY(x) __builtin_expect(!!(x), 1)
#define ALLOCTAPE_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ALLOCTAPE_INLINE inline __attribute__((always_inline))
#define ALLOCTAPE_COLD __attribute__((noinline, cold))
// On declarations of variables that the fast path reads: -fvisibility speaks of definitions alone,
// and without this word each would be reached through the GOT.
#define ALLOCTAPE_HIDDEN __attribute__((visibility("hidden")))
// What the dynamic linker shows to the program. exports.map must list the same names.
#define ALLOCTAPE_EXPORT extern "C" __attribute__((visibility("default")))

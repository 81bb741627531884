/* alloctape.h: steer the recording of this process from within.
 *
 * Needs no library: under `alloctape record` each function reaches the tracer, without it each does
 * nothing. C89 and later, C++; gcc and clang on Linux (elsewhere all are empty).
 *
 *   #include <alloctape.h>
 *
 *   int main(void) {
 *     load_configuration();
 *     alloctape_reset();                  // what start-up allocated is of no interest
 *     alloctape_mark("requests begin");
 *     serve();
 *     alloctape_mark("requests end");
 *     alloctape_stop();                   // nor is what shutting down frees
 *   }
 *
 * and:  alloctape record -- ./server     (with --paused, and alloctape_start() in place of reset)
 *
 * All are thread-safe and leave errno alone. A command holds for the whole process, and for each of
 * its threads from that thread's next call of the malloc API on.
 *
 * Why the tracer is asked for by dlsym, and not by weak references to its functions: in a program
 * that is not position-independent, and under some linkers in any program, a weak reference that
 * nothing defines at link time is null for ever, and a preloaded definition never reaches it. dlsym
 * itself is referred to weakly, so that a static program links, and its calls do nothing. With a C
 * library older than glibc 2.34 link with -ldl, or the calls do nothing. */
#ifndef ALLOCTAPE_H
#define ALLOCTAPE_H

#if defined(__linux__) && defined(__GNUC__)
#define ALLOCTAPE_REACHABLE_ 1
#include <errno.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifdef ALLOCTAPE_REACHABLE_

/* weakref: other references to dlsym in the same file stay as strong as they are. */
static void *alloctape_dlsym_(void *, const char *) __attribute__((weakref("dlsym")));

typedef union {
  void *object;
  void (*command)(void);
  void (*text)(const char *);
} alloctape_entry_;

/* Looked up once; *known == known stands for "there is none". Threads that race find the same. */
static __inline__ alloctape_entry_ alloctape_find_(const char *name, void **known) {
  alloctape_entry_ entry;
  entry.object = __atomic_load_n(known, __ATOMIC_ACQUIRE);
  if (!entry.object) {
    const int saved_errno = errno;
    void *(*const look_up)(void *, const char *) = alloctape_dlsym_;
    if (look_up) entry.object = look_up((void *)0, name); /* 0: RTLD_DEFAULT */
    if (!entry.object) entry.object = (void *)known;
    __atomic_store_n(known, entry.object, __ATOMIC_RELEASE);
    errno = saved_errno;
  }
  if (entry.object == (void *)known) entry.object = (void *)0;
  return entry;
}

#define ALLOCTAPE_COMMAND_(name)                                 \
  static __inline__ void name(void) {                            \
    static void *known;                                          \
    const alloctape_entry_ entry = alloctape_find_(#name, &known); \
    if (entry.object) entry.command();                           \
  }

#else
#define ALLOCTAPE_COMMAND_(name) \
  static void name(void) {}
#endif

/* Makes the trace now, rather than at the first allocation. Seldom needed. */
ALLOCTAPE_COMMAND_(alloctape_init)
/* Record from here on. */
ALLOCTAPE_COMMAND_(alloctape_start)
/* Record no more, and bring all that was recorded to the disk before returning. */
ALLOCTAPE_COMMAND_(alloctape_stop)
/* Record no more until unpause (or start, which does the same). */
ALLOCTAPE_COMMAND_(alloctape_pause)
ALLOCTAPE_COMMAND_(alloctape_unpause)
/* Bring all that was recorded so far to the disk before returning. */
ALLOCTAPE_COMMAND_(alloctape_sync)
/* What was recorded so far counts no more. Takes some milliseconds. */
ALLOCTAPE_COMMAND_(alloctape_reset)

/* Puts a text (UTF-8, at most 1024 bytes) into the trace, at this time. */
#ifdef ALLOCTAPE_REACHABLE_
static __inline__ void alloctape_mark(const char *text) {
  static void *known;
  const alloctape_entry_ entry = alloctape_find_("alloctape_mark", &known);
  if (entry.object) entry.text(text);
}
#else
static void alloctape_mark(const char *text) { (void)text; }
#endif

#undef ALLOCTAPE_COMMAND_
#undef ALLOCTAPE_REACHABLE_

#ifdef __cplusplus
}
#endif

#endif /* ALLOCTAPE_H */

/* A preload that only counts: the independent witness for the tests of exact counts.
 *
 * Each call of the malloc API is counted under its own name in a shared mapping of a file, one file a
 * process image, in the folder that COUNTER_OUT names; what was counted survives `kill -9`. A call
 * that serves another one (operator new -> malloc of that size, sized delete -> delete -> free of that
 * pointer) belongs to the outer one and is not counted; what else happens inside, a new_handler that
 * frees or the exception that operator new allocates to throw it, is the program's. Speed is no aim:
 * counts are atomic adds. */
#define _GNU_SOURCE
#include "counter.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define TLS __thread __attribute__((tls_model("initial-exec")))
#define DIE(text)                                                    \
  do {                                                               \
    if (write(2, "counter: " text "\n", sizeof("counter: " text))) { \
    }                                                                \
    _exit(99);                                                       \
  } while (0)

/* ---- the functions beneath ------------------------------------------------------------------- */

static struct {
  void *(*malloc)(size_t);
  void *(*calloc)(size_t, size_t);
  void *(*realloc)(void *, size_t);
  void *(*reallocarray)(void *, size_t, size_t);
  void (*free)(void *);
  int (*posix_memalign)(void **, size_t, size_t);
  void *(*aligned_alloc)(size_t, size_t);
  void *(*memalign)(size_t, size_t);
  void *(*valloc)(size_t);
  void *(*pvalloc)(size_t);
  size_t (*usable)(void *);
} real;

/* The calls that this thread is inside of, and that are known to call others of the API. */
enum { kMaxDepth = 32 };
static TLS struct {
  size_t size, alignment; /* of an acquire */
  const void *pointer;    /* of a release or resize; NULL: an acquire */
} t_inside[kMaxDepth];
static TLS volatile int t_depth;
/* This thread is looking something up: its calls are not the program's. Volatile, for libc declares
 * dlsym a leaf, that is, one that never calls back into this file; and it does. */
static TLS volatile int t_busy;

/* ---- calls made by the look-up itself (dlsym may allocate its error message) ------------------ */

static char g_arena[64 * 1024] __attribute__((aligned(16)));
static size_t g_arena_used;

static int in_arena(const void *p) {
  return (const char *)p >= g_arena && (const char *)p < g_arena + sizeof(g_arena);
}

static void *arena_alloc(size_t size, size_t alignment) {
  if (alignment < 16) alignment = 16;
  if (size > sizeof(g_arena) || alignment > 4096) return NULL;
  const size_t need = size + alignment + 16;
  const size_t at = __atomic_fetch_add(&g_arena_used, (need + 15) & ~(size_t)15, __ATOMIC_RELAXED);
  if (at + need > sizeof(g_arena)) DIE("the bootstrap arena is full");
  uintptr_t p = (uintptr_t)g_arena + at + 16;
  p = (p + alignment - 1) & ~(alignment - 1);
  ((size_t *)p)[-1] = size;
  return (void *)p;
}

static size_t arena_size(const void *p) { return ((const size_t *)p)[-1]; }

/* ---- the file -------------------------------------------------------------------------------- */

static struct counter_file g_fallback; /* where no file can be had: counts nobody reads */
static struct counter_file *g_file = &g_fallback;
static const char *const g_names[CALL_LIMIT] = {
#define COUNTER_NAME(id, name) name,
    COUNTER_CALLS(COUNTER_NAME)};
/* A page that the kernel clears in a fork child, so that the child knows itself whichever way it was
 * forked; a vfork child shares it and goes on counting for its parent, in whose memory it runs. */
static volatile int *g_this_image;

static void append_number(char *text, size_t *at, unsigned long value) {
  char digits[24];
  int n = 0;
  do digits[n++] = (char)('0' + value % 10);
  while (value /= 10);
  while (n) text[(*at)++] = digits[--n];
}

/* getenv, and before libc itself has been started (a preinit array may allocate) what the kernel says. */
static const char *output_folder(void) {
  static char environment[256 * 1024];
  const char *value = getenv("COUNTER_OUT");
  if (value || environ) return value;
  const int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return NULL;
  size_t length = 0;
  for (ssize_t n; length < sizeof(environment) - 1; length += (size_t)n)
    if ((n = read(fd, environment + length, sizeof(environment) - 1 - length)) <= 0) break;
  close(fd);
  for (const char *p = environment; p < environment + length; p += strlen(p) + 1)
    if (strncmp(p, "COUNTER_OUT=", 12) == 0) return p + 12;
  return NULL;
}

/* Everything here is a plain system call or touches this file's own memory: it runs in fork children
 * and under any allocator. */
static void open_file(void) {
  const char *folder = output_folder();
  g_file = &g_fallback;
  if (!folder || strlen(folder) > 3000) return;
  char path[4096];
  int fd = -1;
  unsigned sequence = 0;
  for (; sequence < 100000; ++sequence) {
    size_t at = strlen(folder);
    memcpy(path, folder, at);
    path[at++] = '/';
    append_number(path, &at, (unsigned long)getpid());
    path[at++] = '.';
    append_number(path, &at, sequence);
    memcpy(path + at, ".counts", 8);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) break;
  }
  if (fd < 0) return;
  struct counter_file *file = MAP_FAILED;
  if (ftruncate(fd, 4096) == 0)
    file = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (file == MAP_FAILED) return;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  file->pid = (uint32_t)getpid();
  file->parent_pid = (uint32_t)getppid();
  file->sequence = sequence;
  file->entries = CALL_LIMIT;
  file->start_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
  if (readlink("/proc/self/exe", file->executable, sizeof(file->executable) - 1) < 0)
    file->executable[0] = 0;
  for (int i = 0; i < CALL_LIMIT; ++i) strcpy(file->entry[i].name, g_names[i]);
  memcpy(file->magic, COUNTER_MAGIC, 8);
  g_file = file;
}

/* Called by an image's first call, and by a fork child's first call. One thread exists then: starting
 * another one allocates. */
static __attribute__((noinline)) void start_image(void) {
  const int saved_errno = errno;
  t_busy = t_busy + 1;
  if (!g_this_image) {
    g_this_image = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g_this_image == MAP_FAILED || madvise((void *)g_this_image, 4096, MADV_WIPEONFORK))
      DIE("MADV_WIPEONFORK is not to be had");
#define FIND(field, symbol)                              \
  if (!(real.field = dlsym(RTLD_NEXT, symbol))) DIE("no " symbol)
    FIND(malloc, "malloc");
    FIND(calloc, "calloc");
    FIND(realloc, "realloc");
    FIND(reallocarray, "reallocarray");
    FIND(free, "free");
    FIND(posix_memalign, "posix_memalign");
    FIND(aligned_alloc, "aligned_alloc");
    FIND(memalign, "memalign");
    FIND(valloc, "valloc");
    FIND(pvalloc, "pvalloc");
    FIND(usable, "malloc_usable_size");
  }
  open_file();
  *g_this_image = 1;
  t_busy = t_busy - 1;
  errno = saved_errno;
}

/* ---- counting -------------------------------------------------------------------------------- */

static inline void add(uint64_t *counter, uint64_t n) {
  __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* Returns whether this call is the program's own. */
static inline int enter(enum counter_call call, const void *pointer, size_t size) {
  if (__builtin_expect(!g_this_image || !*g_this_image, 0)) start_image();
  if (t_depth) {
    const int top = t_depth - 1;
    if (pointer && pointer == t_inside[top].pointer) return 0;
    /* libstdc++ asks for at least one byte, and for a multiple of the alignment. */
    if (!pointer && !t_inside[top].pointer && size >= t_inside[top].size &&
        size - t_inside[top].size <= t_inside[top].alignment + 1)
      return 0;
  }
  add(&g_file->entry[call].calls, 1);
  return 1;
}

static inline void descend(const void *pointer, size_t size, size_t alignment) {
  const int at = t_depth;
  if (at == kMaxDepth) DIE("calls nested too deeply");
  t_inside[at].pointer = pointer;
  t_inside[at].size = size;
  t_inside[at].alignment = alignment;
  t_depth = at + 1;
}
static inline void ascend(void) { t_depth = t_depth - 1; }

static inline void *outcome(int mine, enum counter_call call, void *result, size_t bytes) {
  if (mine) {
    if (result)
      add(&g_file->entry[call].bytes, bytes);
    else
      add(&g_file->entry[call].failed, 1);
  }
  return result;
}

static inline int served_by_arena(void) {
  if (__builtin_expect(!t_busy, 1)) return 0;
  add(&g_file->bootstrap, 1);
  return 1;
}

static inline size_t product(size_t a, size_t b) {
  size_t bytes;
  return __builtin_mul_overflow(a, b, &bytes) ? 0 : bytes;
}

EXPORT void *malloc(size_t size) {
  if (served_by_arena()) return arena_alloc(size, 16);
  const int mine = enter(CALL_MALLOC, NULL, size);
  return outcome(mine, CALL_MALLOC, real.malloc(size), size);
}

EXPORT void *calloc(size_t count, size_t size) {
  if (served_by_arena()) return arena_alloc(product(count, size), 16); /* never used twice: zero */
  const int mine = enter(CALL_CALLOC, NULL, product(count, size));
  return outcome(mine, CALL_CALLOC, real.calloc(count, size), product(count, size));
}

EXPORT void *realloc(void *old, size_t size) {
  if (t_busy && old && !in_arena(old)) return real.realloc(old, size);
  if (in_arena(old) || t_busy) {
    void *p = t_busy ? arena_alloc(size, 16) : malloc(size);
    if (p && old) memcpy(p, old, arena_size(old) < size ? arena_size(old) : size);
    return p;
  }
  const int mine = enter(CALL_REALLOC, old, size);
  void *p = real.realloc(old, size);
  if (mine && p) add(&g_file->entry[CALL_REALLOC].bytes, size);
  if (mine && !p && !(old && size == 0)) add(&g_file->entry[CALL_REALLOC].failed, 1);
  return p;
}

EXPORT void *reallocarray(void *old, size_t count, size_t size) {
  if (in_arena(old)) return realloc(old, product(count, size));
  const int mine = enter(CALL_REALLOCARRAY, old, product(count, size));
  descend(old, product(count, size), 0); /* glibc's calls realloc */
  void *p = real.reallocarray(old, count, size);
  ascend();
  if (mine && p) add(&g_file->entry[CALL_REALLOCARRAY].bytes, product(count, size));
  if (mine && !p && !(old && (count == 0 || size == 0)))
    add(&g_file->entry[CALL_REALLOCARRAY].failed, 1);
  return p;
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t size) {
  if (served_by_arena()) return (*out = arena_alloc(size, alignment)) ? 0 : ENOMEM;
  const int mine = enter(CALL_POSIX_MEMALIGN, NULL, size);
  const int error = real.posix_memalign(out, alignment, size);
  outcome(mine, CALL_POSIX_MEMALIGN, error ? NULL : out, size);
  return error;
}

#define ALIGNED(function, CALL)                                              \
  EXPORT void *function(size_t alignment, size_t size) {                     \
    if (served_by_arena()) return arena_alloc(size, alignment);              \
    const int mine = enter(CALL, NULL, size);                                \
    return outcome(mine, CALL, real.function(alignment, size), size);        \
  }
ALIGNED(aligned_alloc, CALL_ALIGNED_ALLOC)
ALIGNED(memalign, CALL_MEMALIGN)

#define PAGED(function, CALL)                                     \
  EXPORT void *function(size_t size) {                            \
    if (served_by_arena()) return arena_alloc(size, 4096);        \
    const int mine = enter(CALL, NULL, size);                     \
    return outcome(mine, CALL, real.function(size), size);        \
  }
PAGED(valloc, CALL_VALLOC)
PAGED(pvalloc, CALL_PVALLOC)

EXPORT size_t malloc_usable_size(void *p) {
  if (in_arena(p)) return arena_size(p);
  if (enter(CALL_USABLE, p, 0) && !p) add(&g_file->null_calls, 1);
  return real.usable(p);
}

EXPORT void free(void *p) {
  if (in_arena(p) || (t_busy && !p)) return;
  if (enter(CALL_FREE, p, 0) && !p) add(&g_file->null_calls, 1);
  real.free(p);
}

/* ---- functions that need not exist beneath ----------------------------------------------------- */

/* Looked up when first called: a C program has no operator new, and glibc had no free_sized before
 * 2.43. `*cache` is NULL: not looked up; -1: not there. */
static void *find(void **cache, const char *symbol) {
  void *f = __atomic_load_n(cache, __ATOMIC_ACQUIRE);
  if (f) return f == (void *)-1 ? NULL : f;
  const int saved_errno = errno;
  t_busy = t_busy + 1;
  f = dlsym(RTLD_NEXT, symbol);
  if (!f) dlerror(); /* now, while what it frees is still ours */
  t_busy = t_busy - 1;
  errno = saved_errno;
  __atomic_store_n(cache, f ? f : (void *)-1, __ATOMIC_RELEASE);
  return f;
}

#define SIZED_FREE(function, CALL, parameters, arguments)     \
  EXPORT void function parameters {                           \
    static void *cache;                                       \
    if (in_arena(p)) return;                                  \
    if (enter(CALL, p, 0) && !p) add(&g_file->null_calls, 1); \
    descend(p, 0, 0);                                         \
    void(*f) parameters = find(&cache, #function);            \
    if (f)                                                    \
      f arguments;                                            \
    else                                                      \
      real.free(p);                                           \
    ascend();                                                 \
  }
void free_sized(void *p, size_t size);
void free_aligned_sized(void *p, size_t alignment, size_t size);
SIZED_FREE(free_sized, CALL_FREE_SIZED, (void *p, size_t size), (p, size))
SIZED_FREE(free_aligned_sized, CALL_FREE_ALIGNED_SIZED, (void *p, size_t alignment, size_t size),
           (p, alignment, size))

#include "operators.inc"

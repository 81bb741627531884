/* A program, or with -shared a library, that is special in the way its macros say. It is looked at,
   not run. */
#include <stddef.h>

static char g_pool[4096];

#if defined(OWN_MALLOC) || defined(HIDDEN_MALLOC)
#ifdef HIDDEN_MALLOC
#define VISIBILITY __attribute__((visibility("hidden"), noinline))
#else
#define VISIBILITY __attribute__((noinline))
#endif
VISIBILITY void* malloc(size_t size) { return size < sizeof g_pool ? g_pool : NULL; }
VISIBILITY void free(void* block) { *(volatile char*)block = 0; }
#else
void* malloc(size_t size);
void free(void* block);
#endif

#ifdef MALLOCX_STUB
void* mallocx(size_t size, int flags) { return flags ? NULL : g_pool + size; }
void sdallocx(void* block, size_t size, int flags) { *(char*)block = (char)(size + flags); }
#endif
#ifdef WEAK_MALLOCX
__attribute__((weak))
#endif
#if defined(USES_MALLOCX) || defined(WEAK_MALLOCX)
extern void*
mallocx(size_t size, int flags);
#endif
#ifdef USES_LIBC_MALLOC
extern void* __libc_malloc(size_t size);
#endif
#ifdef PREFIXED_JEMALLOC
int je_mallctlbymib(void) { return 1; }
#endif
#ifdef JEMALLOC_TEXT
const char* volatile g_text = "<jemalloc>: Out-of-range conf value";
#endif
#ifdef GO_NOTE
__asm__(
    ".section .note.go.buildid, \"a\", @note\n.balign 4\n.long 4\n.long 4\n.long 4\n"
    ".asciz \"Go\\0\"\n.ascii \"abcd\"\n.previous\n");
#endif

#ifdef NO_MALLOC
#define ALLOCATE(size) (g_pool + (size))
#define RELEASE(block) (void)(block)
#else
#define ALLOCATE malloc
#define RELEASE free
#endif

int use_memory(void) {
  char* volatile block = ALLOCATE(10);
#if defined(USES_MALLOCX)
  block = mallocx(10, 0);
#elif defined(WEAK_MALLOCX)
  if (mallocx) block = mallocx(10, 0);
#elif defined(USES_LIBC_MALLOC)
  block = __libc_malloc(10);
#endif
#ifdef PREFIXED_JEMALLOC
  block += je_mallctlbymib();
#endif
#ifdef JEMALLOC_TEXT
  block += g_text != NULL;
#endif
  RELEASE(block);
  return 0;
}

int main(void) { return use_memory(); }

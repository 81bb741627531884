#include <string.h>
#include <unistd.h>

#include "formats/wire/session.h"
#include "tracer/preload/image.h"
#include "tracer/preload/syscalls.h"
#include "tracer/preload/text.h"

#include <dlfcn.h>
#include <errno.h>

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

Config g_config;

namespace {

struct {
  uint64_t device, inode;
} g_stderr;  // of standard error when the image started

constexpr size_t kEnvironmentBytes =
    2 * 1024 * 1024;  // the kernel's usual limit for one argument list

// Before libc has set `environ` (a preinit function, the dynamic linker itself), the kernel still
// has what the image was started with. Mapped once, kept.
const char* initial_environment(size_t* bytes) {
  static char* block;
  static size_t used;
  if (!block) {
    void* p = sys::mmap(nullptr, kEnvironmentBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const long fd = p ? sys::open("/proc/self/environ", O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return nullptr;
    block = static_cast<char*>(p);
    for (long n; used < kEnvironmentBytes - 1 && (n = sys::read(static_cast<int>(fd), block + used,
                                                                kEnvironmentBytes - 1 - used)) > 0;)
      used += static_cast<size_t>(n);
    sys::close(static_cast<int>(fd));
  }
  *bytes = used;
  return block;
}

}  // namespace

const char* environment(const char* name) {
  const size_t n = strlen(name);
  if (environ) {
    for (char** e = environ; *e; ++e)
      if (strncmp(*e, name, n) == 0 && (*e)[n] == '=') return *e + n + 1;
    return nullptr;
  }
  size_t bytes = 0;
  const char* block = initial_environment(&bytes);
  for (const char* p = block; p && p < block + bytes; p += strlen(p) + 1)
    if (strncmp(p, name, n) == 0 && p[n] == '=') return p + n + 1;
  return nullptr;
}

namespace {

bool has_option(const char* list, const char* name) {
  const size_t n = strlen(name);
  while (list && *list) {
    const size_t k = strcspn(list, ",");
    if (k == n && memcmp(list, name, n) == 0) return true;
    list += k + (list[k] != 0);
  }
  return false;
}

// The number behind `name=`; 0 where there is none.
uint64_t option_value(const char* list, const char* name) {
  const size_t n = strlen(name);
  while (list && *list) {
    const size_t k = strcspn(list, ",");
    if (k > n && memcmp(list, name, n) == 0 && list[n] == '=') {
      uint64_t v = 0;
      for (const char* p = list + n + 1; *p >= '0' && *p <= '9'; ++p)
        v = v * 10 + static_cast<uint64_t>(*p - '0');
      return v;
    }
    list += k + (list[k] != 0);
  }
  return 0;
}

const char* error_name(long error) {
  switch (error < 0 ? -error : error) {
    case 0:
      return "";
    case ENOSPC:
      return "no space left on device";
    case EDQUOT:
      return "disk quota exceeded";
    case EFBIG:
      return "file size limit reached (ulimit -f)";
    case ENOMEM:
      return "out of memory or address space (ulimit -v)";
    case EACCES:
      return "permission denied";
    case EPERM:
      return "operation not permitted";
    case ENOENT:
      return "no such file or directory";
    case ENOTDIR:
      return "not a directory";
    case EROFS:
      return "read-only file system";
    case EBADF:
      return "descriptor closed";
    case EIO:
      return "input/output error";
    case EMFILE:
      return "too many open files";
    case ENAMETOOLONG:
      return "file name too long";
    case EEXIST:
      return "all file names are taken";
    default:
      return "system error";
  }
}

}  // namespace

void read_config() {
  if (g_config.ready) return;
  g_config.ready = true;
  if (struct stat st; sys::fstat(2, &st) == 0) g_stderr = {st.st_dev, st.st_ino};
  const char* output = environment(wire::kEnvOutput);
  if (!output || !*output) output = wire::kDefaultOutput;
  Text path(g_config.output, sizeof g_config.output);
  if (output[0] != '/') {
    char cwd[2048];
    // A '%' in the directory's own name is no directive.
    if (sys::getcwd(cwd, sizeof cwd) > 0) {
      for (const char* p = cwd; *p; ++p) path.add(*p == '%' ? "%%" : p, *p == '%' ? 2 : 1);
      path.add("/");
    }
  }
  path.add(output);
  if (const char* session = environment(wire::kEnvSession))
    Text(g_config.session, sizeof g_config.session).add(session);
  const char* options = environment(wire::kEnvOptions);
  g_config.strict = has_option(options, "strict");
  g_config.dense = has_option(options, "dense") || g_config.strict;
  g_config.owners = has_option(options, "owners");
  g_config.follow = !has_option(options, "nofollow");
  g_config.paused = has_option(options, "paused");
  g_config.usable = has_option(options, "usable");
  g_config.latency = has_option(options, "latency");
  g_config.ring_bytes = option_value(options, "ring");
  g_config.max_bytes = option_value(options, "max_size");
  Text text(g_config.options, sizeof g_config.options);
  text.add(g_config.strict ? "order=strict" : "order=plain")
      .add(g_config.dense ? " stamps=dense" : " stamps=sparse")
      .add(g_config.follow ? " follow=yes" : " follow=no");
  if (g_config.paused) text.add(" start=paused");
  if (g_config.usable) text.add(" usable=yes");
  if (g_config.latency) text.add(" latency=yes");
  if (g_config.ring_bytes) text.add(" ring=").add(g_config.ring_bytes);
  if (g_config.max_bytes) text.add(" max_size=").add(g_config.max_bytes);
}

void leave_environment() {
  Dl_info self;
  if (!dladdr(reinterpret_cast<void*>(&leave_environment), &self)) return;
  const char* own = strrchr(self.dli_fname, '/');
  own = own ? own + 1 : self.dli_fname;
  const size_t own_bytes = strlen(own);
  char* list = const_cast<char*>(environment("LD_PRELOAD"));
  if (!list) return;
  // In place: what stays is never longer than what was there.
  char* out = list;
  for (const char* p = list; *p;) {
    const size_t n = strcspn(p, ": ");
    const size_t step = n + (p[n] != 0);
    const bool is_own = n >= own_bytes && memcmp(p + n - own_bytes, own, own_bytes) == 0;
    if (!is_own) {
      memmove(out, p, step);
      out += step;
    }
    p += step;
  }
  if (out > list && (out[-1] == ':' || out[-1] == ' ')) --out;
  *out = 0;
}

namespace {

// Whether standard error is still what the image was started with, or something else that lines may
// be written to: a daemon closes it, and the number may become a database's.
bool stderr_takes_lines() {
  struct stat st;
  if (sys::fstat(2, &st) < 0) return false;
  if (st.st_dev == g_stderr.device && st.st_ino == g_stderr.inode) return true;
  if (S_ISCHR(st.st_mode)) return true;
  const long flags = sys::fcntl(2, F_GETFL, 0);
  return S_ISREG(st.st_mode) && flags >= 0 && (flags & O_APPEND);
}

// Never waits (a pipe that nobody empties), never raises a signal (SIGPIPE, SIGXFSZ, SIGTTOU).
void say(const char* line, size_t bytes) {
  if (!stderr_takes_lines()) return;
  sys::SignalsBlocked signals;
  struct pollfd ready = {2, POLLOUT, 0};
  if (sys::poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT)) return;
  const long r = sys::write(2, line, bytes);
  if (r == -EPIPE) signals.take_back(SIGPIPE);
  if (r == -EFBIG) signals.take_back(SIGXFSZ);
}

}  // namespace

void complain(const char* what, long error) {
  char line[512], exe[256];
  const long n = sys::readlink("/proc/self/exe", exe, sizeof exe - 1);
  exe[n > 0 ? n : 0] = 0;
  const char* slash = strrchr(exe, '/');
  Text text(line, sizeof line);
  text.add("alloctape: ").add(n > 0 ? (slash ? slash + 1 : exe) : "program").add(" (pid ");
  text.add(static_cast<uint64_t>(sys::getpid())).add("): ").add(what);
  if (error) {
    text.add(": ").add(error_name(error)).add(" (errno ");
    text.add(static_cast<uint64_t>(error < 0 ? -error : error)).add(")");
  }
  text.add("\n");
  say(text.c_str(), text.size());
}

}  // namespace alloctape::tracer

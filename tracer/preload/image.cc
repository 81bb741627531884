#include "tracer/preload/image.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "formats/wire/session.h"
#include "tracer/preload/clock.h"
#include "tracer/preload/elf_lookup.h"
#include "tracer/preload/file.h"
#include "tracer/preload/maps.h"
#include "tracer/preload/real_functions.h"
#include "tracer/preload/stream.h"
#include "tracer/preload/syscalls.h"
#include "tracer/preload/text.h"

#include "tracer/preload/forbidden.h"

#ifndef ALLOCTAPE_VERSION
#error "the build passes ALLOCTAPE_VERSION"
#endif

namespace alloctape::tracer {

// Alone in its page: the trace's header takes its place.
alignas(4096) unsigned char g_header_page[wire::kTraceHeaderBytes];
static_assert(sizeof g_header_page == 4096);

namespace {

Image* g_image;  // the pointer survives fork, what it points to does not
bool g_fork_wipes = true;

// Which image this memory last belonged to: how a fork child knows its parent.
struct Identity {
  int pid;
  uint64_t image_id;
} g_identity;

// What is known of the allocator underneath; found once, since the dynamic linker's locks are not
// to be touched in a fork child.
struct Allocator {
  bool known;
  char path[1024];
  char build_id[64];
} g_allocator;

constexpr size_t kScratchBytes = 256 * 1024;  // most of it never touched
// A thread that writes to a slot is hardly ever overtaken by this many others.
constexpr uint64_t kMinRingSlots = 16;

uint64_t mix(uint64_t h, uint64_t v) {
  h ^= v;
  h *= 0x9e3779b97f4a7c15u;
  return h ^ (h >> 29);
}

// Field 22 of /proc/self/stat; the name in field 2 may hold anything, so count from its last ')'.
uint64_t process_start_ticks() {
  char text[1024];
  const long fd = sys::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const long n = sys::read(static_cast<int>(fd), text, sizeof text - 1);
  sys::close(static_cast<int>(fd));
  if (n <= 0) return 0;
  text[n] = 0;
  const char* p = strrchr(text, ')');
  for (int field = 2; p && field < 22; ++field) p = strchr(p + 1, ' ');
  uint64_t v = 0;
  if (p)
    for (++p; *p >= '0' && *p <= '9'; ++p) v = v * 10 + static_cast<uint64_t>(*p - '0');
  return v;
}

int find_build_id(struct dl_phdr_info* info, size_t, void* wanted) {
  const auto target = reinterpret_cast<uintptr_t>(wanted);
  bool holds = false;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& ph = info->dlpi_phdr[i];
    if (ph.p_type == PT_LOAD && target - (info->dlpi_addr + ph.p_vaddr) < ph.p_memsz) holds = true;
  }
  if (!holds) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& ph = info->dlpi_phdr[i];
    if (ph.p_type != PT_NOTE) continue;
    const char* p = reinterpret_cast<const char*>(info->dlpi_addr + ph.p_vaddr);
    const char* end = p + ph.p_memsz;
    while (p + sizeof(ElfW(Nhdr)) <= end) {
      const auto* note = reinterpret_cast<const ElfW(Nhdr)*>(p);
      const char* name = p + sizeof *note;
      const char* body = name + ((note->n_namesz + 3) & ~3u);
      if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && memcmp(name, "GNU", 4) == 0) {
        size_t n = 0;
        for (unsigned b = 0; b < note->n_descsz && n + 3 < sizeof g_allocator.build_id; ++b) {
          const unsigned char byte = static_cast<unsigned char>(body[b]);
          g_allocator.build_id[n++] = "0123456789abcdef"[byte >> 4];
          g_allocator.build_id[n++] = "0123456789abcdef"[byte & 15];
        }
        return 1;
      }
      p = body + ((note->n_descsz + 3) & ~3u);
    }
  }
  return 1;
}

void learn_about_allocator() {
  if (g_allocator.known) return;
  g_allocator.known = true;
  void* f = reinterpret_cast<void*>(g_real.malloc_);
  Dl_info info;
  if (dladdr(f, &info) && info.dli_fname)
    Text(g_allocator.path, sizeof g_allocator.path).add(info.dli_fname);
  dl_iterate_phdr(find_build_id, f);
}

// Builds the metadata block in scratch memory.
class Metadata {
 public:
  Metadata(unsigned char* at, size_t capacity) : p_(at), capacity_(capacity) {}
  void add(wire::MetadataKey key, const char* bytes, size_t n) {
    const size_t room = used_ + sizeof(wire::MetadataEntry) + 8 < capacity_
                            ? capacity_ - used_ - sizeof(wire::MetadataEntry) - 8
                            : 0;
    if (n > room) n = room;
    if (n == 0) return;
    const wire::MetadataEntry entry{key, static_cast<uint32_t>(n)};
    memcpy(p_ + used_, &entry, sizeof entry);
    memcpy(p_ + used_ + sizeof entry, bytes, n);
    used_ += (sizeof entry + n + 7) & ~size_t{7};
  }
  void add(wire::MetadataKey key, const char* text) { add(key, text, strlen(text)); }
  size_t bytes() const { return used_; }

 private:
  unsigned char* p_;
  size_t capacity_;
  size_t used_ = 0;
};

size_t read_file(const char* path, char* out, size_t capacity) {
  const long fd = sys::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  size_t used = 0;
  while (used < capacity) {
    const long n = sys::read(static_cast<int>(fd), out + used, capacity - used);
    if (n <= 0) break;
    used += static_cast<size_t>(n);
  }
  sys::close(static_cast<int>(fd));
  return used;
}

// LD_PRELOAD without the tracer's own entry.
void preload_list(Text& out) {
  const char* list = environment("LD_PRELOAD");
  Dl_info self;
  if (!list || !dladdr(reinterpret_cast<void*>(&preload_list), &self)) return;
  const char* own = strrchr(self.dli_fname, '/');
  own = own ? own + 1 : self.dli_fname;
  while (*list) {
    const size_t n = strcspn(list, ": ");
    const bool is_own = n >= strlen(own) && memcmp(list + n - strlen(own), own, strlen(own)) == 0;
    if (n && !is_own) {
      if (out.size()) out.add(":");
      out.add(list, n);
    }
    list += n + (list[n] != 0);
  }
}

size_t build_metadata(unsigned char* scratch, size_t capacity, char* text, size_t text_bytes) {
  Metadata m(scratch, capacity);
  const long n = sys::readlink("/proc/self/exe", text, text_bytes);
  if (n > 0) m.add(wire::MetadataKey::kExecutable, text, static_cast<size_t>(n));
  m.add(wire::MetadataKey::kCommandLine, text, read_file("/proc/self/cmdline", text, text_bytes));
  if (sys::getcwd(text, text_bytes) > 0) m.add(wire::MetadataKey::kWorkingDirectory, text);
  Text preload(text, text_bytes);
  preload_list(preload);
  m.add(wire::MetadataKey::kPreload, preload.c_str());
  m.add(wire::MetadataKey::kAllocatorPath, g_allocator.path);
  m.add(wire::MetadataKey::kAllocatorBuildId, g_allocator.build_id);
  m.add(wire::MetadataKey::kTracerVersion, ALLOCTAPE_VERSION);
  m.add(wire::MetadataKey::kOptions, g_config.options);
  struct utsname kernel;
  if (sys::call(SYS_uname, sys::word(&kernel)) == 0)
    m.add(wire::MetadataKey::kHostKernel, kernel.release);
  return m.bytes();
}

// Tells `record` of this image; learns from it how fast the clock runs, and whether to record yet.
// No session: no word.
void register_image(const char* path, uint64_t* ticks_per_second, wire::ControlState* state) {
  if (!g_config.session[0]) return;
  const long fd = sys::open(g_config.session, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  auto* session = static_cast<wire::SessionHeader*>(
      sys::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, static_cast<int>(fd), 0));
  if (session) {
    if (memcmp(session->magic, wire::kSessionMagic, sizeof session->magic) == 0) {
      *ticks_per_second = __atomic_load_n(&session->ticks_per_second, __ATOMIC_RELAXED);
      const uint32_t initial = __atomic_load_n(&session->initial_state, __ATOMIC_RELAXED);
      if (initial > 0 && initial <= static_cast<uint32_t>(wire::ControlState::kStopped))
        *state = static_cast<wire::ControlState>(initial);
      const uint32_t slot = __atomic_fetch_add(&session->next_slot, 1, __ATOMIC_RELAXED);
      if (slot < wire::kSessionSlots) {
        const uint64_t at =
            sizeof(wire::SessionHeader) + uint64_t{slot} * sizeof(wire::SessionSlot);
        const uint32_t pid = static_cast<uint32_t>(sys::getpid()), ready = 1;
        sys::pwrite(static_cast<int>(fd), path, strlen(path) + 1,
                    at + offsetof(wire::SessionSlot, path));
        sys::pwrite(static_cast<int>(fd), &pid, sizeof pid, at + offsetof(wire::SessionSlot, pid));
        // Last: whoever sees it set sees the rest.
        sys::pwrite(static_cast<int>(fd), &ready, sizeof ready,
                    at + offsetof(wire::SessionSlot, ready));
      }
    }
    sys::munmap(session, 4096);
  }
  sys::close(static_cast<int>(fd));
}

void fill_header(wire::TraceHeader* h, uint32_t sequence) {
  struct timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  memcpy(h->magic, wire::kTraceMagic, sizeof h->magic);
  h->version = wire::kTraceVersion;
  h->header_bytes = wire::kTraceHeaderBytes;
  if (maps_are_recorded) h->features |= wire::kFeatureMaps;
  if (!g_config.dense) h->features |= wire::kFeatureSparseStamps;
  if (!g_config.dense && (g_config.session[0] || g_config.owners))
    h->features |= wire::kFeatureOwnedStamps;
  if (g_config.strict) h->features |= wire::kFeatureStrictOrder;
  if (g_config.usable) h->features |= wire::kFeatureUsable;
  if (g_config.latency) h->features |= wire::kFeatureLatency;
  if (g_config.ring_bytes) h->features |= wire::kFeatureRing;
  h->required_features = wire::kRequiresNotes;  // a command may come at any time
  h->max_bytes = g_config.max_bytes;
  h->pid = static_cast<uint32_t>(sys::getpid());
  h->parent_pid = static_cast<uint32_t>(sys::getppid());
  h->process_start_ticks = process_start_ticks();
  h->image_sequence = sequence;
  h->page_bytes = static_cast<uint32_t>(getauxval(AT_PAGESZ));
  h->clock_kind =
      g_clock_mode == ClockMode::kMonotonic ? wire::ClockKind::kMonotonicNs : wire::ClockKind::kTsc;
  h->clock_shift = clock_shift();
  h->ticks_per_second = g_clock_mode == ClockMode::kMonotonic ? 1000000000u : 0;
  h->start_ticks = raw_ticks();
  h->start_monotonic_ns = monotonic_ns();
  h->start_realtime_ns =
      static_cast<uint64_t>(wall.tv_sec) * 1000000000u + static_cast<uint64_t>(wall.tv_nsec);
  h->image_id = mix(mix(mix(mix(0x616c6c6f63ull, h->pid), h->process_start_ticks), sequence),
                    h->start_realtime_ns);
  // Same memory, another pid: this image came by fork.
  if (g_identity.image_id && g_identity.pid != static_cast<int>(h->pid))
    h->parent_image_id = g_identity.image_id;
  h->state = wire::TraceState::kRecording;
}

// A place for the ring, whole slots. It takes space as it fills: of the many images of a recording,
// most never get round it. REQUIRES: the header is in the file.
long make_ring(Image* image, wire::TraceHeader* header) {
  uint64_t slots = g_config.ring_bytes / wire::kRingSlotBytes;
  if (slots < kMinRingSlots) slots = kMinRingSlots;
  image->ring_busy = static_cast<uint8_t*>(wiped_on_fork((slots + 4095) & ~uint64_t{4095}));
  if (!image->ring_busy) return -ENOMEM;
  header->ring_offset = (header->file_end + 4095) & ~uint64_t{4095};
  header->ring_bytes = slots * wire::kRingSlotBytes;
  header->file_end = header->ring_offset + header->ring_bytes;
  struct iovec part = {header, sizeof *header};
  return write_at(image, &part, 1, 0);
}

long start_image(Image* image, unsigned char* scratch) {
  char* path = reinterpret_cast<char*>(scratch);
  unsigned char* block = scratch + 8192;
  char* text = reinterpret_cast<char*>(scratch + 128 * 1024);
  uint32_t sequence = 0;
  const long fd = create_trace_file(path, 4096, &sequence);
  if (fd < 0) return fd;
  image->fd = static_cast<int>(fd);
  struct stat st;
  sys::fstat(image->fd, &st);
  image->device = st.st_dev;
  image->inode = st.st_ino;
  image->dense = g_config.dense;

  // Header page and metadata in one write; only then is the page mapped, so that it exists.
  auto* page = block;
  auto* header = reinterpret_cast<wire::TraceHeader*>(page);
  fill_header(header, sequence);
  wire::ControlState state =
      g_config.paused ? wire::ControlState::kPaused : wire::ControlState::kRecord;
  uint64_t ticks_per_second = 0;
  register_image(path, &ticks_per_second, &state);
  if (header->clock_kind == wire::ClockKind::kTsc) header->ticks_per_second = ticks_per_second;
  // Blocks of a heap that was inherited are as unknown as those from before a late start.
  image->starts_late = state != wire::ControlState::kRecord || header->parent_image_id;
  header->control = wire::control_word(0, state);
  auto* metadata = reinterpret_cast<wire::BlockHeader*>(page + wire::kTraceHeaderBytes);
  const size_t room = 128 * 1024 - 8192 - wire::kTraceHeaderBytes - sizeof *metadata;
  metadata->magic = wire::kBlockMagic;
  metadata->type = wire::BlockType::kMetadata;
  metadata->payload_bytes =
      build_metadata(reinterpret_cast<unsigned char*>(metadata + 1), room, text, 128 * 1024);
  const size_t bytes = wire::kTraceHeaderBytes + sizeof *metadata + metadata->payload_bytes;
  header->file_end = (bytes + wire::kBlockAlign - 1) & ~uint64_t{wire::kBlockAlign - 1};
  struct iovec part = {page, bytes};
  long r = write_at(image, &part, 1, 0);
  if (r >= 0 && g_config.ring_bytes) r = make_ring(image, header);
  if (r < 0) return r;
  void* mapping = sys::mmap(g_header_page, sizeof g_header_page, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_FIXED, image->fd, 0);
  if (!mapping) return -ENOMEM;
  image->header = static_cast<wire::TraceHeader*>(mapping);
  g_identity = {static_cast<int>(image->header->pid), image->header->image_id};
  return 0;
}

ALLOCTAPE_COLD Image* start(Image* image) {
  sys::SignalsBlocked signals;
  ImageState expected = ImageState::kNone;
  if (!__atomic_compare_exchange_n(&image->state, &expected, ImageState::kStarting, false,
                                   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    while ((expected = __atomic_load_n(&image->state, __ATOMIC_ACQUIRE)) == ImageState::kStarting)
      sys::sched_yield();
    return expected == ImageState::kRecording ? image : nullptr;
  }
  const int saved_errno = errno;
  long r = -ENOMEM;
  read_config();
  learn_about_allocator();
  auto* scratch = static_cast<unsigned char*>(sys::mmap(
      nullptr, kScratchBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (scratch) {
    r = start_image(image, scratch);
    sys::munmap(scratch, kScratchBytes);
  }
  if (r < 0) complain("not recorded: the trace file cannot be written", r);
  __atomic_store_n(&image->state, r < 0 ? ImageState::kOff : ImageState::kRecording,
                   __ATOMIC_RELEASE);
  errno = saved_errno;
  return r < 0 ? nullptr : image;
}

// Kernels before 4.14 cannot wipe on fork: the child does it itself, at the price of missing what
// runs before this handler.
void after_fork_in_child() {
  if (g_fork_wipes) return;
  forget_stream();
  if (g_image) memset(static_cast<void*>(g_image), 0, sizeof *g_image);
}

__attribute__((constructor)) void begin() {
  make_thread_key();
  remember_initial_objects();
  pthread_atfork(record_fork, nullptr, after_fork_in_child);
  if (real_functions_ready()) ensure_image();
  if (g_config.ready && !g_config.follow) leave_environment();
}

__attribute__((destructor)) void finish() {
  Image* image = current_image();
  if (!image) return;
  wire::TraceState recording = wire::TraceState::kRecording;
  __atomic_compare_exchange_n(&image->header->state, &recording, wire::TraceState::kFinished, false,
                              __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

}  // namespace

void* wiped_on_fork(size_t bytes) {
  void* p = sys::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p && sys::madvise(p, bytes, MADV_WIPEONFORK) < 0) g_fork_wipes = false;
  return p;
}

Image* ensure_image() {
  Image* image = __atomic_load_n(&g_image, __ATOMIC_ACQUIRE);
  if (ALLOCTAPE_UNLIKELY(!image)) {
    void* fresh = wiped_on_fork(4096);
    if (!fresh) return nullptr;
    static_assert(sizeof(Image) <= 4096);
    if (!__atomic_compare_exchange_n(&g_image, &image, static_cast<Image*>(fresh), false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      sys::munmap(fresh, 4096);
    } else {
      image = static_cast<Image*>(fresh);
    }
  }
  switch (__atomic_load_n(&image->state, __ATOMIC_ACQUIRE)) {
    case ImageState::kRecording:
      return image;
    case ImageState::kOff:
      return nullptr;
    default:
      return start(image);
  }
}

Image* current_image() {
  Image* image = __atomic_load_n(&g_image, __ATOMIC_ACQUIRE);
  if (!image || __atomic_load_n(&image->state, __ATOMIC_ACQUIRE) != ImageState::kRecording)
    return nullptr;
  return image;
}

}  // namespace alloctape::tracer

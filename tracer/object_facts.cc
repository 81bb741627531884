#include "tracer/object_facts.h"

#include <algorithm>
#include <set>
#include <span>
#include <unordered_map>

#include "formats/wire/opcodes.h"

namespace alloctape::tracer {
namespace {

// Which allocator defines symbols of such names. A prefix of the builder's choice may stand before
// those that are compared by their end: jemalloc's je_mallctl, Rust's _rjem_mallctl.
struct AllocatorSymbol {
  enum class Match { kWhole, kStart, kEnd } match;
  std::string_view text;
  std::string_view allocator;
};
constexpr AllocatorSymbol kAllocatorSymbols[] = {
    {AllocatorSymbol::Match::kEnd, "mallctlbymib", "jemalloc"},
    {AllocatorSymbol::Match::kWhole, "tc_malloc", "tcmalloc"},
    {AllocatorSymbol::Match::kWhole, "TCMallocInternalMalloc", "tcmalloc"},
    {AllocatorSymbol::Match::kWhole, "mi_malloc", "mimalloc"},
    {AllocatorSymbol::Match::kWhole, "_mi_page_malloc", "mimalloc"},
    {AllocatorSymbol::Match::kWhole, "rpmalloc", "rpmalloc"},
    {AllocatorSymbol::Match::kWhole, "sn_malloc", "snmalloc"},
    {AllocatorSymbol::Match::kWhole, "scalable_malloc", "tbbmalloc"},
    {AllocatorSymbol::Match::kStart, "_ZN15partition_alloc", "PartitionAlloc"},
};

// Messages that an allocator brings along, also when its symbols were stripped.
struct AllocatorText {
  std::string_view text, allocator;
};
constexpr AllocatorText kAllocatorTexts[] = {
    {"<jemalloc>: ", "jemalloc"},
    {"TCMALLOC_MAX_TOTAL_THREAD_CACHE_BYTES", "tcmalloc"},
    {"mimalloc: warning: ", "mimalloc"},
    {"Memory.PartitionAlloc.", "PartitionAlloc"},
};

// jemalloc's, mimalloc's, tcmalloc's and oneTBB's names beside the malloc API.
constexpr std::string_view kNonstandard[] = {
    "mallocx",       "rallocx",
    "xallocx",       "dallocx",
    "sdallocx",      "mi_malloc",
    "mi_calloc",     "mi_zalloc",
    "mi_realloc",    "mi_free",
    "mi_new",        "mi_heap_malloc",
    "tc_malloc",     "tc_free",
    "tc_new",        "scalable_malloc",
    "scalable_free", "malloc",
    "calloc",        "realloc",
    "free",          "scalable_aligned_malloc",
};
constexpr std::string_view kSizeQueries[] = {"nallocx", "sallocx"};
constexpr std::string_view kLibc[] = {
    "__libc_malloc",   "__libc_calloc", "__libc_realloc", "__libc_free",
    "__libc_memalign", "__libc_valloc", "__libc_pvalloc",
};

// The function that starts a sanitizer's runtime.
struct SanitizerSymbol {
  std::string_view symbol, name;
};
constexpr SanitizerSymbol kSanitizers[] = {
    {"__asan_init", "AddressSanitizer"}, {"__tsan_init", "ThreadSanitizer"},
    {"__msan_init", "MemorySanitizer"},  {"__hwasan_init", "HWAddressSanitizer"},
    {"__lsan_init", "LeakSanitizer"},
};

constexpr Runtime kPython = {
    "python", "Python",
    "most of its objects lie in arenas that it maps by itself, and are not seen",
    "set PYTHONMALLOC=malloc for the recording"};
constexpr Runtime kV8 = {"v8", "the V8 JavaScript engine",
                         "the JavaScript heap is mapped memory and is not seen; its C++ side is",
                         ""};
constexpr Runtime kJava = {
    "java", "a Java virtual machine",
    "the Java heap is mapped memory and is not seen; the machine's own malloc calls are", ""};
constexpr Runtime kDotnet = {
    "dotnet", ".NET", "the managed heap is mapped memory and is not seen; native malloc calls are",
    ""};
constexpr Runtime kPhp = {"php", "PHP",
                          "the Zend memory manager maps its own chunks: what it serves is not seen",
                          "set USE_ZEND_ALLOC=0 for the recording"};
constexpr Runtime kPostgres = {
    "postgres", "PostgreSQL",
    "memory contexts take large blocks from malloc: these are seen, not what is cut from them", ""};
constexpr Runtime kRuby = {"ruby", "Ruby",
                           "pages of object slots may be mapped memory, which is not seen", ""};

struct RuntimeSymbol {
  std::string_view symbol;
  const Runtime* runtime;
};
constexpr RuntimeSymbol kRuntimeSymbols[] = {
    {"PyObject_Malloc", &kPython},
    {"Py_BytesMain", &kPython},
    {"JNI_CreateJavaVM", &kJava},
    {"JLI_Launch", &kJava},
    {"coreclr_initialize", &kDotnet},
    {"_emalloc", &kPhp},
    {"MemoryContextAlloc", &kPostgres},
    {"ruby_init", &kRuby},
    {"_ZN2v87Isolate10InitializeEPS0_RKNS0_12CreateParamsE", &kV8},
};

template <typename Range>
bool contains(const Range& range, std::string_view text) {
  return std::find(std::begin(range), std::end(range), text) != std::end(range);
}

// What a function of the API does, by its linker's name; kInvalid for any other function.
wire::OpClass class_of(std::string_view name) {
  static const auto classes = [] {
    std::unordered_map<std::string_view, wire::OpClass> all;
    for (int op = 1; op < wire::kApiOpLimit; ++op) {
      const wire::OpTraits& traits = wire::traits(static_cast<wire::Op>(op));
      if (traits.symbol != nullptr) all[traits.symbol] = traits.op_class;
    }
    return all;
  }();
  const auto found = classes.find(name);
  return found == classes.end() ? wire::OpClass::kInvalid : found->second;
}

bool is_api(std::string_view name) { return class_of(name) != wire::OpClass::kInvalid; }

bool acquires(std::string_view name) {
  const wire::OpClass op_class = class_of(name);
  return op_class == wire::OpClass::kAcquire || op_class == wire::OpClass::kResize;
}

std::string_view allocator_of_symbol(std::string_view name) {
  using Match = AllocatorSymbol::Match;
  for (const AllocatorSymbol& sign : kAllocatorSymbols) {
    const bool fits = sign.match == Match::kWhole   ? name == sign.text
                      : sign.match == Match::kStart ? name.starts_with(sign.text)
                                                    : name.ends_with(sign.text);
    if (fits) return sign.allocator;
  }
  return {};
}

// Imports may carry the prefix that jemalloc is often built with: je_malloc, je_mallocx.
bool is_one_of(std::span<const std::string_view> names, std::string_view name) {
  if (is_api(name)) return false;
  if (name.starts_with("je_")) name.remove_prefix(3);
  return contains(names, name);
}

class Gatherer {
 public:
  explicit Gatherer(const ElfFile& file) : file_(file) {}

  ObjectFacts gather() {
    file_.for_each_dynamic_symbol([this](const ElfSymbol& symbol) { take_dynamic(symbol); });
    file_.for_each_static_symbol([this](const ElfSymbol& symbol) { take_static(symbol); });
    for (const std::string& exported : exports_) internal_.erase(exported);
    for (const AllocatorText& sign : kAllocatorTexts) {
      if (facts_.allocator.empty() && file_.has_text(sign.text)) facts_.allocator = sign.allocator;
    }
    recognise_go();
    if (file_.has_text("hostfxr_main_startupinfo")) add_runtime(&kDotnet);
    facts_.exports.assign(exports_.begin(), exports_.end());
    facts_.internal.assign(internal_.begin(), internal_.end());
    facts_.imports.assign(imports_.begin(), imports_.end());
    facts_.nonstandard_imports.assign(nonstandard_.begin(), nonstandard_.end());
    facts_.nonstandard_exports.assign(provided_.begin(), provided_.end());
    facts_.weak_imports.assign(weak_.begin(), weak_.end());
    facts_.size_queries.assign(queries_.begin(), queries_.end());
    facts_.libc_imports.assign(libc_.begin(), libc_.end());
    return std::move(facts_);
  }

 private:
  void take_dynamic(const ElfSymbol& symbol) {
    if (symbol.exported && symbol.function && is_api(symbol.name)) exports_.emplace(symbol.name);
    if (!symbol.defined) {
      if (is_api(symbol.name)) imports_.emplace(symbol.name);
      if (is_one_of(kNonstandard, symbol.name)) nonstandard_.emplace(symbol.name);
      if (is_one_of(kSizeQueries, symbol.name)) queries_.emplace(symbol.name);
      if (contains(kLibc, symbol.name)) libc_.emplace(symbol.name);
      if (symbol.is_weak) weak_.emplace(symbol.name);
    } else if (symbol.exported && is_one_of(kNonstandard, symbol.name)) {
      provided_.emplace(symbol.name);
    }
    take_any(symbol);
    for (const RuntimeSymbol& sign : kRuntimeSymbols) {
      if (symbol.name == sign.symbol) add_runtime(sign.runtime);
    }
    for (const SanitizerSymbol& sign : kSanitizers) {
      if (symbol.name == sign.symbol && !symbol.is_weak) facts_.sanitizer = sign.name;
    }
  }

  void take_static(const ElfSymbol& symbol) {
    if (symbol.defined && symbol.function && is_api(symbol.name)) internal_.emplace(symbol.name);
    take_any(symbol);
  }

  void take_any(const ElfSymbol& symbol) {
    if (!symbol.defined || !facts_.allocator.empty()) return;
    facts_.allocator = allocator_of_symbol(symbol.name);
  }

  void recognise_go() {
    const auto& notes = file_.notes();
    facts_.is_go =
        file_.has_section(".note.go.buildid") || file_.has_section(".gopclntab") ||
        std::any_of(notes.begin(), notes.end(), [](const ElfNote& n) { return n.name == "Go"; });
  }

  void add_runtime(const Runtime* runtime) {
    auto& list = facts_.runtimes;
    if (std::find(list.begin(), list.end(), runtime) == list.end()) list.push_back(runtime);
  }

  const ElfFile& file_;
  ObjectFacts facts_;
  std::set<std::string> exports_, internal_, imports_, nonstandard_, provided_, weak_, queries_,
      libc_;
};

bool has_both(const std::vector<std::string>& names) {
  return contains(names, "malloc") && contains(names, "free");
}

}  // namespace

bool ObjectFacts::has_private_malloc() const { return has_both(internal); }

bool ObjectFacts::imports_malloc() const {
  return std::any_of(imports.begin(), imports.end(), acquires);
}

bool exports_malloc(const ElfFile& file) {
  bool malloc = false, free = false;
  file.for_each_dynamic_symbol([&](const ElfSymbol& symbol) {
    if (!symbol.exported || !symbol.function) return;
    malloc = malloc || symbol.name == "malloc";
    free = free || symbol.name == "free";
  });
  return malloc && free;
}

ObjectFacts gather_facts(const ElfFile& file) { return Gatherer(file).gather(); }

}  // namespace alloctape::tracer

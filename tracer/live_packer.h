// Packs the traces of a recording while the programs run, in a thread of its own that takes only
// time that nobody else wants; and rewrites each compactly when its image has ended.
//
// Thread safety: the owner's calls come from one thread.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "formats/block_packer.h"
#include "tracer/block_harvest.h"
#include "tracer/image_monitor.h"
#include "tracer/record_options.h"

namespace alloctape::tracer {

class LivePacker {
 public:
  LivePacker(int level, PackWhen when);  // level 0: everything stays as the programs write it
  ~LivePacker();                         // stops; what is not done stays as it is
  LivePacker(const LivePacker&) = delete;
  LivePacker& operator=(const LivePacker&) = delete;

  // Tells what has become of the images. `ticks_per_second` goes into traces that do not know it.
  void update(const std::vector<Image>& images, std::uint64_t ticks_per_second);
  // Rewrites what has ended, at full speed. `go_on` is asked every now and then, with a word on how
  // far it has come; false: the rest stays as it is.
  void finish(const std::vector<Image>& images, std::uint64_t ticks_per_second,
              const std::function<bool(const std::string&)>& go_on);
  // What could not be packed, and why. REQUIRES: finish() was called.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  struct Trace {
    std::string path;
    std::unique_ptr<BlockHarvest> harvest;  // while it is being packed live
    bool opened = false, ended = false, done = false;
  };

  void work(bool finishing);
  bool stopped();
  bool pack_live();
  bool rewrite(Trace& trace);  // false: stopped in between
  void rest(std::uint64_t ns);

  const int level_;
  const PackWhen when_;
  formats::BlockPacker packer_;
  std::vector<std::unique_ptr<Trace>> traces_;  // by the image's number
  std::vector<std::string> warnings_;

  std::mutex mutex_;  // guards what follows, and Trace::ended
  std::condition_variable wake_;
  std::size_t known_ = 0, left_ = 0;  // images; of those that ended, not done yet
  std::uint64_t ticks_per_second_ = 0;
  bool stop_ = false;
  std::thread worker_;
};

}  // namespace alloctape::tracer

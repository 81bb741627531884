// Ops of mmap's family: the program's own mappings, made again by system calls. Apart from the
// blocks in every book: no latency, no live bytes.
#pragma once

#include <cstdint>

#include "simulator/replayer/replay_context.h"

namespace alloctape::simulator {

// Carries out the op at `words`, in a lane of the replay. True: the mappings are a good deal larger
// than ever before, and memory should be looked at.
bool replay_map(Context& context, std::uint32_t lane, const std::uint64_t* words);
// Unmaps what a slot holds, at the end. REQUIRES: is_mapping(slot).
void unmap_left(Slot& slot);

}  // namespace alloctape::simulator

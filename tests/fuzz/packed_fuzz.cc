// Packed blocks, both ways: any bytes as a payload are refused or unpacked in peace, and any bytes
// as words come back as they were.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "formats/block_packer.h"
#include "formats/block_unpacker.h"

namespace {

using namespace alloctape;

void require(bool what) {
  if (!what) std::abort();
}

void unpack(std::span<const std::byte> payload, std::uint32_t parts) {
  static formats::BlockUnpacker unpacker;
  auto head = formats::read_packed_head(payload, parts);
  if (!head) {
    require(!head.error().message.empty());
    return;
  }
  require(head->header.words <= wire::kMaxPackedWords);
  std::vector<std::uint64_t> words;
  if (unpacker.unpack(payload, *head, words)) require(words.size() == head->header.words);
}

void round_trip(const std::uint8_t* data, std::size_t size) {
  static formats::BlockPacker packer(1);
  static formats::BlockUnpacker unpacker;
  std::vector<std::uint64_t> words(size / 8), result;
  if (!words.empty()) std::memcpy(words.data(), data, words.size() * 8);
  // In two parts, so that records are cut too.
  const auto half = static_cast<std::uint32_t>(words.size() / 2);
  const auto rest = static_cast<std::uint32_t>(words.size() - half);
  const formats::RawBlock blocks[] = {{0, 1, 2, half, words.data()},
                                      {1, 3, 4, rest, words.data() + half}};
  if (!formats::BlockPacker::fit(2, words.size())) return;
  auto payload = packer.pack(blocks);
  require(payload.ok());
  auto head = formats::read_packed_head(*payload, 2);
  require(head.ok());
  require(unpacker.unpack(*payload, *head, result).ok());
  require(result == words);
}

}  // namespace

// The first byte says how many parts the payload behind it has.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  unpack({reinterpret_cast<const std::byte*>(data + 1), size - 1}, data[0]);
  round_trip(data + 1, size - 1);
  return 0;
}

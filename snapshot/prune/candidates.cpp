#include "snapshot/prune/candidates.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace nodesnap {
namespace {

constexpr std::size_t kIdBytes = sizeof(PackId::bytes);

template <typename T>
void put(std::string& bytes, T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
T take(std::string_view& bytes) {
    T value{};
    std::memcpy(&value, bytes.data(), sizeof(value));
    bytes.remove_prefix(sizeof(value));
    return value;
}

// How much of it stays, in 255ths.
char rank_of(const PackState& pack, const CompactionGain& gain) {
    if (pack.generations.size() > 1 || gain.bytes_before == 0) {
        return 0;
    }
    return static_cast<char>(1 + std::min<std::uint64_t>(254, gain.bytes_after * 254 / gain.bytes_before));
}

}  // namespace

void CompactionCandidates::add(const PackState& pack, const CompactionGain& gain) {
    std::string key(1, rank_of(pack, gain));
    key.append(reinterpret_cast<const char*>(pack.id.bytes.data()), kIdBytes);
    std::string value;
    put(value, pack.kind);
    put(value, pack.bytes);
    put(value, static_cast<std::uint32_t>(pack.generations.size()));
    for (const std::uint32_t generation : pack.generations) {
        put(value, generation);
    }
    value += pack.used.bits();
    sorter_.add(key, value);
}

bool CompactionCandidates::next(PackState& pack) {
    std::string_view key, value;
    if (!sorter_.next(key, value)) {
        return false;
    }
    pack = {};
    std::memcpy(pack.id.bytes.data(), key.data() + 1, kIdBytes);
    pack.kind = take<layout::PackKind>(value);
    pack.bytes = take<std::uint64_t>(value);
    for (auto left = take<std::uint32_t>(value); left > 0; --left) {
        pack.generations.push_back(take<std::uint32_t>(value));
    }
    pack.used = UsedSegments::of_bits(value);
    return true;
}

}  // namespace nodesnap

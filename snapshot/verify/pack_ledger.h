// PackLedger: brings together, pack by pack and in bounded memory, what is known of each: that it exists, that a backup says it wrote it,
// and which of its segments file maps use. Filled in any order by one thread, then read once in ascending order of pack ids.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "snapshot/repository/external_sorter.h"
#include "snapshot/repository/layout.h"
#include "snapshot/repository/records.h"

namespace nodesnap {

// What one run of a file map takes from a pack.
struct SegmentUse {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    std::uint32_t skip = 0;
    std::uint64_t length = 0;
};

// One fact about a pack. Of one pack, objects come before mentions before uses, if they were added so.
struct PackFact {
    enum class Kind : std::uint8_t { kExists, kMentioned, kUsed };
    Kind kind = Kind::kExists;
    PackId id;
    layout::PackKind pack_kind = layout::PackKind::kData;  // kExists
    std::uint32_t generation = 0;                          // kExists
    std::uint64_t size = 0;                                // kExists
    std::vector<SegmentUse> uses;                          // kUsed: some of them
};

class PackLedger {
public:
    explicit PackLedger(const std::string& scratch_directory);

    void exists(const layout::PackName& name, std::uint64_t size);
    void mentioned(const PackId& id);
    void used(const Run& run);  // one with data

    // No more additions after the first call. False at the end.
    bool next(PackFact& fact);

private:
    static constexpr std::size_t kSorterBytes = 16U << 20;
    static constexpr std::size_t kBatchBytes = 4096;        // of one pack's uses, before they go to the sorter
    static constexpr std::size_t kPendingBytes = 8U << 20;  // of all packs' uses

    void flush(const PackId& id, std::string& uses);
    void flush_all();

    ExternalSorter sorter_;
    std::map<PackId, std::string> pending_;
    std::size_t pending_bytes_ = 0;
    bool reading_ = false;
};

}  // namespace nodesnap

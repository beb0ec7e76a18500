// What prune knows of one pack: which objects there are of it, and which of its segments backups use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "snapshot/repository/pack.h"
#include "snapshot/verify/pack_ledger.h"

namespace nodesnap {

// A set of segment numbers. Memory: up to 8 KiB.
class UsedSegments {
public:
    void add(std::uint32_t first, std::uint32_t count);
    bool contains(std::uint32_t number) const {
        return number / 8 < bits_.size() && (static_cast<unsigned char>(bits_[number / 8]) >> number % 8 & 1U) != 0;
    }
    bool empty() const { return bits_.empty(); }
    // None is beyond the pack's end or was dropped. If that isn't so, a backup is damaged.
    bool fit(const PackIndex& index) const;
    const std::string& bits() const { return bits_; }
    static UsedSegments of_bits(std::string_view bits);

private:
    std::string bits_;           // number n is bit n % 8 of byte n / 8
    bool beyond_limit_ = false;  // a number that no pack can have
};

struct PackState {
    PackId id;
    layout::PackKind kind = layout::PackKind::kData;
    std::vector<std::uint32_t> generations;  // as they were listed
    std::uint64_t bytes = 0;                 // of all of them
    bool mentioned = false;                  // a backup says that it wrote it: it must be there, whatever is in use of it
    bool ambiguous = false;                  // there is another pack of the same id, of another kind: never touched
    UsedSegments used;
    bool needed() const { return mentioned || !used.empty(); }
};

// Brings together what a ledger tells of each pack, in ascending order of their ids.
class PackStates {
public:
    explicit PackStates(PackLedger& ledger) : ledger_(ledger) { more_ = ledger_.next(fact_); }
    bool next(PackState& state);  // false at the end

private:
    PackLedger& ledger_;
    PackFact fact_;  // the first of the next pack
    bool more_;
};

// The same pack as a next generation that holds only what is used, with every number as it was.
PackIndex compacted(const PackIndex& index, const UsedSegments& used, std::uint32_t generation);
// Bytes of the object that `index` describes.
std::uint64_t object_bytes(const Uuid& repository, const PackIndex& index);

}  // namespace nodesnap

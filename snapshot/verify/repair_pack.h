// PackRepair: looks at one pack's copies and, where one is lost that another can replace, writes the pack anew as its next generation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/progress.h"
#include "io/ring.h"
#include "snapshot/repository/repository.h"
#include "snapshot/verify.h"

namespace nodesnap {

// Counts everything, keeps a bounded number.
void add_repaired(RepairResult& result, std::string object);
void add_lost(RepairResult& result, Damage damage);

class PackRepair {
public:
    PackRepair(const Repository& repository, const Lease& lease, Progress& progress);

    // `generations` are those that a listing found. Adds to `result`.
    void repair(layout::PackKind kind, const PackId& id, const std::vector<std::uint32_t>& generations, RepairResult& result);

private:
    struct Opened {
        std::shared_ptr<const PackReader> pack;  // nullptr: no generation of it can be opened
        std::vector<Damage> damages;
    };
    Opened open(layout::PackKind kind, const PackId& id) const;
    // Numbers of segments that have lost one copy, or all of them.
    struct Segments {
        std::uint64_t one_copy = 0;
        std::vector<std::uint32_t> lost;
    };
    Segments check_segments(const PackReader& pack);
    bool good(const PackIndex& index, std::uint32_t number, std::span<const std::byte> stored) const;
    std::span<const std::byte> read_copy(const PackReader& pack, std::uint32_t number, int copy);
    void rewrite(const PackReader& pack, std::uint32_t generation);
    void remove_others(layout::PackKind kind, const PackId& id, const std::vector<std::uint32_t>& generations, std::uint32_t kept);

    const Repository& repository_;
    Target& target_;
    const Lease& lease_;
    Progress& progress_;
    Ring ring_;
    Bytes buffer_;
};

}  // namespace nodesnap

// PackGenerations: all generations of one pack, and, segment by segment, the best that any copy in any of them holds. It never takes for
// granted what it reads: a block counts as good when its checksum holds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "snapshot/repository/repository.h"

namespace nodesnap {

class PackGenerations {
public:
    // `listed` are the numbers that a listing found; it may lag behind, so those above are tried too.
    PackGenerations(const Repository& repository, layout::PackKind kind, const PackId& id, std::vector<std::uint32_t> listed);

    // The highest one that can be opened; nullptr if none can.
    const PackReader* best() const { return best_ == nullptr ? nullptr : best_->pack.get(); }
    // best() is the highest of all, and its head, footers and trailers are whole.
    bool best_is_whole() const { return best_ == &generations_.back() && best_->damages.empty(); }
    std::vector<std::uint32_t> numbers() const;  // of all that are there, ascending
    std::vector<Damage> damages() const;         // of all

    // What is known of one segment of best(), which must not be a dropped one.
    struct Found {
        std::vector<Bytes> copies;               // stored bytes for each place it has: good where any is; else what best() holds there
        std::vector<std::uint32_t> blocks_lost;  // numbers of the blocks that are good nowhere; 0 stands for all of an encoded segment
        std::uint32_t blocks = 0;
        bool heals = false;  // best() itself has lost something that `copies` has
        // Generations that hold, or may hold when they can be read again, something of the lost blocks that isn't in `copies`.
        std::vector<std::uint32_t> kept_by;
    };
    Found find(std::uint32_t number) const;

private:
    static constexpr std::size_t kOpened = 8;

    struct Generation {
        std::uint32_t number = 0;
        std::shared_ptr<const PackReader> pack;  // nullptr: it can't be opened
        std::vector<Damage> damages;
    };
    // One copy of a segment as it was read.
    struct Copy {
        const Generation* generation = nullptr;
        std::size_t place = 0;
        Bytes stored;
        bool unreadable = false;  // the device didn't give all of it
    };

    bool try_open(std::uint32_t number);
    Copy read(const Generation& generation, std::uint32_t number, std::size_t place) const;
    bool comparable(const Generation& generation, std::uint32_t number) const;
    bool good(std::uint32_t number, std::uint32_t block, std::span<const std::byte> stored) const;
    void keep_who_may_hold_more(Found& found, std::uint32_t number, const std::vector<Copy>& read) const;
    std::span<const std::byte> block_of(std::uint32_t number, std::uint32_t block, std::span<const std::byte> stored) const;

    const Repository& repository_;
    const layout::PackKind kind_;
    const PackId id_;
    std::vector<Generation> generations_;  // ascending
    const Generation* best_ = nullptr;
};

}  // namespace nodesnap

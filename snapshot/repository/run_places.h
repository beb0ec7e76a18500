// RunPlaces: which byte of which segment a byte of a file is.
//
// A run names its first segment and the bytes to skip in it; where the following segments begin is told by their lengths, which are in the
// footer of the pack. Positions are compared without it where both runs begin at the same segment, or each has but one.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "snapshot/repository/pack.h"
#include "snapshot/repository/records.h"

namespace nodesnap {

struct RunPlace {
    std::shared_ptr<const PackReader> pack;
    std::uint32_t segment = 0;
    std::uint32_t from = 0;  // bytes into the segment's plaintext
    std::uint32_t left = 0;  // from there to the segment's end, at least 1
};

// One thread. Memory: the layouts of the kLayouts packs used last, 512 KiB each at most. Error::damaged where a pack doesn't have what the
// run names.
class RunPlaces {
public:
    explicit RunPlaces(PackCache& packs) : packs_(packs) {}
    // `at` is a file offset in the run, which has data.
    RunPlace find(const Run& run, std::uint64_t at);
    // Whether both runs take their byte at file offset `at` from the same byte of the same pack.
    bool same(const Run& a, const Run& b, std::uint64_t at);

private:
    static constexpr std::size_t kLayouts = 16;
    struct Layout {
        PackId pack;
        std::vector<std::uint64_t> begins;  // of the segments' plaintexts, laid end to end; the last element is where all end
    };
    const Layout& layout_of(const PackId& pack);
    RunPlace place_in(const PackId& pack, std::uint32_t segment, std::uint64_t from);
    std::uint64_t position(const Layout& layout, const Run& run, std::uint64_t at) const;

    PackCache& packs_;
    std::vector<Layout> layouts_;  // the one used last is the last one
};

}  // namespace nodesnap

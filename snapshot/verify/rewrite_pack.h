// PackRewrite: writes a pack's next generation and proves that it is there as it was written, before anything is removed because of it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "io/ring.h"
#include "io/throttle.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

class SequentialWriter;

// Places that a segment of such a pack is stored in: 2 in metadata packs.
std::size_t places_of(const PackIndex& index);
std::uint64_t offset_of(const Segment& segment, std::size_t place);

// One thread.
class PackRewrite {
public:
    // `throttle` caps what is written and read back.
    PackRewrite(const Repository& repository, const Lease& lease, Throttle& throttle);

    // Removes what rewritings that were cut off have left, of packs, too, that nobody will rewrite again. Under the lease: who rewrites has
    // it.
    static void clear_up(Target& target);

    // The stored bytes of a segment that wasn't dropped. Asked for in the order in which they lie in the pack.
    using Contents = std::function<Bytes(std::uint32_t number, std::size_t place)>;
    // Writes the generation that `index` describes; there must be none of its number. What an interrupted rewriting of the pack left is
    // cleared up. Checks the lease before the pack becomes visible. Leaves nothing if `contents` throws, or the target fails; Error::failed
    // if what was written can't be read back: then it is removed again.
    void write(const PackIndex& index, const Contents& contents);
    // Waits for the turn of `bytes` that the caller wants to read.
    void pace(std::uint64_t bytes);

private:
    std::vector<Checksum> write_segments(const PackIndex& index, const Contents& contents, SequentialWriter& writer);
    void read_back(const layout::PackName& name, const std::vector<Checksum>& written);

    const Repository& repository_;
    Target& target_;
    const Lease& lease_;
    Throttle& throttle_;
    Ring ring_;
};

}  // namespace nodesnap

// DataPackWriter: writes segments of file data into packs, one after the other.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "io/ring.h"
#include "io/throttle.h"
#include "snapshot/repository/repository.h"
#include "snapshot/repository/sequential_writer.h"

namespace nodesnap {

// One thread. Memory: one pack's index and 1 MiB. What isn't finished leaves nothing visible.
class DataPackWriter {
public:
    // `throttle` caps what is written. The lease is checked before a pack becomes visible.
    DataPackWriter(const Repository& repository, const Lease& lease, std::function<PackId()> ids, Throttle& throttle);
    ~DataPackWriter();
    // 1 to kSegmentLimit bytes.
    SegmentRef add(std::span<const std::byte> data);
    void finish();  // all that was added is durable
    const std::vector<PackId>& packs() const { return packs_; }
    std::uint64_t stored_bytes() const { return stored_bytes_; }

private:
    void begin();
    void end();

    const Repository& repository_;
    const Lease& lease_;
    const std::function<PackId()> ids_;
    Throttle& throttle_;
    Ring ring_;
    std::optional<PackIndex> index_;  // of the open pack
    std::unique_ptr<ObjectWriter> object_;
    std::optional<SequentialWriter> writer_;
    std::vector<PackId> packs_;
    std::uint64_t stored_bytes_ = 0;
};

}  // namespace nodesnap

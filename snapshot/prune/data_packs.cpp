#include "snapshot/prune/data_packs.h"

#include <algorithm>

namespace nodesnap {
DataPackWriter::DataPackWriter(const Repository& repository, const Lease& lease, std::function<PackId()> ids, Throttle& throttle)
    : repository_(repository), lease_(lease), ids_(std::move(ids)), throttle_(throttle), ring_(blocking_ring()) {}

DataPackWriter::~DataPackWriter() = default;

SegmentRef DataPackWriter::add(std::span<const std::byte> data) {
    if (index_ && (writer_->offset() + data.size() > kDataPackBytes || index_->size() == kSegmentsPerPackLimit)) {
        end();
    }
    if (!index_) {
        begin();
    }
    writer_->pad_to((writer_->offset() + kPackAlignment - 1) / kPackAlignment * kPackAlignment);
    std::vector<Checksum> blocks;
    for (std::size_t at = 0; at < data.size(); at += kChecksumBlock) {
        blocks.push_back(repository_.hasher()(data.subspan(at, std::min<std::size_t>(kChecksumBlock, data.size() - at))));
    }
    const auto length = static_cast<std::uint32_t>(data.size());
    const std::uint32_t number = index_->add({writer_->offset(), 0, length, length, Codec::kNone}, blocks);
    writer_->append(data);
    return {index_->id(), number};
}

void DataPackWriter::finish() {
    if (index_) {
        end();
    }
}

void DataPackWriter::begin() {
    index_.emplace(layout::PackKind::kData, ids_(), 0);
    object_ = repository_.target().begin(layout::pack({layout::PackKind::kData, index_->id(), 0}), index_->id().hex());
    writer_.emplace(ring_, *object_, throttle_);
    writer_->append(pack_head(repository_.info().uuid, layout::PackKind::kData, index_->id(), 0));
}

void DataPackWriter::end() {
    writer_->append(pack_tail(repository_.info().uuid, *index_, writer_->offset()));
    lease_.check();
    writer_->finish();
    stored_bytes_ += writer_->offset();
    packs_.push_back(index_->id());
    writer_.reset();
    object_.reset();
    index_.reset();
}

}  // namespace nodesnap

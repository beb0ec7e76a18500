#include "snapshot/repository/map_output.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {

struct MapBuilder::Impl {
    explicit Impl(NodeWriter& nodes) : output(nodes, nullptr) {}
    MapOutput output;
};

MapBuilder::MapBuilder(NodeWriter& nodes) : impl_(std::make_unique<Impl>(nodes)) {}

MapBuilder::~MapBuilder() = default;

void MapBuilder::add(const Run& run, bool to_segment_end) {
    impl_->output.add(run, to_segment_end);
}

MapBuilder::Result MapBuilder::finish() {
    return impl_->output.finish();
}

}  // namespace nodesnap

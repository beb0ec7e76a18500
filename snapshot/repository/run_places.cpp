#include "snapshot/repository/run_places.h"

#include <algorithm>

#include "platform/error.h"

namespace nodesnap {
namespace {

[[noreturn]] void damaged(const PackId& pack) {
    throw Error::damaged("data pack " + pack.hex(), "a file's map names segments or bytes that it doesn't have",
                         "run `nodesnap verify` to see which files are affected");
}

}  // namespace

const RunPlaces::Layout& RunPlaces::layout_of(const PackId& pack) {
    const auto found = std::find_if(layouts_.rbegin(), layouts_.rend(), [&](const Layout& layout) { return layout.pack == pack; });
    if (found != layouts_.rend()) {
        std::rotate(found.base() - 1, found.base(), layouts_.end());
        return layouts_.back();
    }
    const auto reader = packs_.get(layout::PackKind::kData, pack);
    const PackIndex& index = reader->index();
    Layout made{pack, {}};
    made.begins.reserve(index.size() + 1);
    std::uint64_t end = 0;
    for (std::uint32_t i = 0; i < index.size(); ++i) {
        made.begins.push_back(end);
        end += index.segment(i).plain_length;
    }
    made.begins.push_back(end);
    if (layouts_.size() == kLayouts) {
        layouts_.erase(layouts_.begin());
    }
    layouts_.push_back(std::move(made));
    return layouts_.back();
}

std::uint64_t RunPlaces::position(const Layout& layout, const Run& run, std::uint64_t at) const {
    const std::size_t segments = layout.begins.size() - 1;
    if (run.first >= segments || run.count > segments - run.first) {
        damaged(layout.pack);
    }
    const std::uint64_t position = layout.begins[run.first] + run.skip + (at - run.offset);
    if (position >= layout.begins[run.first + run.count]) {
        damaged(layout.pack);
    }
    return position;
}

RunPlace RunPlaces::find(const Run& run, std::uint64_t at) {
    const Layout& layout = layout_of(run.pack);
    const std::uint64_t where = position(layout, run, at);
    const auto next = std::upper_bound(layout.begins.begin(), layout.begins.end(), where);
    const auto segment = static_cast<std::uint32_t>(next - layout.begins.begin() - 1);
    RunPlace place;
    place.pack = packs_.get(layout::PackKind::kData, run.pack);
    // The pack may have been opened anew since.
    const PackIndex& index = place.pack->index();
    if (segment >= index.size() || index.segment(segment).plain_length != *next - layout.begins[segment]) {
        damaged(run.pack);
    }
    place.segment = segment;
    place.from = static_cast<std::uint32_t>(where - layout.begins[segment]);
    place.left = static_cast<std::uint32_t>(*next - where);
    return place;
}

bool RunPlaces::same(const Run& a, const Run& b, std::uint64_t at) {
    if (a.pack != b.pack) {
        return false;
    }
    if (a.first == b.first) {
        return a.skip + (at - a.offset) == b.skip + (at - b.offset);
    }
    const Layout& layout = layout_of(a.pack);
    return position(layout, a, at) == position(layout, b, at);
}

}  // namespace nodesnap

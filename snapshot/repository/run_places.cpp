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
    if (run.count == 1) {
        return place_in(run.pack, run.first, run.skip + (at - run.offset));
    }
    const Layout& layout = layout_of(run.pack);
    const std::uint64_t where = position(layout, run, at);
    const auto next = std::upper_bound(layout.begins.begin(), layout.begins.end(), where);
    const auto segment = static_cast<std::uint32_t>(next - layout.begins.begin() - 1);
    return place_in(run.pack, segment, where - layout.begins[segment]);
}

RunPlace RunPlaces::place_in(const PackId& pack, std::uint32_t segment, std::uint64_t from) {
    RunPlace place;
    place.pack = packs_.get(layout::PackKind::kData, pack);
    // The pack may have been opened anew since its layout was made.
    const PackIndex& index = place.pack->index();
    if (segment >= index.size() || from >= index.segment(segment).plain_length) {
        damaged(pack);
    }
    place.segment = segment;
    place.from = static_cast<std::uint32_t>(from);
    place.left = index.segment(segment).plain_length - place.from;
    return place;
}

bool RunPlaces::same(const Run& a, const Run& b, std::uint64_t at) {
    if (a.pack != b.pack) {
        return false;
    }
    if (a.first == b.first) {
        return a.skip + (at - a.offset) == b.skip + (at - b.offset);
    }
    if (a.count == 1 && b.count == 1) {
        return false;
    }
    const Layout& layout = layout_of(a.pack);
    return position(layout, a, at) == position(layout, b, at);
}

}  // namespace nodesnap

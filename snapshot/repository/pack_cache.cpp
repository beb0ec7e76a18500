#include <algorithm>
#include <list>
#include <map>
#include <mutex>
#include <utility>

#include "platform/entry.h"
#include "snapshot/repository/pack.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kDescriptorsForEach = 8;
constexpr std::uint64_t kFewestOpen = 32;
constexpr std::uint64_t kMostOpen = 1024;

}  // namespace

struct PackCache::Impl {
    using Key = std::pair<layout::PackKind, PackId>;
    struct Entry {
        Key key;
        std::shared_ptr<const PackReader> pack;
    };

    Impl(Target& target_, const Uuid& repository_, DamageSink sink_, const Limits& limits_)
        : target(target_), repository(repository_), sink(std::move(sink_)), limits(limits_) {}

    // Asked for each time: commands raise what they may open after they have opened the repository.
    std::size_t most_open() const {
        return limits.packs != 0 ? limits.packs : std::clamp(entry::descriptor_limit() / kDescriptorsForEach, kFewestOpen, kMostOpen);
    }

    void erase(std::list<Entry>::iterator entry) {
        used -= entry->pack->index().memory_bytes();
        places.erase(entry->key);
        entries.erase(entry);
    }

    std::shared_ptr<const PackReader> find(const Key& key) {
        const std::lock_guard lock(mutex);
        const auto place = places.find(key);
        if (place == places.end()) {
            return nullptr;
        }
        entries.splice(entries.begin(), entries, place->second);
        return place->second->pack;
    }

    void keep(const Key& key, const std::shared_ptr<const PackReader>& pack) {
        const std::lock_guard lock(mutex);
        if (const auto place = places.find(key); place != places.end()) {
            erase(place->second);
        }
        entries.push_front({key, pack});
        places[key] = entries.begin();
        used += pack->index().memory_bytes();
        while (entries.size() > 1 && (used > limits.index_bytes || entries.size() > most_open())) {
            erase(std::prev(entries.end()));
        }
    }

    Target& target;
    const Uuid repository;
    const DamageSink sink;
    const Limits limits;
    std::mutex mutex;
    std::list<Entry> entries;  // most recently used first
    std::map<Key, std::list<Entry>::iterator> places;
    std::size_t used = 0;
};

PackCache::PackCache(Target& target, const Uuid& repository, DamageSink sink, const Limits& limits)
    : impl_(std::make_unique<Impl>(target, repository, std::move(sink), limits)) {}

PackCache::~PackCache() = default;

std::shared_ptr<const PackReader> PackCache::get(layout::PackKind kind, const PackId& id) {
    if (auto pack = impl_->find({kind, id})) {
        return pack;
    }
    return reopen(kind, id);
}

std::shared_ptr<const PackReader> PackCache::reopen(layout::PackKind kind, const PackId& id) {
    // Outside of the lock: others needn't wait for this pack's footer. Two that miss at once both open it; the later one stays.
    auto pack = PackReader::open(impl_->target, impl_->repository, kind, id, impl_->sink);
    impl_->keep({kind, id}, pack);
    return pack;
}

}  // namespace nodesnap

// Meanwhile: tells what a forget, a prune or a merge has taken away while a verification ran, which is no damage.
//
// Backups go before the packs that only they need do. So a pack that was there at the beginning and isn't any more went with a backup if
// one of those that were checked isn't listed any more in the revision that was read. Any thread, but saw(), which is called first.
#pragma once

#include <atomic>
#include <cstdint>
#include <set>
#include <tuple>

#include "snapshot/repository/repository.h"

namespace nodesnap {

class Meanwhile {
public:
    explicit Meanwhile(const Repository& repository) : repository_(repository) {}

    void saw(const layout::ManifestName& backup) { backups_.insert(key_of(backup)); }
    bool went(const layout::ManifestName& backup) const;
    // Notes a pack that could not be opened, though it was listed at the beginning. False: it didn't go with a backup, so it is damaged.
    bool pack_went(layout::PackKind kind, const PackId& pack);
    std::uint64_t packs() const { return packs_; }  // that went

private:
    using Key = std::tuple<std::uint64_t, std::int64_t, std::uint32_t>;
    static Key key_of(const layout::ManifestName& name) { return {name.sequence, name.utc_seconds, name.revision}; }
    std::set<Key> present() const;
    bool is_listed(layout::PackKind kind, const PackId& pack) const;  // in any generation

    const Repository& repository_;
    std::set<Key> backups_;
    std::atomic<std::uint64_t> packs_{0};
};

}  // namespace nodesnap

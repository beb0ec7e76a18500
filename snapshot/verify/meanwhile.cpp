#include "snapshot/verify/meanwhile.h"

#include <algorithm>
#include <string>

namespace nodesnap {

std::set<Meanwhile::Key> Meanwhile::present() const {
    std::set<Key> present;
    repository_.target().list(layout::kBackups, [&](const ObjectEntry& entry) {
        if (const auto name = layout::parse_manifest(entry.name)) {
            present.insert(key_of(*name));
        }
    });
    return present;
}

bool Meanwhile::went(const layout::ManifestName& backup) const {
    return !present().contains(key_of(backup));
}

bool Meanwhile::pack_went(layout::PackKind kind, const PackId& pack) {
    if (is_listed(kind, pack)) {
        return false;
    }
    const std::set<Key> now = present();
    if (std::includes(now.begin(), now.end(), backups_.begin(), backups_.end())) {
        return false;
    }
    ++packs_;
    return true;
}

bool Meanwhile::is_listed(layout::PackKind kind, const PackId& pack) const {
    const std::string_view folder = kind == layout::PackKind::kData ? layout::kDataPacks : layout::kNodePacks;
    bool found = false;
    repository_.target().list(std::string(folder) + pack.hex().substr(0, 2) + "/", [&](const ObjectEntry& entry) {
        const auto name = layout::parse_pack(entry.name);
        found = found || (name && name->id == pack);
    });
    return found;
}

}  // namespace nodesnap

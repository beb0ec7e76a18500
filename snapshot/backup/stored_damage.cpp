#include "snapshot/backup/stored_damage.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "platform/error.h"
#include "snapshot/repository/check_record.h"
#include "snapshot/repository/layout.h"

namespace nodesnap {
namespace {

std::vector<PackCheckup> damage_in(const Repository& repository, std::uint8_t first_byte) {
    std::vector<PackCheckup> damaged;
    try {
        const auto object = repository.target().load(layout::checks(first_byte), kCheckRecordLimit);
        for (const PackCheckup& checkup :
             object ? parse_check_record(object->content, repository.info().uuid, first_byte).checkups : std::vector<PackCheckup>()) {
            if (checkup.damaged && repository.target().open(layout::pack({layout::PackKind::kData, checkup.pack, checkup.generation}))) {
                damaged.push_back(checkup);
            }
        }
    } catch (const Error&) {  // advice that can't be had
    }
    return damaged;
}

std::set<PackId> all_damage(const Repository& repository) {
    std::set<std::string> records;
    repository.target().list(layout::kChecks, [&](const ObjectEntry& entry) { records.insert(entry.name); });
    std::set<PackId> packs;
    for (unsigned byte = 0; !records.empty() && byte < 256; ++byte) {
        if (records.contains(layout::checks(static_cast<std::uint8_t>(byte)))) {
            for (const PackCheckup& checkup : damage_in(repository, static_cast<std::uint8_t>(byte))) {
                packs.insert(checkup.pack);
            }
        }
    }
    return packs;
}

}  // namespace

std::size_t damaged_packs_below(const Repository& repository, const Manifest& parent) {
    const std::set<PackId> damaged = all_damage(repository);
    if (damaged.empty()) {
        return 0;
    }
    std::size_t found = 0;
    std::optional<SessionId> next = parent.id;
    repository.for_each_backup_backwards([&](const BackupEntry& entry) {
        if (entry.manifest && entry.manifest->id == next) {
            const auto& packs = entry.manifest->packs;
            found += static_cast<std::size_t>(
                std::count_if(packs.begin(), packs.end(), [&](const PackId& pack) { return damaged.contains(pack); }));
            next = entry.manifest->parent;
        }
        return next.has_value();
    });
    return next ? damaged.size() : found;
}

}  // namespace nodesnap

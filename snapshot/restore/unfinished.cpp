#include "snapshot/restore/unfinished.h"

#include <fcntl.h>

#include "platform/file.h"
#include "snapshot/repository/revisions.h"

namespace nodesnap {
namespace {

// Where stored data is damaged the same command would only come to the same end.
std::string how_it_goes_on(bool damaged, bool delta, const RestoreLost& lost) {
    if (lost.stopped()) {
        return std::string("the same command goes on with it once the repository is mended, or with --accept-incomplete, which ") +
               (delta ? "keeps what was there in the place of what is damaged, and puts zeros where nothing was"
                      : "puts zeros for what is damaged");
    }
    return damaged ? "once the repository is repaired the same command goes on with it" : "the same command goes on with it";
}

// The directory itself has been changed, and what lies in the staging directory is its own.
std::string half_done_in_place(const RestorePlace& place, const std::vector<std::string>& gate_files) {
    std::string gates;
    for (std::size_t i = 0; i < gate_files.size(); ++i) {
        const auto moved = place.staging + "/" + old_gate_name(i);
        if (stat_path(moved, AT_SYMLINK_NOFOLLOW)) {
            gates += (gates.empty() ? "" : ", ") + moved + " (which was " + gate_files[i] + ")";
        }
    }
    return place.destination + " may be neither what it was nor what the backup holds by now" +
           (gates.empty() ? "" : "; its gate file is kept as " + gates + ", to be moved back only to use the directory as it is");
}

// What can't be told isn't claimed: then what the restore met counts.
bool was_forgotten(const Repository& repository, const Manifest& backup) {
    try {
        bool found = false;
        for_each_manifest_names(repository.target(), [&](std::span<const layout::ManifestName> names) {
            found = found || names.front().same_backup(backup.name);
        });
        return !found;
    } catch (const Error&) {
        return false;
    }
}

}  // namespace

std::optional<Error> forgotten_meanwhile(const Error& error, const Repository& repository, const Manifest& backup) {
    if (error.status() != ExitStatus::kDamaged || !was_forgotten(repository, backup)) {
        return std::nullopt;
    }
    return Error(
        ExitStatus::kRefused,
        "backup " + backup.id.hex() + " was forgotten while it was read, and what it needs has been pruned (" + error.message() + ")",
        "`nodesnap list` shows what there is");
}

Error unfinished_restore(const Error& error, const Repository& repository, const Manifest& backup, const RestorePlace& place,
                         const std::vector<std::string>& gate_files, const RestoreLost& lost) {
    if (const auto forgotten = forgotten_meanwhile(error, repository, backup)) {
        const std::string left = place.in_place ? half_done_in_place(place, gate_files) + ": restore another backup there"
                                                : "a part of it is in " + place.staging + ", which nothing can go on with: remove it";
        return {forgotten->status(), forgotten->message(), forgotten->hint() + "; " + left};
    }
    const std::string hint = error.hint().empty() ? "" : error.hint() + "; ";
    const auto remedy = how_it_goes_on(error.status() == ExitStatus::kDamaged, place.delta, lost);
    if (place.in_place) {
        return {error.status(), error.message(), hint + half_done_in_place(place, gate_files) + ": " + remedy, error.error_number()};
    }
    return {error.status(), error.message(), hint + "what has been restored is kept in " + place.staging + ": " + remedy + ", or remove it",
            error.error_number()};
}

}  // namespace nodesnap

#include "snapshot/cluster/restore_record.h"

#include <sys/stat.h>

#include <optional>
#include <span>

#include "io/checksum.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "snapshot/restore/identity.h"
#include "snapshot/restore/place.h"

namespace nodesnap::cluster {
namespace {

constexpr const char* kFolder = "/cluster-restores";

std::string record_path(const RestorePart& part) {
    const std::string key = Hasher(0)(std::as_bytes(std::span(part.directory))).hex();
    return part.state_directory + kFolder + "/" + key + ".json";
}

void store(const RestorePart& part, const std::string& identity) {
    const Json record{{"cut", part.cut}, {"backup", part.backup}, {"directory", part.directory}, {"identity", identity}};
    make_directories(part.state_directory + kFolder);
    write_file_durably(record_path(part), record.dump(2, ' ', false, Json::error_handler_t::replace) + "\n", 0600);
}

// Of this very part; nullopt if there is none.
std::optional<std::string> stored_identity(const RestorePart& part) {
    const auto text = read_small_file(record_path(part));
    const Json record = text ? Json::parse(*text, nullptr, false) : Json();
    const bool same = record.is_object() && record.value("cut", "") == part.cut && record.value("backup", "") == part.backup &&
                      record.value("directory", "") == part.directory;
    return same ? std::optional(record.value("identity", "")) : std::nullopt;
}

Json place(const char* state, const std::string& why = "") {
    return {{"is", "place"}, {"state", state}, {"why", why}};
}

}  // namespace

void note_restore_begun(const RestorePart& part) {
    store(part, "");
}

void note_restored(const RestorePart& part) {
    fault::step("cluster.noting-restored");
    store(part, directory_identity(part.directory));
}

void forget_restore(const RestorePart& part) {
    remove_file(record_path(part));
}

Json look_at_place(const RestorePart& part) {
    const auto status = stat_path(part.directory);
    if (!status) {
        return place("virgin");
    }
    if (!S_ISDIR(status->stx_mode)) {
        return place("occupied", part.directory + " is no directory");
    }
    try {
        refuse_used(part.directory);
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kRefused) {
            throw;
        }
        return place("occupied", error.message());
    }
    if (holds_nothing(part.directory)) {
        return place("virgin");
    }
    const auto identity = stored_identity(part);
    if (identity && !identity->empty() && *identity == directory_identity(part.directory)) {
        return place("restored");
    }
    return identity ? place("begun") : place("occupied", part.directory + " isn't empty");
}

}  // namespace nodesnap::cluster

#include "snapshot/restore/state.h"

#include <nlohmann/json.hpp>

#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/tree_path.h"

namespace nodesnap {
namespace {

constexpr std::size_t kStateLimit = 16U << 20;
constexpr int kVersion = 3;

// File names are bytes, JSON is text.
std::string hex_of(const std::string& bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}

std::string bytes_of(const std::string& hex) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    }
    return bytes;
}

std::string options_checksum(const RestoreOptions& options) {
    std::string text;
    const auto add = [&text](const std::string& part) { text += std::to_string(part.size()) + ":" + part; };
    for (const auto& path : options.paths) {
        add(normalized_path(path));
    }
    add(options.owners.numeric_ids ? "numeric" : "names");
    for (const auto* owners : {&options.owners.users, &options.owners.groups}) {
        for (const auto& [from, to] : *owners) {
            add(from);
            add(to);
        }
        add("");
    }
    for (const auto& gate : options.gate_files) {
        add(gate);
    }
    if (options.delta) {
        add(options.in_place ? "delta in place" : options.keep_old ? "delta, the old kept" : "delta");
    }
    return Hasher(0)(std::as_bytes(std::span(text))).hex();
}

nlohmann::json to_json(const RestoreState& state) {
    auto large = nlohmann::json::array();
    for (const auto& [entry, written] : state.large) {
        large.push_back({entry, written.offset, written.ino});
    }
    auto warnings = nlohmann::json::array();
    for (const auto& group : state.warnings) {
        warnings.push_back({hex_of(group.what), group.error_number, group.count, hex_of(group.first)});
    }
    auto lost = nlohmann::json::array();
    for (const auto& range : state.lost) {
        lost.push_back({hex_of(range.path), range.offset, range.length, range.cause != LostRange::Cause::kSource,
                        range.cause == LostRange::Cause::kKept});
    }
    auto owners = nlohmann::json::array();
    for (const auto& entry : state.owners_used) {
        owners.push_back(hex_of(entry));
    }
    return {{"magic", "nodesnap-restore"},
            {"version", kVersion},
            {"repository", state.repository},
            {"backup", state.backup},
            {"revision", state.revision},
            {"options", state.options},
            {"staging", state.staging},
            {"content", state.content},
            {"basis", state.basis},
            {"old", state.old},
            {"phase", static_cast<int>(state.phase)},
            {"run", state.run},
            {"links", state.links},
            {"batches", state.batches},
            {"bytes", state.bytes},
            {"sealed", state.sealed},
            {"linked", state.linked},
            {"large", std::move(large)},
            {"owners", std::move(owners)},
            {"lost", std::move(lost)},
            {"lost_further", state.lost_further},
            {"warnings", std::move(warnings)}};
}

RestoreState::Phase phase_of(int number) {
    if (number < 0 || number > static_cast<int>(RestoreState::Phase::kPlaced)) {
        throw std::invalid_argument("phase");
    }
    return static_cast<RestoreState::Phase>(number);
}

RestoreState from_json(const nlohmann::json& json) {
    RestoreState state;
    state.repository = json.at("repository").get<std::string>();
    state.backup = json.at("backup").get<std::string>();
    state.revision = json.at("revision").get<std::uint32_t>();
    state.options = json.at("options").get<std::string>();
    state.staging = json.at("staging").get<std::string>();
    state.content = json.at("content").get<std::string>();
    state.basis = json.value("basis", std::string());
    state.old = json.value("old", std::string());
    state.phase = phase_of(json.at("phase").get<int>());
    state.run = json.at("run").get<std::uint32_t>();
    state.links = json.at("links").get<std::string>();
    state.batches = json.at("batches").get<std::uint64_t>();
    state.bytes = json.at("bytes").get<std::uint64_t>();
    state.sealed = json.at("sealed").get<bool>();
    state.linked = json.at("linked").get<bool>();
    for (const auto& entry : json.at("large")) {
        state.large[entry.at(0).get<std::uint64_t>()] = {entry.at(1).get<std::uint64_t>(), entry.at(2).get<std::uint64_t>()};
    }
    for (const auto& entry : json.at("owners")) {
        state.owners_used.push_back(bytes_of(entry.get<std::string>()));
    }
    for (const auto& entry : json.at("lost")) {
        const bool kept = entry.size() > 4 && entry.at(4).get<bool>();  // by an earlier version: nothing is
        const auto stored = kept ? LostRange::Cause::kKept : LostRange::Cause::kStored;
        state.lost.push_back({bytes_of(entry.at(0).get<std::string>()), entry.at(1).get<std::uint64_t>(), entry.at(2).get<std::uint64_t>(),
                              entry.at(3).get<bool>() ? stored : LostRange::Cause::kSource});
    }
    state.lost_further = json.at("lost_further").get<std::uint64_t>();
    for (const auto& entry : json.at("warnings")) {
        state.warnings.push_back({bytes_of(entry.at(0).get<std::string>()), entry.at(1).get<int>(), entry.at(2).get<std::uint64_t>(),
                                  bytes_of(entry.at(3).get<std::string>())});
    }
    return state;
}

}  // namespace

RestoreState new_state(const Repository& repository, const Manifest& backup, const RestoreOptions& options) {
    RestoreState state;
    state.repository = repository.info().uuid.text();
    state.backup = backup.id.hex();
    state.revision = backup.name.revision;
    state.options = options_checksum(options);
    return state;
}

std::optional<std::string> read_state(const std::string& path) {
    return read_small_file(path, kStateLimit);
}

std::string how_to_discard(const std::string& staging) {
    DirectoryStream stream(open_path(staging, O_RDONLY | O_DIRECTORY), staging);
    DirectoryEntry entry;
    while (stream.next(entry)) {
        if (entry.name.starts_with(kOldGate)) {
            return std::string("to use the directory as it is, however far that restore came, first move its gate file back: ")
                .append(staging)
                .append("/")
                .append(entry.name)
                .append(", which was CURRENT, PG_VERSION or what --gate-file named; only then remove ")
                .append(staging);
        }
    }
    return "remove " + staging + " if what it holds is of no use any more";
}

std::optional<RestoreState> load_state(const std::string& path, const std::string& staging) {
    const auto text = read_state(path);
    if (!text) {
        return std::nullopt;
    }
    const auto hint = how_to_discard(staging) + ", and restore again";
    try {
        const auto json = nlohmann::json::parse(*text);
        if (json.at("magic") != "nodesnap-restore") {
            throw Error::refused(path + " isn't the state of a restore", hint);
        }
        if (json.at("version") != kVersion) {
            throw Error::refused(path + " was written by another version of nodesnap", hint);
        }
        return from_json(json);
    } catch (const nlohmann::json::exception& broken) {
        throw Error::refused(path + " can't be read: " + broken.what(), hint);
    } catch (const std::logic_error&) {  // a number that isn't one
        throw Error::refused(path + " can't be read", hint);
    }
}

void store_state(const std::string& path, const RestoreState& state) {
    write_file_durably(path, to_json(state).dump() + "\n", 0600);
}

}  // namespace nodesnap

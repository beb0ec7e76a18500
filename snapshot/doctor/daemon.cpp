#include "snapshot/doctor/daemon.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>

#include "platform/cgroup.h"
#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/processes.h"
#include "snapshot/backend/preflight.h"
#include "snapshot/hold/refusals.h"

namespace nodesnap {
namespace {

constexpr std::size_t kNamed = 5;  // in one message
constexpr const char* kQdbdConfiguration = "/etc/qdb/qdbd.conf";

// The systemd service that a cgroup is, or is in; empty if none.
std::string service_of(const std::string& cgroup) {
    std::string service;
    std::istringstream parts(cgroup);
    for (std::string part; std::getline(parts, part, '/');) {
        service = part.ends_with(".service") && !part.starts_with("user@") ? part : service;
    }
    return service;
}

// How all of them can be held; `why_not` if they can't.
std::string hold_options_for(const std::vector<DirectoryUser>& writers, std::string& why_not) {
    std::set<std::string> cgroups;
    for (const DirectoryUser& writer : writers) {
        try {
            if (const auto path = Cgroup::path_of(writer.pid)) {
                cgroups.insert(*path);
            }
        } catch (const Error& error) {
            why_not = error.message();
            return "";
        }
    }
    if (cgroups.size() != 1) {
        why_not = "they are in " + std::to_string(cgroups.size()) + " cgroups";
        return "";
    }
    try {
        const auto cgroup = Cgroup::open(*cgroups.begin());
        if (!cgroup) {
            why_not = "they have just ended";
            return "";
        }
        const std::array<pid_t, 1> own{::getpid()};
        hold::refuse_vital(*cgroup, own);
    } catch (const Error& error) {
        why_not = error.message();
        return "";
    }
    const std::string service = service_of(*cgroups.begin());
    return "--hold freeze " + (service.empty() ? "--pid " + std::to_string(writers.front().pid) : "--unit " + service);
}

void examine_users(const std::vector<DirectoryUser>& writers, std::size_t hidden, Daemon& daemon, Findings& findings) {
    if (hidden != 0) {
        findings.warn("in use", "other users' processes can't be looked into: whether they use the node directory isn't known",
                      "run as root");
    }
    daemon.in_use = !writers.empty();
    if (writers.empty()) {
        findings.fact("in use", hidden == 0 ? "nobody has a file of it open for writing"
                                            : "nobody who can be seen has a file of it open for writing");
        return;
    }
    std::map<pid_t, std::pair<std::string, std::size_t>> processes;
    for (const DirectoryUser& writer : writers) {
        processes[writer.pid].first = writer.command;
        ++processes[writer.pid].second;
    }
    std::string text;
    std::size_t named = 0;
    for (const auto& [pid, process] : processes) {
        if (++named > kNamed) {
            text += ", and others";
            break;
        }
        text += (text.empty() ? "" : ", ") + process.first + " (pid " + std::to_string(pid) + ", " + std::to_string(process.second) +
                " files for writing)";
    }
    findings.fact("in use", "by " + text);
    std::string why_not;
    daemon.hold_options = hold_options_for(writers, why_not);
    if (daemon.hold_options.empty()) {
        findings.warn("hold", "it can't be held by freezing: " + why_not,
                      "hold it by --hold stop, with its unit or with the commands that stop and start it, or by --hold hook");
    } else {
        findings.fact("hold", "it can be held: " + daemon.hold_options);
    }
}

// ---- Engines

bool has(const std::string& node_directory, const std::string& name) {
    return stat_path(node_directory + "/" + name).has_value();
}

// The newest OPTIONS-NUMBER of a RocksDB; empty if there is none.
std::string newest_options(const std::string& node_directory) {
    DirectoryStream stream(open_path(node_directory, O_RDONLY | O_DIRECTORY), node_directory);
    DirectoryEntry entry;
    std::string newest;
    std::uint64_t highest = 0;
    while (stream.next(entry)) {
        constexpr std::string_view kPrefix = "OPTIONS-";
        std::uint64_t number = 0;
        if (!entry.name.starts_with(kPrefix)) {
            continue;
        }
        const char* const end = entry.name.data() + entry.name.size();
        const auto [rest, error] = std::from_chars(entry.name.data() + kPrefix.size(), end, number);
        if (error == std::errc() && rest == end && number >= highest) {
            highest = number;
            newest = entry.name;
        }
    }
    return newest;
}

bool lies_in(const std::string& path, const std::string& node_directory) {
    return path == node_directory || path.starts_with(node_directory + "/") || !path.starts_with("/");
}

// FILE of the `-c FILE` with which a process was started; empty if there is none.
std::string configuration_of(pid_t pid) {
    const std::string text = read_small_file("/proc/" + std::to_string(pid) + "/cmdline").value_or("");
    std::vector<std::string> words;
    std::istringstream parts(text);
    for (std::string word; std::getline(parts, word, '\0');) {
        words.push_back(word);
    }
    for (std::size_t i = 1; i < words.size(); ++i) {
        constexpr std::string_view kLong = "--config=";
        if (words[i].starts_with(kLong)) {
            return words[i].substr(kLong.size());
        }
        if ((words[i] == "-c" || words[i] == "--config") && i + 1 < words.size()) {
            return words[i + 1];
        }
    }
    return "";
}

// That of the qdbd that runs on the node directory, or the installed one if it names that; empty if neither is known.
std::string qdbd_configuration(const std::vector<DirectoryUser>& writers, const std::string& node_directory) {
    for (const DirectoryUser& writer : writers) {
        if (writer.command == "qdbd") {
            const std::string given = configuration_of(writer.pid);
            return given.starts_with("/") ? given : kQdbdConfiguration;
        }
    }
    const auto installed = read_small_file(kQdbdConfiguration);
    const std::string named = std::string("\"").append(node_directory).append("\"");
    return installed && installed->find(named) != std::string::npos ? kQdbdConfiguration : "";
}

void tell_elsewhere(const std::vector<std::string>& found, const std::string& source, Findings& findings) {
    const std::string rest = " (says " + source + "): the node directory isn't the whole node, and a backup of it isn't either";
    for (const std::string& one : found) {
        findings.warn("elsewhere", std::string(one).append(rest), "back the rest up as well, at the same moment, or turn that off");
    }
}

void examine_engine(const std::string& node_directory, const std::vector<DirectoryUser>& writers, Findings& findings) {
    if (has(node_directory, "PG_VERSION") && has(node_directory, "global")) {
        findings.fact("engine", "PostgreSQL");
        return;
    }
    if (!has(node_directory, "CURRENT") || !has(node_directory, "IDENTITY")) {
        return;
    }
    const std::string options = newest_options(node_directory);
    if (!options.empty()) {
        if (const auto text = read_small_file(node_directory + "/" + options)) {
            tell_elsewhere(rocksdb_data_elsewhere(*text, node_directory), options, findings);
        }
    }
    const std::string configuration = qdbd_configuration(writers, node_directory);
    if (configuration.empty()) {
        findings.fact("engine", "RocksDB");
        return;
    }
    findings.fact("engine", "quasardb, configured by " + configuration);
    if (const auto json = read_small_file(configuration)) {
        tell_elsewhere(qdbd_data_elsewhere(*json, node_directory), configuration, findings);
    }
}

}  // namespace

std::vector<std::string> rocksdb_data_elsewhere(const std::string& text, const std::string& node_directory) {
    std::vector<std::string> found;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t begin = line.find_first_not_of(" \t");
        constexpr std::string_view kWal = "wal_dir=";
        if (begin != std::string::npos && line.compare(begin, kWal.size(), kWal) == 0) {
            const std::string path = line.substr(begin + kWal.size());
            if (!path.empty() && !lies_in(path, node_directory)) {
                found.push_back("the write-ahead log lies in " + path);
            }
        }
    }
    return found;
}

std::vector<std::string> qdbd_data_elsewhere(const std::string& json, const std::string& node_directory) {
    std::vector<std::string> found;
    nlohmann::json configuration;
    try {
        configuration = nlohmann::json::parse(json, nullptr, true, true);
    } catch (const nlohmann::json::exception& error) {
        throw Error::failed(std::string("the configuration of qdbd isn't JSON: ") + error.what());
    }
    const auto at = [&](const char* path) -> nlohmann::json {
        const nlohmann::json::json_pointer pointer(path);
        return configuration.contains(pointer) ? configuration.at(pointer) : nlohmann::json();
    };
    const auto text_at = [&](const char* path) {
        const nlohmann::json value = at(path);
        return value.is_string() ? value.get<std::string>() : std::string();
    };
    const nlohmann::json cloud = at("/local/depot/rocksdb/cloud");
    const auto says_something = [](const nlohmann::json& value) {
        return !value.is_null() && value != false && !(value.is_string() && value.get<std::string>().empty()) && value != 0;
    };
    const bool in_cloud = cloud.is_object() ? std::any_of(cloud.begin(), cloud.end(), says_something) : says_something(cloud);
    if (in_cloud) {
        found.emplace_back("files are kept in an object store (local.depot.rocksdb.cloud)");
    }
    for (const char* const path : {"/local/depot/helium_url", "/local/depot/helium/url", "/local/depot/rocksdb/helium_url"}) {
        if (!text_at(path).empty()) {
            found.push_back("data is kept on a raw device, " + text_at(path) + " (helium_url)");
        }
    }
    for (const char* const path : {"/local/depot/rocksdb/root", "/local/depot/root"}) {
        if (const std::string root = text_at(path); !root.empty() && !lies_in(root, node_directory)) {
            found.push_back("the database directory is " + root);
        }
    }
    return found;
}

Daemon examine_daemon(const std::string& node_directory, const ExcludeRules& excludes, Findings& findings) {
    Daemon daemon;
    std::size_t hidden = 0;
    const std::vector<DirectoryUser> writers = writers_of(node_directory, excludes, &hidden);
    examine_users(writers, hidden, daemon, findings);
    try {
        examine_engine(node_directory, writers, findings);
    } catch (const Error& error) {
        findings.warn("engine", "which engine it belongs to can't be told: " + error.message(), error.hint());
    }
    return daemon;
}

}  // namespace nodesnap

#include "snapshot/command/cluster_file.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>

#include "io/remote/ssh.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/command/command.h"
#include "snapshot/command/options.h"
#include "snapshot/command/printable.h"

namespace nodesnap::command {
namespace {

constexpr std::string_view kClusterSection = "cluster";
constexpr std::string_view kNodeSection = "node ";
constexpr std::size_t kLongestName = 128;
constexpr std::array kOwnNames{"address", "directory", "repository"};
// Of one call of `backup`, not of a node.
constexpr std::array kOfOneCall{"config",     "help", "json",      "quiet",         "dry-run",
                                "adopt-node", "full", "no-resume", "keep-snapshot", "drop-snapshot"};

template <typename Names>
bool is_one_of(const Names& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

void check_name(const std::string& name, const std::string& place, const char* whose) {
    if (name.empty() || name.size() > kLongestName || printable_name(name) != name || name.find_first_of(" /\\") != std::string::npos) {
        throw Error::usage(place + ": \"" + shortened(printable_name(name)) + "\" is not a name for " + whose,
                           "up to 128 bytes without blanks, slashes and controls");
    }
}

// Without what means nothing in it: "/a//b/./c/" is "/a/b/c". Symlinks aren't looked at, since it may be another host's.
std::string plain_path(const std::string& path) {
    std::string plain = std::filesystem::path(path).lexically_normal().string();
    while (plain.size() > 1 && plain.back() == '/') {
        plain.pop_back();
    }
    return plain;
}

class Parser {
public:
    explicit Parser(const std::string& file) : file_(file), options_(options_of(kBackup)) {}

    ClusterFile parse(const std::string& text) {
        for (const ConfigEntry& entry : parse_config(text, file_)) {
            if (entry.section == kClusterSection) {
                take_default(entry);
                in_node_ = false;
            } else if (entry.section.starts_with(kNodeSection)) {
                take(node_of(entry), entry);
                in_node_ = true;
            } else {
                throw Error::usage(entry.place + ": \"" + printable_name(entry.name) + "\" stands " +
                                       (entry.section.empty() ? "in no section" : "in a section [" + printable_name(entry.section) + "]"),
                                   "there are [cluster] and, for each node, [node NAME]");
            }
        }
        if (cluster_.name.empty()) {
            throw Error::usage(file_ + ": the cluster has no name", "write it as \"name = ...\" in a section [cluster]");
        }
        if (cluster_.nodes.empty()) {
            throw Error::usage(file_ + ": the cluster has no nodes", "write a section [node NAME] for each");
        }
        for (ClusterNode& node : cluster_.nodes) {
            complete(node);
        }
        refuse_same();
        return std::move(cluster_);
    }

private:
    void take_default(const ConfigEntry& entry) {
        if (entry.name == "name") {
            if (!cluster_.name.empty()) {
                throw Error::usage(entry.place + ": the cluster has a name already, \"" + cluster_.name + "\"", "remove one of the two");
            }
            check_name(entry.value, entry.place, "a cluster");
            cluster_.name = entry.value;
            return;
        }
        check_option(entry, {"name", "directory"});
        if (entry.name == "address" || entry.name == "repository") {
            throw Error::usage(entry.place + ": each node has " + (entry.name == "address" ? "an address" : "a repository") + " of its own",
                               "write it in the nodes' sections");
        }
        add(defaults_, entry);
    }

    ClusterNode& node_of(const ConfigEntry& entry) {
        const std::string name = entry.section.substr(kNodeSection.size());
        const auto found =
            std::find_if(cluster_.nodes.begin(), cluster_.nodes.end(), [&](const ClusterNode& node) { return node.name == name; });
        if (found == cluster_.nodes.end()) {
            check_name(name, entry.place, "a node");
            return cluster_.nodes.emplace_back(ClusterNode{name, "", "", "", {}, entry.place});
        }
        if (&*found != &cluster_.nodes.back() || !in_node_) {
            throw Error::usage(entry.place + ": there is a section [node " + name + "] already, at " + found->place,
                               "two nodes of one name can't be told apart: name one of them otherwise");
        }
        return *found;
    }

    void take(ClusterNode& node, const ConfigEntry& entry) {
        check_option(entry, {});
        for (const auto& [name, value] :
             {std::pair("address", &node.address), std::pair("directory", &node.directory), std::pair("repository", &node.repository)}) {
            if (entry.name == name) {
                set_once(*value, entry, node);
                return;
            }
        }
        add(node.options, entry);
    }

    void set_once(std::string& value, const ConfigEntry& entry, const ClusterNode& node) {
        if (entry.value.empty()) {
            throw Error::usage(entry.place + ": " + entry.name + " is empty", "give it a value");
        }
        if (!value.empty()) {
            throw Error::usage(entry.place + ": the node " + node.name + " has " + entry.name + " = " + value + " already",
                               "remove one of the two");
        }
        value = entry.value;
    }

    void check_option(const ConfigEntry& entry, const std::vector<std::string>& besides) const {
        const bool known = is_one_of(kOwnNames, entry.name) || is_one_of(besides, entry.name) ||
                           (options_.has(entry.name) && !is_one_of(kOfOneCall, entry.name));
        if (known) {
            return;
        }
        std::vector<std::string> all = options_.names();
        all.insert(all.end(), kOwnNames.begin(), kOwnNames.end());
        throw Error::usage(entry.place + ": " +
                               (options_.has(entry.name) ? "\"" + entry.name + "\" isn't for a cluster file"
                                                         : "unknown name \"" + printable_name(entry.name) + "\""),
                           options_.has(entry.name) ? "it is for one backup at a time" : suggestion(entry.name, all));
    }

    void add(std::vector<ConfigEntry>& to, const ConfigEntry& entry) const {
        if (entry.value.empty()) {
            throw Error::usage(entry.place + ": " + entry.name + " is empty", "leave it out, or give it a value");
        }
        const auto set = std::find_if(to.begin(), to.end(), [&](const ConfigEntry& other) { return other.name == entry.name; });
        if (set != to.end() && !options_.repeatable(entry.name)) {
            throw Error::usage(entry.place + ": " + entry.name + " is set already, in " + set->place, "remove one of the two");
        }
        to.push_back({"", entry.name, entry.value, entry.place});
    }

    void complete(ClusterNode& node) const {
        for (const ConfigEntry& entry : defaults_) {
            if (entry.name == "directory") {
                node.directory = node.directory.empty() ? entry.value : node.directory;
                continue;
            }
            const bool own =
                std::any_of(node.options.begin(), node.options.end(), [&](const ConfigEntry& other) { return other.name == entry.name; });
            if (!own || options_.repeatable(entry.name)) {
                node.options.push_back(entry);
            }
        }
        if (node.address == "local") {
            node.address.clear();
        }
        if (!node.address.empty()) {
            check_address(node);
        }
        if (node.directory.empty() || node.repository.empty()) {
            throw Error::usage(node.place + ": the node " + node.name + " has no " + (node.directory.empty() ? "directory" : "repository"));
        }
        if (node.directory.front() != '/') {
            throw Error::usage(node.place + ": the directory of " + node.name + " is " + node.directory, "write it from / on");
        }
        if (!remote::parse_ssh_place(node.repository) && node.repository.front() != '/') {
            throw Error::usage(node.place + ": the repository of " + node.name + " is " + node.repository,
                               "it is a directory of that node, from / on, or ssh://HOST/PATH");
        }
        node.directory = plain_path(node.directory);
    }

    void check_address(const ClusterNode& node) const {
        // An address has no path; with one it is parsed as any place on another host.
        const auto place = node.address.starts_with("ssh://") && node.address.find('/', 6) == std::string::npos
                               ? remote::parse_ssh_place(node.address + "/node")
                               : std::nullopt;
        if (!place) {
            throw Error::usage(node.place + ": the address of " + node.name + " is " + node.address,
                               "it is local, or ssh://[user@]host[:port]");
        }
    }

    // One repository by whatever way: the host and path of an ssh place; else the path on the node's own host.
    static std::string place_of_repository(const ClusterNode& node) {
        const auto far = remote::parse_ssh_place(node.repository);
        return far ? far->destination.substr(far->destination.rfind('@') + 1) + " " + plain_path(far->path)
                   : node.address + " " + plain_path(node.repository);
    }

    void refuse_same() const {
        std::map<std::string, const ClusterNode*> repositories, directories;
        for (const ClusterNode& node : cluster_.nodes) {
            const auto [repository, is_new] = repositories.emplace(place_of_repository(node), &node);
            if (!is_new) {
                throw Error::usage(node.place + ": the nodes " + repository->second->name + " and " + node.name + " have one repository, " +
                                       node.repository,
                                   "a repository holds the backups of one node: mixing two loses data");
            }
            const auto [directory, is_new_one] = directories.emplace(node.address + " " + node.directory, &node);
            if (!is_new_one) {
                throw Error::usage(
                    node.place + ": the nodes " + directory->second->name + " and " + node.name + " have one directory, " + node.directory,
                    "give each its own, or its address");
            }
        }
    }

    const std::string file_;
    const OptionSet options_;
    ClusterFile cluster_;
    std::vector<ConfigEntry> defaults_;
    bool in_node_ = false;  // the entry before was of a node
};

}  // namespace

ClusterFile parse_cluster_file(const std::string& text, const std::string& file) {
    return Parser(file).parse(text);
}

ClusterFile read_cluster_file(const std::string& path) {
    const auto text = read_small_file(path);
    if (!text) {
        throw Error::usage("there is no cluster file " + path);
    }
    return parse_cluster_file(*text, path);
}

}  // namespace nodesnap::command

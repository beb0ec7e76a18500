// The cluster file: which nodes a cluster has, how they are reached, and how each is backed up.
//
//     [cluster]
//     name = orders
//     profile = quasardb
//     hold = freeze
//     [node db1]
//     address = ssh://root@db1
//     directory = /var/lib/qdb/db
//     repository = ssh://backup@vault/backup/db1
//     [node db2]
//     ...
//
// As the configuration file is written. Besides `address` ("local", the default, or a host to which ssh leads), `directory` and
// `repository`, which each node must have, a node takes the options of `backup` that say how it is backed up; what stands in [cluster] is
// for all that don't say otherwise, lists are joined. Secrets don't belong into it, and nothing takes one.
#pragma once

#include <string>
#include <vector>

#include "snapshot/command/config_file.h"

namespace nodesnap::command {

struct ClusterNode {
    std::string name;
    std::string address;               // empty: this host; else "ssh://[user@]host[:port]"
    std::string directory;             // absolute
    std::string repository;            // as the node names it
    std::vector<ConfigEntry> options;  // of `backup`, its own first; section is empty
    std::string place;                 // of its section, for messages
};

struct ClusterFile {
    std::string name;
    std::vector<ClusterNode> nodes;  // in the file's order, at least one
};

// Error::usage with file and line for what is wrong in it: unknown names, what is missing, two nodes of one name, one repository or one
// directory of one host.
ClusterFile parse_cluster_file(const std::string& text, const std::string& file);
ClusterFile read_cluster_file(const std::string& path);

}  // namespace nodesnap::command

#include "snapshot/command/cluster_file.h"

#include <gtest/gtest.h>

#include "platform/error.h"

namespace nodesnap::command {
namespace {

constexpr const char* kTwo =
    "[cluster]\n"
    "name = orders\n"
    "profile = quasardb\n"
    "hold = freeze\n"
    "exclude = *.tmp\n"
    "directory = /var/lib/qdb/db/\n"
    "[node db1]\n"
    "address = ssh://root@db1:2222\n"
    "repository = ssh://backup@vault/backup/db1\n"
    "exclude = cache\n"
    "hold = stop\n"
    "[node db2]\n"
    "address = ssh://root@db2\n"
    "repository = ssh://backup@vault/backup/db2\n";

std::string value_of(const ClusterNode& node, const std::string& name) {
    std::string all;
    for (const ConfigEntry& entry : node.options) {
        all += entry.name == name ? (all.empty() ? "" : ",") + entry.value : "";
    }
    return all;
}

// The message with its hint; empty if there is none.
std::string error_of(const std::string& text) {
    try {
        parse_cluster_file(text, "c.conf");
        return "";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kUsage);
        return error.message() + "; " + error.hint();
    }
}

TEST(ClusterFile, NodesTakeDefaultsUnlessTheySayOtherwise) {
    const ClusterFile cluster = parse_cluster_file(kTwo, "c.conf");
    EXPECT_EQ(cluster.name, "orders");
    ASSERT_EQ(cluster.nodes.size(), 2U);
    const ClusterNode& first = cluster.nodes[0];
    EXPECT_EQ(first.name, "db1");
    EXPECT_EQ(first.address, "ssh://root@db1:2222");
    EXPECT_EQ(first.directory, "/var/lib/qdb/db");
    EXPECT_EQ(first.repository, "ssh://backup@vault/backup/db1");
    EXPECT_EQ(value_of(first, "hold"), "stop");
    EXPECT_EQ(value_of(first, "profile"), "quasardb");
    EXPECT_EQ(value_of(first, "exclude"), "cache,*.tmp");
    EXPECT_EQ(value_of(cluster.nodes[1], "hold"), "freeze");
    EXPECT_EQ(value_of(cluster.nodes[1], "exclude"), "*.tmp");
}

TEST(ClusterFile, LocalIsThisHost) {
    const ClusterFile cluster = parse_cluster_file(
        "[cluster]\nname=c\n[node a]\naddress=local\ndirectory=/a\nrepository=/ra\n[node b]\ndirectory=/b\nrepository=/rb\n", "c");
    EXPECT_EQ(cluster.nodes[0].address, "");
    EXPECT_EQ(cluster.nodes[1].address, "");
}

TEST(ClusterFile, WhatCollidesIsRefused) {
    const std::string begin = "[cluster]\nname=c\n[node a]\ndirectory=/a\nrepository=/ra\n[node b]\n";
    EXPECT_EQ(error_of(begin + "directory=/b\nrepository=/rb\n"), "");
    EXPECT_NE(error_of(begin + "directory=/b\nrepository=/x/../ra/\n").find("nodes a and b have one repository"), std::string::npos);
    EXPECT_NE(error_of(begin + "directory=//a/.\nrepository=/rb\n").find("nodes a and b have one directory"), std::string::npos);
    // The same path on another host is another place, the same host by another user isn't.
    EXPECT_EQ(error_of(begin + "address=ssh://h\ndirectory=/a\nrepository=/ra\n"), "");
    EXPECT_NE(
        error_of("[cluster]\nname=c\n[node a]\ndirectory=/a\nrepository=ssh://x@v/r\n[node b]\ndirectory=/b\nrepository=ssh://y@v/r/\n")
            .find("one repository"),
        std::string::npos);
    EXPECT_NE(error_of(begin + "directory=/b\nrepository=/rb\n[node a]\ndirectory=/c\n").find("there is a section [node a] already"),
              std::string::npos);
    EXPECT_NE(error_of(begin + "directory=/b\ndirectory=/c\n").find("has directory = /b already"), std::string::npos);
}

TEST(ClusterFile, WhatIsWrongIsToldWithItsLine) {
    const std::string node = "[node a]\ndirectory=/a\nrepository=/ra\n";
    EXPECT_NE(error_of("").find("has no name"), std::string::npos);
    EXPECT_NE(error_of("[cluster]\nname=c\n").find("has no nodes"), std::string::npos);
    EXPECT_NE(error_of(node).find("has no name"), std::string::npos);
    EXPECT_NE(error_of("[cluster]\nname=c\nname=d\n" + node).find("c.conf, line 3"), std::string::npos);
    EXPECT_NE(error_of("[cluster]\nname=a b\n" + node).find("not a name"), std::string::npos);
    EXPECT_NE(error_of("name=c\n" + node).find("in no section"), std::string::npos);
    EXPECT_NE(error_of("[clutser]\nname=c\n" + node).find("[clutser]"), std::string::npos);
    EXPECT_NE(error_of("[cluster]\nname=c\nprofil=x\n" + node).find("profile"), std::string::npos);
    EXPECT_NE(error_of("[cluster]\nname=c\nrepository=/r\n" + node).find("of its own"), std::string::npos);
    EXPECT_NE(error_of("[cluster]\nname=c\n" + node + "dry-run=yes\n").find("isn't for a cluster file"), std::string::npos);
    EXPECT_NE(error_of("[cluster]\nname=c\n" + node + "hold=freeze\nhold=stop\n").find("set already, in c.conf, line 6"),
              std::string::npos);
    EXPECT_NE(error_of("[cluster]\nname=c\n[node a]\ndirectory=/a\n").find("has no repository"), std::string::npos);
    EXPECT_NE(error_of("[cluster]\nname=c\n[node a]\ndirectory=a\nrepository=/r\n").find("from / on"), std::string::npos);
    EXPECT_NE(error_of("[cluster]\nname=c\n[node a]\ndirectory=/a\nrepository=r\n").find("from / on"), std::string::npos);
    EXPECT_NE(error_of("[cluster]\nname=c\n[node a/b]\ndirectory=/a\nrepository=/r\n").find("not a name"), std::string::npos);
    for (const char* address : {"db1", "ssh://", "ssh://h/path", "ssh://-oX", "ssh://u:secret@h", "http://h"}) {
        EXPECT_NE(error_of("[cluster]\nname=c\n" + node + "address=" + address + "\n"), "") << address;
    }
}

}  // namespace
}  // namespace nodesnap::command

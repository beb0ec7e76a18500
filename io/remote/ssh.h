// A nodesnap on another host, reached by OpenSSH: as the program that the operator has, with their configuration, agent, known hosts and
// jump hosts. On the other host `nodesnap serve` is started, or what its authorized_keys pins.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "io/remote/connection.h"

namespace nodesnap::remote {

// "ssh://[user@]host[:port]/path". The path is absolute, and stands as it is.
struct SshPlace {
    std::string destination;  // "[user@]host", as ssh takes it
    std::string port;         // empty: as configured
    std::string path;
};

// nullopt if it begins otherwise; Error::usage if it is wrong.
std::optional<SshPlace> parse_ssh_place(const std::string& place);

struct SshOptions {
    std::string program = "ssh";  // with its own options, parted by blanks
    std::string remote_program = "nodesnap";
    std::string ciphers = {};  // in the order of preference; empty: as configured
};

// "ssh://[user@]host[:port]": a host alone; its path is empty.
std::optional<SshPlace> parse_ssh_host(const std::string& place);

// `may_ask`: for a password, where there is a terminal.
std::unique_ptr<Transport> dial_ssh(const SshPlace& place, const SshOptions& options, bool may_ask);

// The same with another command of nodesnap on that host than to serve its path: one that has work of its own, which goes on when the
// connection ends. Nobody is asked for anything.
std::unique_ptr<Transport> dial_agent(const SshPlace& place, const SshOptions& options);

// A word for the other host's shell, whichever it is, and the path that stands as the last word in what a client has asked for
// ("nodesnap serve '/backup/node1'"); Error::refused if that is something else.
std::string remote_word(const std::string& word);
std::string served_path(const std::string& command);

}  // namespace nodesnap::remote

// RemoteTarget: a repository on another host, where `nodesnap serve` does with its Target what this one is asked for.
//
// What Target promises holds: what is durable there when a call returns is so by the server's target, and a removal is durable when
// remove() returns. Large objects are written and read over the connection on which they were begun or opened; there are as many
// connections as objects that are on their way at once need, up to `connections`. Errors that happen there come as what they are (status,
// errno, remedy), with the host's name before them. When a connection ends, what was asked on it fails, and everything that is asked of it
// afterwards.
#pragma once

#include <memory>
#include <string>

#include "io/remote/lines.h"
#include "io/target/target.h"

namespace nodesnap::remote {

struct RemoteOptions {
    Dial dial;
    std::string place;  // as the operator gave it: "ssh://backup@host2/backup/node1"
    unsigned connections = 4;
};

// Connects. Error::failed if that isn't possible; what the server refuses comes as its error.
std::shared_ptr<Target> open_remote_target(RemoteOptions options, bool create);

}  // namespace nodesnap::remote

// A RemoteTarget whose servers run in threads of this process, over socket pairs in the place of ssh.
#pragma once

#include <functional>
#include <memory>

#include "io/remote/remote_target.h"
#include "io/remote/server.h"

namespace nodesnap::test {

struct ServedTargetOptions {
    unsigned connections = 3;
    bool use_io_uring = true;
    bool read_only = false;
};

// A way to a server of `options` in a thread of its own.
std::unique_ptr<remote::Transport> serve_in_thread(const remote::ServeOptions& options);
// The same `target`, served.
std::shared_ptr<Target> open_served_target(std::shared_ptr<Target> target, const ServedTargetOptions& options = {});

}  // namespace nodesnap::test

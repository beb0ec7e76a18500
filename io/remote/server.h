// The far end of a connection: does with a Target what a client asks for, over two descriptors, until the client closes its side, or the
// connection ends otherwise.
//
// Whatever the client sends, memory stays bounded (kWriteCredit, kPiece for each of a few reads, 64 MiB of one small object), and what
// breaks the protocol ends the connection with an error that the client is told. What a client has begun and not finished when it ends
// leaves nothing behind.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/target/target.h"
#include "platform/file_descriptor.h"

namespace nodesnap::remote {

// Output of a command that runs for a client: 1 standard output, 2 standard error.
using OutputPart = std::function<void(unsigned stream, std::string_view text)>;
// Runs a command, its words given, and returns its exit status. `shows_progress`: the client has a terminal for it. `ended`: it has gone.
using RunCommand = std::function<int(const std::vector<std::string>& words, bool shows_progress, const OutputPart& output,
                                     const std::function<bool()>& ended)>;

struct ServeOptions {
    // Opens what is served; `make` it if it isn't there. Errors are told to the client.
    std::function<std::shared_ptr<Target>(bool make)> open;
    RunCommand run;  // none: it isn't done
    // The client is there; `session`: the same number for all its connections.
    std::function<void(const std::shared_ptr<Target>& target, std::uint64_t session)> greeted = {};
    // It has swapped a small object. Any thread.
    std::function<void(std::string_view name, std::span<const std::byte> content)> swapped = {};
    bool read_only = false;
    bool use_io_uring = true;
};

// Returns when the connection has ended; throws Error::failed if it did so otherwise than by being closed between two frames.
void serve(FileDescriptor in, FileDescriptor out, const ServeOptions& options);

}  // namespace nodesnap::remote

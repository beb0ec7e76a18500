// Runs a command of nodesnap on the host of a repository, which reads it there and not over the connection.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/remote/remote_target.h"

namespace nodesnap::remote {

enum class OutputStream : unsigned { kOut = 1, kErr = 2 };
using OutputSink = std::function<void(OutputStream stream, std::string_view text)>;

// `words`: the command's name and its options, without the repository. `shows_progress`: its progress line is
// wanted, too, as it would write it to a terminal. The exit status; nullopt where the other side runs no commands. Asks
// on a connection of its own, with whose end the command ends.
std::optional<int> run_there(const Dial& dial, const std::vector<std::string>& words, bool shows_progress, const OutputSink& output);

}  // namespace nodesnap::remote

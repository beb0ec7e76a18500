#include "snapshot/command/far_command.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "io/remote/remote_run.h"
#include "platform/file.h"
#include "platform/program_run.h"
#include "snapshot/command/far_output.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

constexpr std::array<std::string_view, 4> kDoneThere{"verify", "repair", "prune", "forget"};
// What says how to reach the other host, or names files of this one.
constexpr std::array<std::string_view, 5> kOptionsOfHere{"ssh", "remote-program", "connections", "config", "scratch-dir"};

template <std::size_t size>
bool is_one_of(const std::array<std::string_view, size>& all, std::string_view name) {
    return std::find(all.begin(), all.end(), name) != all.end();
}

// Set for a command that runs for another host, whose terminal shows its progress.
constexpr const char* kProgressVariable = "NODESNAP_FAR_PROGRESS";

}  // namespace

std::optional<ExitStatus> run_far(const Command& command, Call& call) {
    const auto& positionals = call.options().positionals();
    if (!is_one_of(kDoneThere, command.name) || positionals.empty() || !is_far(positionals.front())) {
        return std::nullopt;
    }
    std::vector<std::string> words{command.name};
    for (const auto& [name, word] : call.options().words()) {
        if (!is_one_of(kOptionsOfHere, name)) {
            words.push_back(word);
        }
    }
    words.emplace_back("--");
    words.insert(words.end(), positionals.begin() + 1, positionals.end());
    FarOutput output(call.out(), call.streams().err, call.shows_progress());
    const auto status = remote::run_there(dial_of(call.options(), positionals.front()), words, call.shows_progress(),
                                          [&](remote::OutputStream stream, std::string_view text) {
                                              stream == remote::OutputStream::kOut ? output.add_out(text) : output.add_err(text);
                                          });
    output.end();
    return status ? std::optional(static_cast<ExitStatus>(*status)) : std::nullopt;
}

bool shows_progress_far() {
    return std::getenv(kProgressVariable) != nullptr;
}

remote::RunCommand far_runner(const std::string& path, bool only_verifies) {
    return [path, only_verifies](const std::vector<std::string>& words, bool shows_progress, const remote::OutputPart& output,
                                 const std::function<bool()>& ended) {
        const Command* command = words.empty() || !is_one_of(kDoneThere, words.front()) ? nullptr : find_command(words.front());
        if (command == nullptr) {
            throw Error::refused("no such command is done for another host", "give it on the repository's own");
        }
        if (only_verifies && words.front() != "verify") {
            throw Error::refused("\"nodesnap " + words.front() + "\" isn't done for a key that may only append",
                                 "give it on the repository's own host, or with a key that may do more");
        }
        const Options options(options_of(*command), {words.begin() + 1, words.end()});
        for (const auto& [name, word] : options.words()) {
            if (is_one_of(kOptionsOfHere, name)) {
                throw Error::refused("--" + name + " isn't for another host to say");
            }
        }
        ProgramRun run;
        run.arguments = {read_link(AT_FDCWD, "/proc/self/exe"), words.front(), path};
        run.arguments.insert(run.arguments.end(), words.begin() + 1, words.end());
        run.give_up = ended;
        run.take_output = [&](std::string_view text) { output(1, text); };
        run.take_error_output = [&](std::string_view text) { output(2, text); };
        if (shows_progress) {
            run.environment = {std::string(kProgressVariable) + "=1"};
        }
        const ProgramResult result = run_program(run);
        return result.exit_code < 0 ? static_cast<int>(ExitStatus::kFailed) : result.exit_code;
    };
}

}  // namespace nodesnap::command

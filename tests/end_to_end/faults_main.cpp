// The program with fault hooks that the environment sets:
//
//   NODESNAP_SIGNAL_AT="STEP[:NTH]"    sends itself NODESNAP_SIGNAL (9 when not given) when it passes the step for the NTH time
//                                      with NODESNAP_ONCE=FILE only if it can make that file
//   NODESNAP_SLEEP_AT=STEP             sleeps NODESNAP_SLEEP_MS whenever it passes the step: who is late
//   NODESNAP_STOP_AT="PREFIX:NTH"      stops itself (SIGSTOP) at the NTH operation whose name begins with PREFIX
//   NODESNAP_KILL_AT="PREFIX:NTH"      kills itself there
//   NODESNAP_INTERRUPT_AT=STEP         is interrupted, as by SIGTERM, whenever it passes the step (not together with NODESNAP_LIST_STEPS)
//   NODESNAP_LIST_STEPS=FILE           appends the name of each step that it passes
//   NODESNAP_FAIL="NTH:ERRNO[:PREFIX]" fails the NTH operation (whose name begins with PREFIX) once; with "+" after NTH all from then on
//   NODESNAP_FAIL_FROM=STEP            counts those operations from when it has passed the step (not together with the two above)
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "platform/interrupt.h"
#include "platform/terminal.h"
#include "snapshot/command/mount_back.h"
#include "snapshot/command/program.h"
#include "snapshot/hold/guard.h"
#include "tests/support/fault_hooks.h"

namespace {

std::string setting(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

std::vector<std::string> fields(const std::string& text) {
    std::vector<std::string> parts(1);
    for (const char letter : text) {
        if (letter == ':') {
            parts.emplace_back();
        } else {
            parts.back() += letter;
        }
    }
    return parts;
}

void arm(nodesnap::test::FaultHooks& hooks) {
    if (const std::string once = setting("NODESNAP_ONCE"); !once.empty()) {
        const std::string at = setting("NODESNAP_SIGNAL_AT");
        hooks.on_each_step([once, at](const std::string& step) {
            if (step == at && ::open(once.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) >= 0) {
                ::raise(SIGKILL);
            }
        });
    } else if (const auto at = fields(setting("NODESNAP_SIGNAL_AT")); !at[0].empty()) {
        const std::string number = setting("NODESNAP_SIGNAL");
        hooks.signal_at_step(at[0], number.empty() ? SIGKILL : std::stoi(number), at.size() > 1 ? std::stoull(at[1]) : 1);
    }
    if (const auto at = fields(setting("NODESNAP_STOP_AT")); at.size() > 1) {
        hooks.signal_at_operation(at[0], SIGSTOP, std::stoull(at[1]));
    }
    if (const auto at = fields(setting("NODESNAP_KILL_AT")); at.size() > 1) {
        hooks.signal_at_operation(at[0], SIGKILL, std::stoull(at[1]));
    }
    if (const std::string list = setting("NODESNAP_LIST_STEPS"); !list.empty()) {
        const int fd = ::open(list.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        hooks.on_each_step([fd](const std::string& step) {
            const std::string line = step + '\n';
            if (::write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
                std::abort();
            }
        });
    }
    if (const std::string late_at = setting("NODESNAP_SLEEP_AT"); !late_at.empty()) {
        const auto how_long = std::chrono::milliseconds(std::stoi(setting("NODESNAP_SLEEP_MS")));
        hooks.on_each_step([late_at, how_long](const std::string& step) {
            if (step == late_at) {
                std::this_thread::sleep_for(how_long);
            }
        });
    }
    if (const std::string interrupted_at = setting("NODESNAP_INTERRUPT_AT"); !interrupted_at.empty()) {
        hooks.on_each_step([interrupted_at](const std::string& step) {
            if (step == interrupted_at) {
                nodesnap::interrupt::request();
            }
        });
    }
    if (const auto fail = fields(setting("NODESNAP_FAIL")); fail.size() > 1) {
        const auto begin = [&hooks, fail] {
            hooks.fail_nth(std::stoull(fail[0]), std::stoi(fail[1]), fail[0].ends_with('+'), fail.size() > 2 ? fail[2] : "");
        };
        if (const std::string from = setting("NODESNAP_FAIL_FROM"); from.empty()) {
            begin();
        } else {
            hooks.on_each_step([from, begin](const std::string& step) {
                if (step == from) {
                    begin();
                }
            });
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    using namespace nodesnap;
    // As in the program itself, with the same hooks: no step is passed by both.
    if (argc == 2 + static_cast<int>(hold::kGuardArguments) && std::string_view(argv[1]) == "guard") {
        test::FaultHooks hooks;
        arm(hooks);
        return hold::run_guard({argv + 2, argv + argc});
    }
    if (command::is_mount_back(argc, argv)) {
        return command::run_mount_back({argv + 2, argv + argc});
    }
    std::ios::sync_with_stdio(false);
    interrupt::install();
    test::FaultHooks hooks;
    arm(hooks);
    command::Streams streams{std::cout, std::cerr, 1, is_terminal(1), is_terminal(2)};
    return command::run_program({argv + 1, argv + argc}, streams);
}

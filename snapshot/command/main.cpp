// The program: see program.h for what it does, and one file per subcommand beside it.
#include <malloc.h>

#include <iostream>
#include <string_view>

#include "platform/interrupt.h"
#include "platform/terminal.h"
#include "snapshot/command/far_command.h"
#include "snapshot/command/mount_back.h"
#include "snapshot/command/program.h"
#include "snapshot/hold/guard.h"

int main(int argc, char** argv) {
    using namespace nodesnap;
    // A backup that holds its daemon has started this program anew as its guard, which wants nothing of what follows. It is no command.
    if (argc == 2 + static_cast<int>(hold::kGuardArguments) && std::string_view(argv[1]) == "guard") {
        return hold::run_guard({argv + 2, argv + argc});
    }
    if (command::is_mount_back(argc, argv)) {
        return command::run_mount_back({argv + 2, argv + argc});
    }
    // Memory is bounded, but what each thread's own arena keeps of it after use isn't given to the others.
    ::mallopt(M_ARENA_MAX, 2);
    std::ios::sync_with_stdio(false);
    interrupt::install();
    command::Streams streams{std::cout, std::cerr, 1, is_terminal(1), is_terminal(2) || command::shows_progress_far()};
    return command::run_program({argv + 1, argv + argc}, streams);
}

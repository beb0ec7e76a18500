// The program: see program.h for what it does, and one file per subcommand beside it.
#include <malloc.h>

#include <iostream>

#include "platform/interrupt.h"
#include "platform/terminal.h"
#include "snapshot/command/program.h"

int main(int argc, char** argv) {
    using namespace nodesnap;
    // Memory is bounded, but what each thread's own arena keeps of it after use isn't given to the others.
    ::mallopt(M_ARENA_MAX, 2);
    std::ios::sync_with_stdio(false);
    interrupt::install();
    command::Streams streams{std::cout, std::cerr, 1, is_terminal(1), is_terminal(2)};
    return command::run_program({argv + 1, argv + argc}, streams);
}

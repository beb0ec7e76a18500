// Starts a program as a child in a session of its own, or in a process group of its own. Only async-signal-safe calls are made between fork
// and exec, so that a process with threads may do it.
//
// The child has default signal handlers, no blocked signals, and no descriptors but its three streams and those named. A program that can't
// be executed ends with 127, as in a shell, and says why on its standard error.
//
// Errors: Error::system. Threads: any. Privileges: none; entering a cgroup needs write access to it, and is left out where that is missing.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace nodesnap {

struct Spawn {
    std::vector<std::string> arguments;    // the program, found by PATH if it has no '/', and its arguments
    std::string program = {};              // if not empty: that is executed, and the first argument is only a name
    std::vector<std::string> environment;  // "NAME=value", instead of and besides this process's own
    int input = -1;                        // standard input; -1: /dev/null
    int output = -1;                       // standard output and error; -1: /dev/null
    int error_output = -1;                 // standard error, if it is to go elsewhere
    std::vector<int> inherited;            // descriptors that stay open, under their numbers
    int cgroup_procs = -1;                 // Cgroup::procs_descriptor() of the cgroup that it enters before it is executed
    bool keeps_session = false;            // and with it the terminal
    int death_signal = 0;                  // what it gets when the thread that started it ends; 0: nothing
};

// The caller waits for the child (wait_for_child), or leaves it behind as a zombie.
pid_t spawn(const Spawn& what);
// Waits until the child has ended; as waitpid gives it. Only once for each child.
int wait_for_child(pid_t pid);

}  // namespace nodesnap

#include "platform/spawn.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

// A name without '/' is looked up here: what execvp does isn't all safe between fork and exec.
std::vector<std::string> candidates(const std::string& program) {
    if (program.find('/') != std::string::npos) {
        return {program};
    }
    const char* path = std::getenv("PATH");
    const std::string directories = path == nullptr ? "/usr/sbin:/usr/bin:/sbin:/bin" : path;
    std::vector<std::string> all;
    for (std::size_t begin = 0; begin <= directories.size();) {
        const std::size_t end = std::min(directories.find(':', begin), directories.size());
        if (end > begin) {
            all.push_back(directories.substr(begin, end - begin) + "/" + program);
        }
        begin = end + 1;
    }
    return all;
}

// Of two variables of one name some programs take the first, some the last.
std::vector<std::string> merged_environment(const std::vector<std::string>& own) {
    std::vector<std::string> all = own;
    for (char** variable = environ; *variable != nullptr; ++variable) {
        const std::string_view text = *variable;
        const std::string_view name = text.substr(0, text.find('=') + 1);
        if (std::none_of(own.begin(), own.end(), [&](const std::string& given) { return given.starts_with(name); })) {
            all.emplace_back(text);
        }
    }
    return all;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> all;
    all.reserve(words.size() + 1);
    for (std::string& word : words) {
        all.push_back(word.data());
    }
    all.push_back(nullptr);
    return all;
}

// What the child needs, made before the fork.
struct Prepared {
    std::vector<char*> programs;
    std::vector<char*> arguments;
    std::vector<char*> environment;
    int input = -1;
    int output = -1;
    int error_output = -1;
    int cgroup_procs = -1;
    const std::vector<int>* inherited = nullptr;
    bool keeps_session = false;
    int death_signal = 0;
    pid_t parent = 0;
};

[[noreturn]] void become(const Prepared& prepared) {
    // It stays where its parent is if it may not enter: second best, but no reason not to start a daemon again.
    [[maybe_unused]] const bool entered = prepared.cgroup_procs >= 0 && ::write(prepared.cgroup_procs, "0", 1) == 1;
    if (prepared.keeps_session) {
        ::setpgid(0, 0);
    } else {
        ::setsid();
    }
    if (prepared.death_signal != 0) {
        ::prctl(PR_SET_PDEATHSIG, prepared.death_signal);
        if (::getppid() != prepared.parent) {
            ::_exit(127);  // it ended before that
        }
    }
    for (int number = 1; number < NSIG; ++number) {
        ::signal(number, SIG_DFL);
    }
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::dup2(prepared.input, 0);
    ::dup2(prepared.output, 1);
    ::dup2(prepared.error_output, 2);
    ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);  // since 5.11; ours are close-on-exec anyway, those that we were given may not be
    for (const int fd : *prepared.inherited) {
        ::fcntl(fd, F_SETFD, 0);
    }
    int error = ENOENT;
    for (char* program : prepared.programs) {
        if (program == nullptr) {
            break;
        }
        ::execve(program, prepared.arguments.data(), prepared.environment.data());
        if (errno != ENOENT && errno != ENOTDIR) {
            error = errno;
        }
    }
    const char* text = ::strerrordesc_np(error);
    [[maybe_unused]] const ssize_t told = ::write(2, text, std::strlen(text));
    ::_exit(127);
}

}  // namespace

pid_t spawn(const Spawn& what) {
    std::vector<std::string> programs = candidates(what.program.empty() ? what.arguments.at(0) : what.program);
    std::vector<std::string> arguments = what.arguments;
    std::vector<std::string> environment = merged_environment(what.environment);
    const FileDescriptor null = open_path("/dev/null", O_RDWR);
    Prepared prepared;
    prepared.programs = pointers(programs);
    prepared.arguments = pointers(arguments);
    prepared.environment = pointers(environment);
    prepared.input = what.input < 0 ? null.get() : what.input;
    prepared.output = what.output;
    prepared.error_output = what.error_output;
    prepared.cgroup_procs = what.cgroup_procs;
    prepared.inherited = &what.inherited;
    prepared.keeps_session = what.keeps_session;
    prepared.death_signal = what.death_signal;
    prepared.parent = ::getpid();
    if (prepared.output < 0) {
        prepared.output = null.get();
    }
    if (prepared.error_output < 0) {
        prepared.error_output = prepared.output;
    }
    if (const int error = fault::inject("fork")) {
        throw Error::system("start", what.arguments[0], error);
    }
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);  // no handler of ours may run in the child
    const pid_t pid = ::fork();
    if (pid == 0) {
        become(prepared);
    }
    const int error = errno;
    if (pid > 0 && what.keeps_session) {
        ::setpgid(pid, pid);  // whoever of the two comes first: its group is there when this returns
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) {
        throw Error::system("start", what.arguments[0], error);
    }
    return pid;
}

int wait_for_child(pid_t pid) {
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            throw Error::system("wait for process", std::to_string(pid), errno);
        }
    }
    return status;
}

}  // namespace nodesnap

#include "platform/program_run.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include "platform/clock.h"
#include "platform/file.h"
#include "platform/output_memory.h"
#include "platform/pidfd.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

using namespace std::chrono_literals;

ProgramResult shell(const std::string& command, std::chrono::nanoseconds limit = 0ns) {
    ProgramRun run;
    run.arguments = {"/bin/sh", "-c", command};
    run.environment = {"NODESNAP_TEST=value"};
    run.time_limit = limit;
    return run_program(run);
}

TEST(ProgramRun, GivesOutputAndStatus) {
    const ProgramResult result = shell("echo out; echo err >&2; exit 3");
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_FALSE(result.succeeded());
    EXPECT_EQ(result.output, "out\nerr\n");
    EXPECT_EQ(result.explanation(), "exit status 3: err");
    EXPECT_TRUE(shell("true").succeeded());
    EXPECT_EQ(shell("kill -9 $$").signal, SIGKILL);
}

// Far beyond what is kept in memory; standard error is kept all the same.
TEST(ProgramRun, OutputCanBeTakenAsItComes) {
    ProgramRun run;
    run.arguments = {"/bin/sh", "-c", "head -c 5000000 /dev/zero; echo err >&2; exit 3"};
    std::size_t taken = 0;
    run.take_output = [&](std::string_view text) { taken += text.size(); };
    const ProgramResult result = run_program(run);
    EXPECT_EQ(taken, 5'000'000U);
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_EQ(result.output, "err\n");
}

// It goes on only when what it has said was taken.
TEST(ProgramRun, StandardErrorCanBeTakenAsItComes) {
    const test::ScratchDirectory scratch;
    ProgramRun run;
    run.arguments = {"/bin/sh", "-c", "echo one >&2; while [ ! -e \"$0\" ]; do sleep 0.01; done; echo out; echo two >&2",
                     scratch / "heard"};
    run.time_limit = std::chrono::seconds(60);
    std::string out;
    std::string err;
    run.take_output = [&](std::string_view text) { out += text; };
    run.take_error_output = [&](std::string_view text) {
        err += text;
        if (err == "one\n") {
            write_file_durably(scratch / "heard", "");
        }
    };
    const ProgramResult result = run_program(run);
    EXPECT_TRUE(result.succeeded());
    EXPECT_EQ(out, "out\n");
    EXPECT_EQ(err, "one\ntwo\n");
    EXPECT_EQ(result.output, "");
    run.take_output = {};
    err.clear();
    EXPECT_EQ(run_program(run).output, "out\n");
    EXPECT_EQ(err, "one\ntwo\n");
}

TEST(ProgramRun, IsKilledWhenItsOutputIsRefused) {
    test::ScratchDirectory scratch;
    ProgramRun run;
    run.arguments = {"/bin/sh", "-c", "echo $$ > " + (scratch / "pid") + "; yes"};
    run.take_output = [&](std::string_view) { throw std::runtime_error("enough"); };
    EXPECT_THROW(run_program(run), std::runtime_error);
    EXPECT_NE(::kill(std::stoi(read_small_file(scratch / "pid").value()), 0), 0);
}

TEST(ProgramRun, OneThatPrintsAllTheTimeIsGivenUp) {
    ProgramRun run;
    run.arguments = {"yes"};
    run.take_output = [](std::string_view) {};
    run.give_up = [] { return true; };
    EXPECT_TRUE(run_program(run).timed_out);
}

TEST(ProgramRun, VariablesAreAddedAndReplaced) {
    ::setenv("NODESNAP_TEST", "older", 1);
    const ProgramResult result = shell("echo $NODESNAP_TEST; env | grep -c '^NODESNAP_TEST='; test -n \"$PATH\"");
    ::unsetenv("NODESNAP_TEST");
    EXPECT_EQ(result.output, "value\n1\n");
    EXPECT_TRUE(result.succeeded());
}

TEST(ProgramRun, IsFoundByPathOrFails) {
    ProgramRun run;
    run.arguments = {"true"};
    EXPECT_TRUE(run_program(run).succeeded());
    run.arguments = {"nodesnap-no-such-program"};
    const ProgramResult result = run_program(run);
    EXPECT_EQ(result.exit_code, 127);
    EXPECT_EQ(result.output, "No such file or directory");
}

TEST(ProgramRun, TimeLimitEndsTheWholeGroup) {
    test::ScratchDirectory scratch;
    // The shell ignores SIGTERM, its child too.
    const ProgramResult result = shell("trap '' TERM; sleep 1000 & echo $! > " + (scratch / "pid") + "; wait; wait", 100ms);
    EXPECT_TRUE(result.timed_out);
    EXPECT_EQ(result.signal, SIGKILL);
    EXPECT_EQ(result.explanation(), "it took too long");
    const auto child = Pidfd::open(std::stoi(read_small_file(scratch / "pid").value()));
    EXPECT_TRUE(!child || child->wait_ended(monotonic_ns() + 30'000'000'000));
}

TEST(ProgramRun, ChildThatOutlivesItsParentAtTheLimitIsEndedToo) {
    test::ScratchDirectory scratch;
    // The parent ends on SIGTERM, the child ignores it.
    const std::string child = "trap '' TERM; echo \\$\\$ > " + (scratch / "pid") + "; while :; do sleep 0.1; done";
    const ProgramResult result = shell("sh -c \"" + child + "\" & wait", 2s);
    EXPECT_TRUE(result.timed_out);
    EXPECT_EQ(result.signal, SIGTERM);
    const auto process = Pidfd::open(std::stoi(read_small_file(scratch / "pid").value()));
    EXPECT_TRUE(!process || process->wait_ended(monotonic_ns() + 30'000'000'000));
}

TEST(ProgramRun, DaemonThatIsLeftBehindGoesOnWritingAndIsntWaitedFor) {
    test::ScratchDirectory scratch;
    ::mkfifo((scratch / "go").c_str(), 0600);
    const ProgramResult result =
        shell("(read line < " + (scratch / "go") + "; echo late; echo $? > " + (scratch / "wrote") + ") & echo early");
    EXPECT_TRUE(result.succeeded());
    EXPECT_EQ(result.output, "early\n");
    write_all(open_path(scratch / "go", O_WRONLY).get(), std::as_bytes(std::span("x\n", 2)), "fifo");
    while (read_small_file(scratch / "wrote").value_or("").empty()) {
        ::usleep(1000);
    }
    EXPECT_EQ(read_small_file(scratch / "wrote"), "0\n");
}

TEST(ProgramRun, OutputIsBounded) {
    const ProgramResult result = shell("head -c 3000000 /dev/zero | tr '\\0' x");
    EXPECT_LE(result.output.size(), OutputMemory::kLimit);
    EXPECT_GT(result.output.size(), OutputMemory::kLimit / 2);
}

TEST(ProgramRun, CallsBackWhileItWaits) {
    test::ScratchDirectory scratch;
    ::mkfifo((scratch / "go").c_str(), 0600);
    ProgramRun run;
    run.arguments = {"/bin/sh", "-c", "read line < " + (scratch / "go")};
    int calls = 0;
    run.while_waiting = [&] {
        if (++calls == 2) {
            write_all(open_path(scratch / "go", O_WRONLY).get(), std::as_bytes(std::span("x\n", 2)), "fifo");
        }
    };
    EXPECT_TRUE(run_program(run).succeeded());
    EXPECT_GE(calls, 2);
}

TEST(ProgramRun, HasNoTerminalNoInputAndNoOtherDescriptors) {
    const ProgramResult result = shell("ls /proc/self/fd | tr '\\n' ' '; cat; ps -o sid= -p $$ | tr -d ' '; echo $$");
    // ls itself has the directory open as 3.
    std::istringstream words(result.output);
    std::string zero, one, two, three, session, pid;
    words >> zero >> one >> two >> three >> session >> pid;
    EXPECT_EQ(zero + one + two + three, "0123");
    EXPECT_EQ(session, pid);
}

}  // namespace
}  // namespace nodesnap

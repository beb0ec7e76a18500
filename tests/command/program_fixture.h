// Runs the command line in this process, on a scratch directory with a small node directory and a repository.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "platform/interrupt.h"
#include "snapshot/command/program.h"
#include "tests/support/loop_mount.h"

namespace nodesnap::test {

struct Outcome {
    int status = 0;
    std::string out;
    std::string err;
    nlohmann::json json() const { return nlohmann::json::parse(out); }
};

class ProgramTest : public testing::Test {
protected:
    ProgramTest() {
        std::filesystem::create_directories(scratch_ / "node/data");
        write("node/data/CURRENT", "MANIFEST-000001\n");
        write("node/data/000001.sst", std::string(300'000, 's'));
        write("node/conf", "size = 1\n");
    }
    ~ProgramTest() override { interrupt::clear(); }

    void write(const std::string& name, const std::string& content) { std::ofstream(scratch_ / name, std::ios::binary) << content; }

    Outcome run(std::vector<std::string> arguments) {
        std::ostringstream out, err;
        command::Streams streams{out, err};
        streams.out_is_terminal = out_is_terminal_;
        Outcome outcome;
        outcome.status = command::run_program(arguments, streams, system_configuration_);
        outcome.out = out.str();
        outcome.err = err.str();
        return outcome;
    }
    std::string repository() const { return scratch_ / "repository"; }
    Outcome init() { return run({"init", repository(), "--node", "node1"}); }
    Outcome backup(const std::vector<std::string>& more = {}) {
        // Whether a directory is in use can't be told on every machine that tests run on.
        std::vector<std::string> arguments = {"backup", scratch_ / "node", repository(), "--snapshot", "none", "--accept-inconsistent"};
        for (const std::string& option :
             {"--state-dir=" + (scratch_ / "state"), "--scratch-dir=" + (scratch_ / ""), std::string("--workers=1")}) {
            arguments.push_back(option);
        }
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run(arguments);
    }
    std::vector<std::string> objects(const std::string& folder) const {
        std::vector<std::string> found;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(repository() + "/" + folder)) {
            if (entry.is_regular_file()) {
                found.push_back(entry.path());
            }
        }
        return found;
    }
    static void flip(const std::string& file, std::int64_t offset) {
        std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
        stream.seekg(offset, offset < 0 ? std::ios::end : std::ios::beg);
        const auto at = stream.tellg();
        const int byte = stream.get();
        stream.seekp(at);
        stream.put(static_cast<char>(byte ^ 8));
    }

    ScratchDirectory scratch_;
    std::string system_configuration_;
    bool out_is_terminal_ = false;
};

}  // namespace nodesnap::test

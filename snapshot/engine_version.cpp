#include "snapshot/engine_version.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <sstream>

#include "platform/interrupt.h"
#include "platform/program_run.h"

namespace nodesnap {
namespace {

constexpr std::size_t kLongestText = 200;
constexpr std::chrono::seconds kLimit{30};
constexpr int kNotFound = 127;  // as the shell tells

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// "3.14.1" out of "qdbd 3.14.1-nightly (2024)"; empty where no two numbers have a '.' between them.
std::vector<std::uint64_t> numbers_in(const std::string& line) {
    std::vector<std::uint64_t> numbers;
    for (const char* at = line.data(); at != line.data() + line.size();) {
        if (!is_digit(*at)) {
            numbers.clear();
            ++at;
            continue;
        }
        std::uint64_t number = 0;
        const auto [end, problem] = std::from_chars(at, line.data() + line.size(), number);
        if (problem != std::errc{}) {
            return {};
        }
        numbers.push_back(number);
        const bool goes_on = line.data() + line.size() - end >= 2 && *end == '.' && is_digit(end[1]);
        if (!goes_on && numbers.size() > 1) {
            return numbers;
        }
        if (!goes_on) {
            numbers.clear();
        }
        at = goes_on ? end + 1 : end;
    }
    return {};
}

}  // namespace

EngineVersion parse_engine_version(const std::string& output) {
    std::istringstream lines(output);
    for (std::string line; std::getline(lines, line);) {
        auto numbers = numbers_in(line);
        if (!numbers.empty()) {
            while (!line.empty() && static_cast<unsigned char>(line.back()) <= ' ') {
                line.pop_back();
            }
            return {line.substr(0, kLongestText), std::move(numbers)};
        }
    }
    return {};
}

bool is_older(const EngineVersion& version, const EngineVersion& than) {
    const std::size_t count = std::max(version.numbers.size(), than.numbers.size());
    auto a = version.numbers;
    auto b = than.numbers;
    a.resize(count);
    b.resize(count);
    return a < b;
}

EngineAnswer ask_engine_version(const std::string& command, const std::string& node_directory) {
    ProgramRun run;
    run.arguments = {"/bin/sh", "-c", command};
    run.environment = {"NODESNAP_DIRECTORY=" + node_directory, "NODESNAP_REASON=version"};
    run.time_limit = kLimit;
    run.give_up = [] { return interrupted(); };
    const ProgramResult result = run_program(run);
    throw_if_interrupted();
    EngineAnswer answer;
    if (!result.succeeded()) {
        answer.not_installed = result.exit_code == kNotFound;
        answer.problem = result.explanation();
        return answer;
    }
    answer.version = parse_engine_version(result.output);
    if (!answer.version.known()) {
        answer.problem = "it printed no version";
    }
    return answer;
}

}  // namespace nodesnap

#include "io/remote/ssh_ciphers.h"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <vector>

#include "platform/cpu.h"
#include "platform/program_run.h"

namespace nodesnap::remote {
namespace {

constexpr std::string_view kFast = "aes128-gcm@openssh.com";
constexpr std::string_view kKeyword = "ciphers ";

std::string ciphers_in(const std::string& settings) {
    std::size_t begin = 0;
    while (settings.compare(begin, kKeyword.size(), kKeyword) != 0) {
        begin = settings.find('\n', begin);
        if (begin == std::string::npos) {
            return "";
        }
        ++begin;
    }
    begin += kKeyword.size();
    return settings.substr(begin, settings.find_first_of("\r\n", begin) - begin);
}

// What ssh would go by; empty if it doesn't say.
std::string settings_for(const SshPlace& place, const std::vector<std::string>& options) {
    ProgramRun run;
    run.arguments = {"ssh", "-G"};
    run.arguments.insert(run.arguments.end(), options.begin(), options.end());
    if (!place.port.empty()) {
        run.arguments.insert(run.arguments.end(), {"-p", place.port});
    }
    run.arguments.insert(run.arguments.end(), {"--", place.destination});
    run.time_limit = std::chrono::seconds(10);
    const ProgramResult result = run_program(run);
    return result.succeeded() ? result.output : "";
}

}  // namespace

std::string preferred_ciphers(const std::string& configured, const std::string& built_in) {
    const std::string ciphers = ciphers_in(built_in);
    if (ciphers.empty() || ciphers_in(configured) != ciphers) {
        return "";
    }
    std::string first;
    std::string others;
    for (std::size_t begin = 0; begin < ciphers.size();) {
        const std::size_t end = std::min(ciphers.find(',', begin), ciphers.size());
        const std::string cipher = ciphers.substr(begin, end - begin);
        if (cipher == kFast) {
            first = cipher;
        } else {
            others += "," + cipher;
        }
        begin = end + 1;
    }
    return first.empty() ? "" : first + others;
}

std::string preferred_ciphers(const SshPlace& place) {
    return cpu_has_aes() ? preferred_ciphers(settings_for(place, {}), settings_for(place, {"-F", "none"})) : "";
}

}  // namespace nodesnap::remote

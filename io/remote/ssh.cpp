#include "io/remote/ssh.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <string_view>
#include <utility>
#include <vector>

#include "platform/program_stream.h"
#include "platform/terminal.h"

namespace nodesnap::remote {
namespace {

constexpr std::string_view kScheme = "ssh://";
constexpr std::string_view kServe = " serve ";

class SshTransport : public Transport {
public:
    SshTransport(std::string host, const std::vector<std::string>& arguments, bool asks)
        : host_(std::move(host)), program_(arguments, asks) {}
    FileDescriptor take_in() override { return program_.take_in(); }
    FileDescriptor take_out() override { return program_.take_out(); }
    void greeted() override { program_.give_terminal_back(); }
    void may_outlive() {
        may_outlive_ = true;
        program_.may_outlive();
    }
    std::string describe() const override { return host_; }
    std::string last_words() override {
        // Of an agent others may be held meanwhile.
        return program_.end(std::chrono::milliseconds(may_outlive_ ? 200 : 2000));
    }

private:
    const std::string host_;
    ProgramStream program_;
    bool may_outlive_ = false;
};

Error wrong(const std::string& place, const std::string& why) {
    return Error::usage("\"" + place + "\": " + why, "a repository on another host is ssh://[user@]host[:port]/path");
}

bool is_host_letter(char letter) {
    return letter > ' ' && letter < '\x7f' && std::string_view("'\"\\`$&;|<>(){}*?!#").find(letter) == std::string_view::npos;
}

std::vector<std::string> words_of(const std::string& text) {
    std::vector<std::string> words;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find(' ', begin), text.size());
        if (end > begin) {
            words.push_back(text.substr(begin, end - begin));
        }
        begin = end + 1;
    }
    return words;
}

}  // namespace

namespace {

SshPlace parse(const std::string& place) {
    const std::size_t slash = std::min(place.find('/', kScheme.size()), place.size());
    SshPlace parsed;
    parsed.destination = place.substr(kScheme.size(), slash - kScheme.size());
    parsed.path = place.substr(slash);
    // An address of IPv6 is in brackets, which ssh doesn't take.
    const std::size_t at = parsed.destination.rfind('@');
    const std::size_t host = at == std::string::npos ? 0 : at + 1;
    const std::size_t bracket = parsed.destination.find(']', host);
    const bool bracketed = host < parsed.destination.size() && parsed.destination[host] == '[' && bracket != std::string::npos;
    const std::size_t colon = parsed.destination.find(':', bracketed ? bracket : host);
    if (colon != std::string::npos) {
        parsed.port = parsed.destination.substr(colon + 1);
        parsed.destination.resize(colon);
        unsigned port = 0;
        const auto [end, error] = std::from_chars(parsed.port.data(), parsed.port.data() + parsed.port.size(), port);
        if (error != std::errc() || end != parsed.port.data() + parsed.port.size() || port == 0 || port > 65535) {
            throw wrong(place, "\"" + parsed.port + "\" is not a port");
        }
    }
    if (bracketed) {
        parsed.destination.erase(bracket, 1);
        parsed.destination.erase(host, 1);
    }
    if (parsed.destination.substr(0, host).find(':') != std::string::npos) {
        throw wrong("ssh://...", "a password doesn't belong into it: ssh asks for it, or has a key");
    }
    if (host >= parsed.destination.size()) {
        throw wrong(place, "a host is missing");
    }
    if (parsed.destination.front() == '-' || parsed.destination[host] == '-' || parsed.destination.front() == '@' ||
        !std::all_of(parsed.destination.begin(), parsed.destination.end(), is_host_letter)) {
        throw wrong(place, "\"" + parsed.destination + "\" is not a user and a host");
    }
    if (parsed.path.find('\n') != std::string::npos || parsed.path.find('\0') != std::string::npos) {
        throw wrong(place, "there is a line break in the path");
    }
    return parsed;
}

std::vector<std::string> arguments_of(const SshPlace& place, const SshOptions& options, bool asks, const std::string& command) {
    std::vector<std::string> arguments = words_of(options.program);
    if (arguments.empty()) {
        throw Error::usage("no program is given that reaches the other host", "such as ssh");
    }
    // No connection that others share: all would be on one CPU, and what keeps it open holds on to our streams.
    for (const char* option :
         {"-T", "-a", "-x", "-oControlMaster=no", "-oControlPath=none", "-oRemoteCommand=none", "-oClearAllForwardings=yes"}) {
        arguments.emplace_back(option);
    }
    if (!asks) {
        arguments.emplace_back("-oBatchMode=yes");
    }
    if (!options.ciphers.empty()) {
        arguments.push_back("-oCiphers=" + options.ciphers);
    }
    if (!place.port.empty()) {
        arguments.insert(arguments.end(), {"-p", place.port});
    }
    arguments.insert(arguments.end(), {"--", place.destination, options.remote_program + command});
    return arguments;
}

}  // namespace

std::optional<SshPlace> parse_ssh_place(const std::string& place) {
    if (!place.starts_with(kScheme)) {
        return std::nullopt;
    }
    SshPlace parsed = parse(place);
    if (parsed.path.size() < 2) {
        throw wrong(place, "the path of the repository is missing");
    }
    return parsed;
}

std::optional<SshPlace> parse_ssh_host(const std::string& place) {
    if (!place.starts_with(kScheme)) {
        return std::nullopt;
    }
    SshPlace parsed = parse(place);
    if (parsed.path.size() > 1) {
        throw Error::usage("\"" + place + "\" has a path, where a host alone is meant", "write ssh://[user@]host[:port]");
    }
    parsed.path.clear();
    return parsed;
}

std::unique_ptr<Transport> dial_ssh(const SshPlace& place, const SshOptions& options, bool may_ask) {
    const bool asks = may_ask && has_terminal();
    const auto arguments = arguments_of(place, options, asks, std::string(kServe) + remote_word(place.path));
    return std::make_unique<SshTransport>(place.destination, arguments, asks);
}

std::unique_ptr<Transport> dial_agent(const SshPlace& place, const SshOptions& options) {
    // All others wait for it.
    SshOptions quick = options;
    quick.program += " -oConnectTimeout=30";
    auto transport = std::make_unique<SshTransport>(place.destination, arguments_of(place, quick, false, " agent"), false);
    transport->may_outlive();
    return transport;
}

std::string remote_word(const std::string& word) {
    std::string quoted = "'";
    for (const char letter : word) {
        quoted += letter == '\'' ? std::string("'\\''") : std::string(1, letter);
    }
    return quoted + "'";
}

std::string served_path(const std::string& command) {
    const auto refused = [&] { return Error::refused("\"" + command + "\" was asked for, where only nodesnap serve 'PATH' may be"); };
    const std::size_t at = command.find(std::string(kServe) + "'");
    if (at == std::string::npos || command.back() != '\'') {
        throw refused();
    }
    std::string path;
    const std::string_view quoted = std::string_view(command).substr(at + kServe.size());
    std::size_t i = 1;
    for (; i + 1 < quoted.size(); ++i) {
        if (quoted[i] != '\'') {
            path += quoted[i];
        } else if (quoted.substr(i).starts_with("'\\''") && i + 4 < quoted.size()) {
            path += '\'';
            i += 3;
        } else {
            throw refused();
        }
    }
    if (remote_word(path) != quoted) {
        throw refused();
    }
    return path;
}

}  // namespace nodesnap::remote

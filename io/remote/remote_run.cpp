#include "io/remote/remote_run.h"

#include "platform/random.h"

namespace nodesnap::remote {

std::optional<int> run_there(const Dial& dial, const std::vector<std::string>& words, bool shows_progress, const OutputSink& output) {
    RemoteConnection connection(dial(true), random_u64(), false);
    if (!connection.greeting().runs_commands) {
        return std::nullopt;
    }
    MessageWriter message;
    for (const std::string& word : words) {
        message.text(word);
    }
    constexpr int kUnknown = 1;
    std::optional<int> status;
    const auto take = [&](std::span<const std::byte> part) {
        MessageReader reader(part);
        const std::uint64_t what = reader.number();
        const auto rest = reader.rest();
        const std::string_view text(reinterpret_cast<const char*>(rest.data()), rest.size());
        if (what == static_cast<std::uint64_t>(OutputStream::kOut) || what == static_cast<std::uint64_t>(OutputStream::kErr)) {
            output(static_cast<OutputStream>(what), text);
        } else if (what == 0 && rest.size() == 1) {
            status = static_cast<int>(rest.front());
        } else {
            throw Error::failed(connection.host() + ": says something that wasn't asked for");
        }
    };
    connection.call_in_parts(FrameKind::kRun, message.take(), take, shows_progress ? 1 : 0);
    return status.value_or(kUnknown);
}

}  // namespace nodesnap::remote

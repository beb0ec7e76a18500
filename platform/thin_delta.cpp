#include "platform/thin_delta.h"

#include <charconv>
#include <optional>
#include <utility>

#include "platform/error.h"

namespace nodesnap::lvm {
namespace {

constexpr std::size_t kLongestTag = 4096;
constexpr std::uint64_t kSectorBytes = 512;
constexpr std::uint64_t kSmallestBlock = 64U << 10;  // of dm-thin
constexpr std::uint64_t kLargestBlock = 1U << 30;
constexpr std::string_view kSpaces = " \t\r\n";

[[noreturn]] void refuse(const std::string& what) {
    throw Error::failed("thin_delta gave what can't be understood: " + what.substr(0, 200),
                        "thin-provisioning-tools 0.7 to 1.0 are known; see what thin_delta prints");
}

std::string_view trimmed(std::string_view text) {
    const std::size_t begin = text.find_first_not_of(kSpaces);
    return begin == std::string_view::npos ? std::string_view() : text.substr(begin, text.find_last_not_of(kSpaces) - begin + 1);
}

std::uint64_t number_of(const std::map<std::string, std::string, std::less<>>& attributes, std::string_view name) {
    const auto found = attributes.find(name);
    std::uint64_t value = 0;
    if (found == attributes.end()) {
        refuse("no " + std::string(name));
    }
    const std::string& text = found->second;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc{} || end != text.data() + text.size()) {
        refuse(std::string(name) + "=\"" + text + "\"");
    }
    return value;
}

std::optional<BlockRange::Kind> kind_of(std::string_view name) {
    using Kind = BlockRange::Kind;
    static constexpr std::pair<std::string_view, Kind> kNames[] = {
        {"same", Kind::kSame}, {"different", Kind::kDifferent}, {"left_only", Kind::kLeftOnly}, {"right_only", Kind::kRightOnly}};
    for (const auto& [known, kind] : kNames) {
        if (name == known) {
            return kind;
        }
    }
    return std::nullopt;
}

}  // namespace

ThinDeltaParser::ThinDeltaParser(std::uint64_t left, std::uint64_t right, std::function<void(const BlockRange&)> take)
    : left_(left), right_(right), take_(std::move(take)) {}

void ThinDeltaParser::add(std::string_view text) {
    while (!text.empty()) {
        const std::size_t next = text.find(in_tag_ ? '>' : '<');
        const std::string_view piece = text.substr(0, next);
        if (in_tag_) {
            if (tag_.size() + piece.size() > kLongestTag) {
                refuse("<" + tag_);
            }
            tag_ += piece;
        } else if (!trimmed(piece).empty()) {
            refuse(std::string(trimmed(piece)));
        }
        if (next == std::string_view::npos) {
            return;
        }
        text.remove_prefix(next + 1);
        in_tag_ = !in_tag_;
        if (!in_tag_) {
            take_tag();
            tag_.clear();
        }
    }
}

void ThinDeltaParser::finish() const {
    if (in_tag_ || place_ != Place::kEnd) {
        refuse("it ends too early");
    }
}

// name attribute="value" ...
void ThinDeltaParser::take_tag() {
    std::string_view rest = tag_;
    Form form = Form::kOpening;
    if (rest.starts_with('/')) {
        form = Form::kClosing;
        rest.remove_prefix(1);
    } else if (rest.ends_with('/')) {
        form = Form::kWhole;
        rest.remove_suffix(1);
    }
    const std::string_view name = rest.substr(0, rest.find_first_of(kSpaces));
    rest = trimmed(rest.substr(name.size()));
    Attributes attributes;
    while (!rest.empty()) {
        const std::size_t equals = rest.find('=');
        const std::size_t close = equals == std::string_view::npos ? equals : rest.find('"', equals + 2);
        if (close == std::string_view::npos || rest[equals + 1] != '"') {
            refuse("<" + tag_ + ">");
        }
        const std::string attribute(trimmed(rest.substr(0, equals)));
        if (!attributes.emplace(attribute, rest.substr(equals + 2, close - equals - 2)).second) {
            refuse("<" + tag_ + ">");
        }
        rest = trimmed(rest.substr(close + 1));
    }
    take_element(form, name, attributes);
}

void ThinDeltaParser::take_element(Form form, std::string_view name, const Attributes& attributes) {
    if (place_ == Place::kDiff && form == Form::kWhole) {
        return take_range(name, attributes);
    }
    if (place_ == Place::kBegin && form == Form::kOpening && name == "superblock") {
        return begin_superblock(attributes);
    }
    if (place_ == Place::kSuperblock && form == Form::kOpening && name == "diff") {
        return begin_diff(attributes);
    }
    if (place_ == Place::kDiff && form == Form::kClosing && name == "diff") {
        place_ = Place::kBehindDiff;
        return;
    }
    if (place_ == Place::kBehindDiff && form == Form::kClosing && name == "superblock") {
        place_ = Place::kEnd;
        return;
    }
    refuse("<" + tag_ + ">");
}

void ThinDeltaParser::begin_superblock(const Attributes& attributes) {
    const std::uint64_t sectors = number_of(attributes, "data_block_size");
    if (sectors < kSmallestBlock / kSectorBytes || sectors > kLargestBlock / kSectorBytes) {
        refuse("<" + tag_ + ">");
    }
    block_bytes_ = sectors * kSectorBytes;
    place_ = Place::kSuperblock;
}

void ThinDeltaParser::begin_diff(const Attributes& attributes) {
    if (number_of(attributes, "left") != left_ || number_of(attributes, "right") != right_) {
        refuse("<" + tag_ + ">");
    }
    place_ = Place::kDiff;
}

void ThinDeltaParser::take_range(std::string_view name, const Attributes& attributes) {
    const auto kind = kind_of(name);
    if (!kind) {
        refuse("<" + tag_ + ">");
    }
    const BlockRange range{*kind, number_of(attributes, "begin"), number_of(attributes, "length")};
    const std::uint64_t most = UINT64_MAX / block_bytes_;
    if (range.length == 0 || range.begin < end_ || range.begin > most || range.length > most - range.begin) {
        refuse("<" + tag_ + ">");
    }
    end_ = range.begin + range.length;
    take_(range);
}

}  // namespace nodesnap::lvm

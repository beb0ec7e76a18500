#include "snapshot/command/json_writer.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "snapshot/command/printable.h"

namespace nodesnap::command {
namespace {

std::string quoted(std::string_view text) {
    return nlohmann::json(is_utf8(text) ? std::string(text) : printable_name(text)).dump();
}

}  // namespace

void JsonWriter::begin_object(std::string_view key) {
    put_key(key);
    begin('{');
}

void JsonWriter::begin_array(std::string_view key) {
    put_key(key);
    begin('[');
}

void JsonWriter::begin(char bracket) {
    separate();
    out_ << bracket;
    levels_.push_back({bracket == '{' ? '}' : ']'});
    started_ = true;
}

void JsonWriter::end() {
    const Level level = levels_.back();
    levels_.pop_back();
    if (!level.empty && levels_.size() < kIndentedDepth) {
        out_ << '\n' << std::string(2 * levels_.size(), ' ');
    }
    out_ << level.closing;
    if (levels_.empty()) {
        out_ << '\n';
    }
}

void JsonWriter::unwind() {
    after_key_ = false;
    while (levels_.size() > 1) {
        end();
    }
}

// What comes before a key, or before an element of an array.
void JsonWriter::separate() {
    if (after_key_) {
        after_key_ = false;
        return;
    }
    if (levels_.empty()) {
        return;
    }
    const bool indented = levels_.size() <= kIndentedDepth;
    if (!levels_.back().empty) {
        out_ << (indented ? "," : ", ");
    }
    levels_.back().empty = false;
    if (indented) {
        out_ << '\n' << std::string(2 * levels_.size(), ' ');
    }
}

void JsonWriter::put_key(std::string_view key) {
    separate();
    out_ << quoted(key) << ": ";
    after_key_ = true;
}

void JsonWriter::scalar(std::string_view key, std::string_view literal) {
    put_key(key);
    after_key_ = false;
    out_ << literal;
}

void JsonWriter::integer(std::string_view key, std::int64_t number) {
    scalar(key, std::to_string(number));
}
void JsonWriter::natural(std::string_view key, std::uint64_t number) {
    scalar(key, std::to_string(number));
}
void JsonWriter::member(std::string_view key, std::string_view text) {
    scalar(key, quoted(text));
}
void JsonWriter::member(std::string_view key, double number) {
    scalar(key, std::isfinite(number) ? nlohmann::json(number).dump() : "null");
}

void JsonWriter::element(std::string_view text) {
    separate();
    out_ << quoted(text);
}

void JsonWriter::name(std::string_view key, std::string_view bytes) {
    member(key, bytes);
    if (!is_utf8(bytes)) {
        member(std::string(key) + "_base64", base64(bytes));
    }
}

}  // namespace nodesnap::command

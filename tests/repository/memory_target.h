// MemoryTarget: the smallest Target that packs and nodes can be tested on, with direct access to the bytes that are stored and bad sectors.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>

#include "io/target/target.h"
#include "platform/error.h"

namespace nodesnap::test {

class MemoryTarget : public Target {
public:
    std::map<std::string, Bytes> objects;
    std::set<std::pair<std::string, std::uint64_t>> bad_sectors;  // object, offset of the block of 4096
    std::atomic<std::uint64_t> reads{0};

    std::string describe() const override { return "memory"; }
    std::string describe(std::string_view name) const override { return "memory/" + std::string(name); }
    int write_error() const override { return 0; }
    std::optional<std::uint64_t> free_bytes() const override { return std::nullopt; }
    bool create(std::string_view name, std::span<const std::byte> content) override {
        return objects.try_emplace(std::string(name), content.begin(), content.end()).second;
    }
    std::unique_ptr<ObjectWriter> begin(std::string_view name, std::string_view) override { return std::make_unique<Writer>(*this, name); }
    std::unique_ptr<ObjectReader> open(std::string_view name) override {
        const auto found = objects.find(std::string(name));
        return found == objects.end() ? nullptr : std::make_unique<Reader>(*this, found->first);
    }
    std::optional<VersionedObject> load(std::string_view name, std::uint64_t limit) override {
        const auto found = objects.find(std::string(name));
        if (found == objects.end()) {
            return std::nullopt;
        }
        if (found->second.size() > limit) {
            throw Error::damaged(describe(name), "longer than such an object may be");
        }
        return VersionedObject{found->second, "", 0};
    }
    bool swap(std::string_view, const std::optional<std::string>&, std::span<const std::byte>) override {
        throw std::logic_error("not needed here");
    }
    void list(std::string_view prefix, const std::function<void(const ObjectEntry&)>& each) override {
        for (const auto& [name, content] : objects) {
            if (name.starts_with(prefix)) {
                each({name, content.size()});
            }
        }
    }
    bool remove(std::string_view name) override { return objects.erase(std::string(name)) != 0; }
    void persist_removals(std::string_view) override {}
    void abandon(const std::function<bool(std::string_view)>&) override {}

private:
    class Writer : public ObjectWriter {
    public:
        Writer(MemoryTarget& target, std::string_view name) : target_(target), name_(name) {}
        Task<void> write(Ring&, std::span<const std::byte> data, std::uint64_t offset) override {
            if (offset != content_.size()) {
                throw std::logic_error("not written in sequence");
            }
            content_.insert(content_.end(), data.begin(), data.end());
            co_return;
        }
        Task<void> finish(Ring&) override {
            if (!target_.objects.try_emplace(name_, std::move(content_)).second) {
                throw std::logic_error("an object is overwritten");
            }
            co_return;
        }

    private:
        MemoryTarget& target_;
        std::string name_;
        Bytes content_;
    };

    class Reader : public ObjectReader {
    public:
        Reader(MemoryTarget& target, std::string name) : target_(target), name_(std::move(name)) {}
        std::uint64_t size() const override { return target_.objects.at(name_).size(); }
        Task<void> read(Ring&, std::span<std::byte> into, std::uint64_t offset) override {
            read(into, offset);
            co_return;
        }
        void read(std::span<std::byte> into, std::uint64_t offset) override {
            const Bytes& content = target_.objects.at(name_);
            ++target_.reads;
            if (offset > content.size() || into.size() > content.size() - offset) {
                throw Error::damaged(name_, "read beyond its end");
            }
            for (std::uint64_t block = offset / 4096 * 4096; block < offset + into.size(); block += 4096) {
                if (target_.bad_sectors.contains({name_, block})) {
                    throw Error::system("read from", name_, EIO);
                }
            }
            std::memcpy(into.data(), content.data() + offset, into.size());
        }

    private:
        MemoryTarget& target_;
        std::string name_;
    };
};

}  // namespace nodesnap::test

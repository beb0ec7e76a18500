// StrictTarget: a Target in memory that allows only what every object store can do, and complains (std::logic_error) about the rest: a
// write that isn't where the last one ended, a write after finish(), a small object above 64 MiB, an invalid name. Its list() may lag
// behind; each operation may be made to fail, before or after it took effect (the lost reply of a network). Counts operations. Thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "io/target/target.h"

namespace nodesnap::test {

class StrictTarget : public Target, public std::enable_shared_from_this<StrictTarget> {
public:
    enum class Op : std::uint8_t { kCreate, kBegin, kWrite, kFinish, kOpen, kRead, kLoad, kSwap, kList, kRemove, kAbandon, kPersist };
    static constexpr std::size_t kOps = 12;
    enum class FaultKind : std::uint8_t { kBefore, kAfter };  // kAfter: it took effect, but the caller sees an error

    static std::shared_ptr<StrictTarget> make() { return std::make_shared<StrictTarget>(); }
    StrictTarget();
    ~StrictTarget() override;

    // A new object appears in list() only after `calls` further calls of any operation; a removed one stays listed as long.
    void set_list_lag(std::uint64_t calls);
    // The `nth` call of `op` from now on (1: the next) fails with `error_number`; `for_good`: and all after it.
    void fail(Op op, std::uint64_t nth, int error_number, FaultKind kind = FaultKind::kBefore, bool for_good = false);
    void clear_faults();
    // Each operation takes so long at least.
    void set_delay(std::chrono::microseconds delay);
    // Calls of `op` stand still until let_go().
    void hold(Op op);
    void let_go();
    void set_writable(bool writable);
    std::uint64_t count(Op op) const;

    // Behind the interface's back, for tests that damage what is stored. Error::failed if there is no such object.
    Bytes peek(const std::string& name) const;
    void poke(const std::string& name, const Bytes& content);
    bool contains(const std::string& name) const;
    void erase(const std::string& name);
    // From now on the object's block of 4096 there can't be read (EIO); until the object is replaced.
    void spoil(const std::string& name, std::uint64_t offset);
    // The next large object that is finished has a flipped bit there.
    void corrupt_next_finish(std::uint64_t offset);
    void set_free_bytes(std::uint64_t bytes);  // what free_bytes() tells; nothing until then
    // The process that used it is gone: its removals that weren't durable yet are made so by persist_removals() alone.
    void end_process();
    // Removed objects come back whose removal wasn't durable, unless something else has their name.
    void power_cut();
    std::size_t unfinished() const;  // large objects begun, neither finished nor destroyed nor abandoned

    std::string describe() const override;
    std::string describe(std::string_view name) const override;
    int write_error() const override;
    std::optional<std::uint64_t> free_bytes() const override;
    bool create(std::string_view name, std::span<const std::byte> content) override;
    std::unique_ptr<ObjectWriter> begin(std::string_view name, std::string_view staging_id) override;
    std::unique_ptr<ObjectReader> open(std::string_view name) override;
    std::optional<VersionedObject> load(std::string_view name, std::uint64_t limit) override;
    std::optional<VersionedObject> load_salvaging(std::string_view name, std::uint64_t limit) override;
    bool swap(std::string_view name, const std::optional<std::string>& expected, std::span<const std::byte> content) override;
    void list(std::string_view prefix, const std::function<void(const ObjectEntry&)>& each) override;
    bool remove(std::string_view name) override;
    void persist_removals(std::string_view folder) override;
    void abandon(const std::function<bool(std::string_view)>& given_up) override;

    struct State;

private:
    std::shared_ptr<State> state_;
};

}  // namespace nodesnap::test

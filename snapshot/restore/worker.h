// RestoreWorker: one thread that restores: a ring of its own, a pool of registered buffers, several pieces of work in flight.
//
// Data goes from a pack into a buffer, is proved there, and is written to its files from where it landed. Names and attributes are made by
// plain system calls in between, which a ring would only hand to another thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/buffer_pool.h"
#include "io/ring.h"
#include "io/semaphore.h"
#include "snapshot/restore/assembly.h"
#include "snapshot/restore/job.h"
#include "snapshot/restore/kept.h"
#include "snapshot/restore/queue.h"
#include "snapshot/run_reader.h"

namespace nodesnap {

class RestoreWorker {
public:
    struct Options {
        bool force_blocking = false;
        std::size_t buffers = 12;
        std::size_t works = 3;           // pieces of work in flight
        ReadPlan::Limits plan;           // of one of them
        ReadPlan::Limits assembly_plan;  // of a window that is put together in memory; there is one at a time
        std::size_t slice_files = 256;
    };

    RestoreWorker(RestoreContext& context, RestoreQueue& queue, const Options& options);
    // Until there is no more work; throws the first error, after which the queue must be aborted.
    void run();
    const std::string& fallback_reason() const { return ring_.fallback_reason(); }

private:
    struct Reads;
    class RoomHold;

    void start(RestoreWork work);
    void sort(RestoreBatch& batch, const std::shared_ptr<RestoreBatch>& shared);
    void push_slices(const std::shared_ptr<RestoreBatch>& batch, std::vector<std::unique_ptr<RestoreFile>> files);
    Task<void> restore_window(std::shared_ptr<RestoreLarge> large, RestoreWindow window);
    Task<bool> fill_window(const RestoreWindow& window, const RestoreFile& file, WindowJob& job);  // false as of execute()
    Task<void> write_assembled(const RestoreAssembly& assembly, WindowJob& job);
    Task<void> restore_slice(std::unique_ptr<RestoreSlice> slice);
    // What the backup hasn't got of the run becomes zeros, if that is accepted.
    void add(ReadPlan& plan, const Run& run, std::uint64_t from, std::uint64_t length, std::uint32_t file, const RestoreJob& job);
    // The same of a file that holds something, only where that differs.
    Task<void> add_differing(ReadPlan& plan, RunPart part, std::uint32_t file, const RestoreFile& to, RestoreJob& job);
    Task<void> compare(ReadPlan& plan, RunPart part, std::uint32_t file, const RestoreFile& to, RestoreJob& job);
    // Tells what is lost, and takes what is there of it before anything is written over it.
    LossSink keeping_sink(const RestoreJob& job, std::vector<KeptBytes>& kept);
    // False if it was given up, because of an error that the ring reports.
    Task<bool> execute(ReadPlan& plan, RestoreJob& job);
    Task<void> read_and_write(Buffer buffer, const PlannedRead& read, RestoreJob& job, Reads& reads);
    Task<bool> read_proved(const PlannedRead& read, std::span<std::byte> data, const RestoreJob& job);  // false: something of it is lost
    // Zeros, but for what was there before.
    Task<void> write_lost(const PlannedRead& read, std::span<std::byte> data, RestoreJob& job);
    void written(const Piece& piece, RestoreJob& job);
    // `kept` is written instead of what the data says.
    Task<void> write_pieces(const PlannedRead& read, std::span<std::byte> data, RestoreJob& job, std::vector<KeptBytes> kept);
    Task<void> write(RestoreJob::Sink sink, std::span<const std::byte> bytes, std::uint64_t offset, RestoreJob& job, std::uint32_t file);

    RestoreContext& context_;
    RestoreQueue& queue_;
    Options options_;
    Ring ring_;
    BufferPool buffers_;
    InodeLoader loader_;
    std::size_t works_ = 0;  // in flight
    AsyncSemaphore assembling_;
    std::vector<AssemblyRoom> rooms_;  // that nobody uses at present
};

}  // namespace nodesnap

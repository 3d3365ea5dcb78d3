// Goal: a shared file system that hangs stays its own problem: what lies in dram and nvme is served
// and stored as before, what lies only there fails in its time and is back with it, and nothing
// acknowledged is lost. Method: a node whose shared directory is a FUSE mount (bindfs) whose
// process is stopped by a signal, beside a node that reaches the same directory without it. Hangs
// TERRACE_HANG_SECONDS (8 unless set).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kBytes = 1'500'000;
constexpr int kNear = 40;  // more than dram takes
constexpr int kFar = 4;    // only in the shared directory
constexpr seconds kSharedTimeout{5};
// Whoever waits for the mount waits for its deadline, and hardly ends anything meanwhile. Closer
// limits would measure who else uses the machine.
constexpr milliseconds kSlowestMax{4'000};
constexpr double kSpeedMin = 0.2;

/// `directory` once more at `mount`, through a process that can be stopped.
class StoppableMount {
 public:
  static std::unique_ptr<StoppableMount> create(const std::string& directory,
                                                const std::string& mount) {
    const dev_t before = device_of(mount);
    const pid_t pid = ::fork();
    if (pid == 0) {
      const int null = ::open("/dev/null", O_RDWR);
      for (const int fd : {0, 1, 2}) (void)::dup2(null, fd);
      ::execlp("bindfs", "bindfs", "-f", directory.c_str(), mount.c_str(), nullptr);
      ::_exit(127);
    }
    std::unique_ptr<StoppableMount> made(new StoppableMount(pid, mount));
    const SystemClock clock;
    const Nanos until = clock.now() + seconds(10);
    while (clock.now() < until && ::waitpid(pid, nullptr, WNOHANG) == 0) {
      if (device_of(mount) != before) return made;
    }
    return nullptr;
  }
  ~StoppableMount() {
    (void)::kill(pid_, SIGKILL);
    (void)::waitpid(pid_, nullptr, 0);
    (void)::umount2(mount_.c_str(), MNT_DETACH);
  }
  void hang() const { (void)::kill(pid_, SIGSTOP); }
  void go_on() const { (void)::kill(pid_, SIGCONT); }

 private:
  StoppableMount(pid_t pid, std::string mount) : pid_(pid), mount_(std::move(mount)) {}
  static dev_t device_of(const std::string& path) {
    struct stat found {};
    return ::stat(path.c_str(), &found) == 0 ? found.st_dev : 0;
  }
  const pid_t pid_;
  const std::string mount_;
};

struct Traffic {
  int operations = 0;
  Nanos slowest{0};
  Nanos took{0};
  double per_second() const { return operations / std::chrono::duration<double>(took).count(); }
};

class SharedHang : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(real_);
    std::filesystem::create_directory(mounted_);
    mount_ = StoppableMount::create(real_, mounted_);
    if (mount_ == nullptr) GTEST_SKIP() << "needs bindfs, /dev/fuse and the right to mount";
    far_node_.emplace(shared_flags(real_));
    far_.emplace(far_node_->endpoint());
    std::vector<std::string> flags = shared_flags(mounted_);
    for (const char* each : {"--data-directory", data_.path().c_str(), "--nvme-bytes", "1GiB",
                             "--promote-hits", "0"}) {
      flags.emplace_back(each);
    }
    node_.emplace(flags);
    near_.emplace(node_->endpoint());
  }
  static std::vector<std::string> shared_flags(const std::string& place) {
    return {"--shared-directory",
            place,
            "--shared-bytes-max",
            "4GiB",
            "--dram-bytes",
            "32MiB",
            "--shared-timeout-ms",
            std::to_string(milliseconds(kSharedTimeout).count()),
            "--shared-list-period-ms",
            "50"};
  }
  static seconds hang_time() {
    const char* set = std::getenv("TERRACE_HANG_SECONDS");
    return seconds(std::max(set == nullptr ? 8 : std::atoi(set), 1));
  }
  /// Fetches from dram and nvme, and durable puts in between.
  Traffic run_for(seconds duration) {
    Traffic out;
    const Nanos begin = clock_.now();
    while (out.took < duration) {
      const Nanos started = clock_.now();
      const std::string name = std::to_string(out.operations % kNear);
      if (out.operations % 16 == 15) {
        EXPECT_EQ(near_->put("n" + std::to_string(next_put_++), kBytes, Durability::nvme),
                  StatusCode::kOk);
      } else {
        EXPECT_EQ(near_->fetch(name, kBytes), StatusCode::kOk);
      }
      ++out.operations;
      out.slowest = std::max(out.slowest, clock_.now() - started);
      out.took = clock_.now() - begin;
    }
    return out;
  }
  /// Until it is there.
  StatusCode fetch_within(seconds within, TestClient* client, const std::string& name) {
    const Nanos until = clock_.now() + within;
    StatusCode code = StatusCode::kUnavailable;
    while (code != StatusCode::kOk && code != StatusCode::kDataLoss && clock_.now() < until) {
      code = client->fetch(name, kBytes);
    }
    return code;
  }
  static std::string far(int i) { return "far" + std::to_string(i); }

  SystemClock clock_;
  ScratchDirectory shared_;
  ScratchDirectory data_;
  const std::string real_ = shared_.path() + "/real";
  const std::string mounted_ = shared_.path() + "/mounted";
  std::unique_ptr<StoppableMount> mount_;
  std::optional<NodeProcess> far_node_;
  std::optional<TestClient> far_;
  std::optional<NodeProcess> node_;
  std::optional<TestClient> near_;
  int next_put_ = 0;
};

TEST_F(SharedHang, dram_and_nvme_do_not_notice) {
  for (int i = 0; i < kNear; ++i) {
    ASSERT_EQ(near_->put(std::to_string(i), kBytes, Durability::nvme), StatusCode::kOk);
  }
  ASSERT_EQ(near_->put("said", kBytes, Durability::shared), StatusCode::kOk);
  for (int i = 0; i < kFar; ++i) {
    ASSERT_EQ(far_->put(far(i), kBytes, Durability::shared), StatusCode::kOk);
  }
  ASSERT_EQ(fetch_within(seconds(20), &*near_, far(0)), StatusCode::kOk);
  const Traffic before = run_for(seconds(3));

  mount_->hang();
  std::atomic<bool> over{false};
  std::thread beside([&] {
    TestClient client(node_->endpoint());
    for (int i = 1; !over; i = 1 + i % (kFar - 1)) {
      const Nanos started = clock_.now();
      EXPECT_NE(client.fetch(far(i), kBytes), StatusCode::kOk);
      EXPECT_LT(clock_.now() - started, 2 * kSharedTimeout);
    }
  });
  const Traffic meanwhile = run_for(hang_time());
  over = true;
  beside.join();
  mount_->go_on();

  std::printf("slowest %lld ms before, %lld ms while it hung; %.0f and %.0f a second\n",
              static_cast<long long>(before.slowest / milliseconds(1)),
              static_cast<long long>(meanwhile.slowest / milliseconds(1)), before.per_second(),
              meanwhile.per_second());
  EXPECT_LT(meanwhile.slowest, kSlowestMax);
  EXPECT_GT(meanwhile.per_second(), kSpeedMin * before.per_second());
  EXPECT_GT(node_->counter("shared_misses_late") + node_->counter("shared_misses_fenced"), 0u);
  for (int i = 0; i < kFar; ++i)
    EXPECT_EQ(fetch_within(seconds(60), &*near_, far(i)), StatusCode::kOk);
  EXPECT_EQ(fetch_within(seconds(1), &*far_, far(0)), StatusCode::kOk);
  node_->kill();
  EXPECT_EQ(fetch_within(seconds(20), &*far_, "said"), StatusCode::kOk);
}
}  // namespace
}  // namespace terrace::e2e

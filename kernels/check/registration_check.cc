// Read-only mappings of another process's memory, registered with CUDA: what a view's bytes are to
// a GPU while they are registered, when their owner changes, punches or leaves them, and after.
#include <algorithm>
#include <string>

#include "kernels/check/check.h"
#include "kernels/host_registration.h"

namespace terrace::gpu_check {
namespace {

/// What a GPU gets of `memory`.
std::vector<std::byte> through_device(std::span<const std::byte> memory, const DeviceBuffer& into) {
  must(cudaMemcpy(into.data(), memory.data(), memory.size(), cudaMemcpyHostToDevice), "copy");
  return into.bytes();
}

bool all_zero(const std::vector<std::byte>& bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

void check_errors(std::span<const std::byte> memory, Table* table) {
  HostRegistration none, second;
  const DeviceResult empty = HostRegistration::create({}, HostAccess::read_only, &none);
  table->check("nothing to register is refused", empty.code == cudaErrorInvalidValue);
  const DeviceResult twice = HostRegistration::create(memory, HostAccess::read_only, &second);
  table->check("a second registration is refused",
               twice.code == cudaErrorHostMemoryAlreadyRegistered, twice.message);
  const DeviceResult part =
      HostRegistration::create(memory.first(4096), HostAccess::read_only, &second);
  table->check("... also of a part", part.code == cudaErrorHostMemoryAlreadyRegistered,
               part.message);
  table->check("... and leaves no error behind", cudaGetLastError() == cudaSuccess);
  table->check("an empty registration can be ended", none.end().ok());
}

void note_writable_flags(std::span<const std::byte> memory, Table* table) {
  HostRegistration out;
  const DeviceResult status = HostRegistration::create(memory, HostAccess::read_write, &out);
  table->note("registered without cudaHostRegisterReadOnly",
              status.ok() ? "accepted" : "refused: " + status.message);
}

void check_owner_changes(Owner* owner, const DeviceBuffer& device, Table* table) {
  owner->refill(2);
  table->check("what the owner writes later is what is copied",
               through_device(owner->memory(), device) == content(device.size(), 2));
  owner->punch();
  const bool zeros = all_zero({owner->memory().begin(), owner->memory().end()});
  table->check("memory that its owner gave back reads as zeros here", zeros);
  const std::vector<std::byte> seen = through_device(owner->memory(), device);
  table->note("... and a registered copy of it reads", all_zero(seen) ? "zeros"
                                                       : seen == content(device.size(), 2)
                                                           ? "the old bytes: the pages stay pinned"
                                                           : "something else");
}
}  // namespace

void check_registration(Owner* owner, Table* table) {
  table->section("Registration of a read-only mapping of another process's memory file");
  table->note("cudaDevAttrHostRegisterReadOnlySupported",
              registers_read_only_memory() ? "yes" : "no");
  const std::span<const std::byte> memory = owner->memory();
  const DeviceBuffer device(memory.size());
  owner->refill(1);
  note_writable_flags(memory, table);
  table->check("unregistered: every byte arrives",
               through_device(memory, device) == content(memory.size(), 1));
  HostRegistration registration;
  const DeviceResult made = HostRegistration::create(memory, HostAccess::read_only, &registration);
  table->check("registers with cudaHostRegisterReadOnly | Portable", made.ok(), made.message);
  if (!made.ok()) return;
  cudaPointerAttributes attributes{};
  must(cudaPointerGetAttributes(&attributes, memory.data()), "cudaPointerGetAttributes");
  table->check("CUDA knows it as host memory", attributes.type == cudaMemoryTypeHost);
  must(cudaMemset(device.data(), 0, device.size()), "cudaMemset");
  table->check("registered: every byte arrives",
               through_device(memory, device) == content(memory.size(), 1));
  check_errors(memory, table);
  check_owner_changes(owner, device, table);
  table->check("unregisters", registration.end().ok());
  table->check("... once", registration.end().ok() && registration.memory().empty());
  must(cudaPointerGetAttributes(&attributes, memory.data()), "cudaPointerGetAttributes");
  table->check("CUDA does not know it any more", attributes.type == cudaMemoryTypeUnregistered);
  owner->refill(3);
  {
    HostRegistration again;
    const DeviceResult anew = HostRegistration::create(memory, HostAccess::read_only, &again);
    table->check("registers anew, after new pages came", anew.ok(), anew.message);
    table->check("... every byte arrives",
                 through_device(memory, device) == content(memory.size(), 3));
    owner->end();
    table->check("the owner's process has ended: the bytes stay",
                 through_device(memory, device) == content(memory.size(), 3));
  }
  table->check("leaves no error behind", cudaGetLastError() == cudaSuccess);
}
}  // namespace terrace::gpu_check

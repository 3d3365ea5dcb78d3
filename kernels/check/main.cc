// gpu_check [--checks-only]: what kernels/ promises, on the GPU of this machine; tools/gpu-check
// builds and runs it. With --checks-only nothing is measured, for compute-sanitizer.
// Exit codes: 0 all held, 1 something did not, 77 there is no GPU.
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/check/check.h"
#include "kernels/host_registration.h"

int main(int argc, char** argv) {
  using namespace terrace::gpu_check;
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (!words.empty() && words[0] == "--opened") return opened_elsewhere(words);
  const bool measure = argc < 2 || std::string(argv[1]) != "--checks-only";
  Owner copied(kSharedBytes);  // before CUDA starts: it forks
  Owner checked(size_t{64} << 20);
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found != cudaSuccess || devices == 0) {
    std::printf("gpu_check: no GPU here (%s): compiled, nothing was run\n",
                found == cudaSuccess ? "0 devices" : cudaGetErrorString(found));
    return 77;
  }
  cudaDeviceProp properties{};
  must(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  int driver = 0, runtime = 0;
  must(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  must(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  std::printf("%s, sm_%d%d, %d multiprocessors; driver API %d, runtime %d\n", properties.name,
              properties.major, properties.minor, properties.multiProcessorCount, driver, runtime);
  Table table;
  copied.refill(7);
  check_registration(&checked, &table);
  if (measure) measure_copies(copied, &table);
  check_accelerator(&table);
  if (measure) measure_accelerator(&table);
  check_paged_copy(&table);
  if (measure) measure_paged_copy(copied, &table);
  std::printf("\n%d failed\n", table.failures());
  return table.failures() == 0 ? 0 : 1;
}

/* Stand in for libcuda.so.1: every call succeeds and does nothing, so that what is left of a launch is the host's part.

   Built by host_time.py. Only what Triton's driver.c calls is here; names and types are those of the CUDA driver API. */
#include <stdint.h>
#include <string.h>

typedef int result;
static long launches = 0, encoded = 0;

long stand_in_launches(void) { return launches; }
long stand_in_encoded(void) { return encoded; }

result cuInit(unsigned flags) { return 0; }
result cuDriverGetVersion(int *version) { *version = 13000; return 0; }
result cuGetErrorString(result code, const char **text) { *text = "stand-in"; return 0; }
result cuDeviceGet(int *device, int ordinal) { *device = 0; return 0; }
result cuDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
  case 97: *value = 227 * 1024; break; /* MAX_SHARED_MEMORY_PER_BLOCK_OPTIN */
  case 81: *value = 228 * 1024; break; /* MAX_SHARED_MEMORY_PER_MULTIPROCESSOR */
  case 12: *value = 65536; break;      /* MAX_REGISTERS_PER_BLOCK */
  case 16: *value = 132; break;        /* MULTIPROCESSOR_COUNT */
  case 10: *value = 32; break;         /* WARP_SIZE */
  default: *value = 1;
  }
  return 0;
}
result cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)1; return 0; }
result cuCtxGetCurrent(void **context) { *context = (void *)1; return 0; }
result cuCtxSetCurrent(void *context) { return 0; }
result cuCtxGetLimit(size_t *value, int limit) { *value = 0; return 0; }
result cuCtxSetLimit(int limit, size_t value) { return 0; }
result cuModuleLoadData(void **module, const void *image) { *module = (void *)2; return 0; }
result cuModuleGetFunction(void **function, void *module, const char *name) { *function = (void *)3; return 0; }
result cuFuncGetAttribute(int *value, int attribute, void *function) {
  *value = attribute == 0 ? 1024 : 0; /* MAX_THREADS_PER_BLOCK */
  return 0;
}
result cuFuncSetAttribute(void *function, int attribute, int value) { return 0; }
result cuFuncSetCacheConfig(void *function, int config) { return 0; }
result cuOccupancyMaxActiveClusters(int *count, void *function, const void *config) { *count = 1; return 0; }
result cuPointerGetAttribute(void *data, int attribute, uint64_t pointer) { *(uint64_t *)data = pointer; return 0; }
result cuPointerGetAttributes(unsigned count, int *attributes, void **data, uint64_t pointer) { return 0; }
result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **parameters, void **extra) {
  launches++;
  return 0;
}
result cuLaunchKernelEx(const void *config, void *function, void **parameters, void **extra) {
  launches++;
  return 0;
}
result cuTensorMapEncodeTiled(void *map, int type, unsigned rank, void *address, const uint64_t *sizes,
                              const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,
                              int swizzle, int promotion, int fill) {
  memset(map, 0, 128);
  encoded++;
  return 0;
}
result cuTensorMapEncodeIm2col(void *map, int type, unsigned rank, void *address, const uint64_t *sizes,
                               const uint64_t *strides, const int *low, const int *high, unsigned channels,
                               unsigned pixels, const uint32_t *steps, int interleave, int swizzle, int promotion,
                               int fill) {
  memset(map, 0, 128);
  encoded++;
  return 0;
}

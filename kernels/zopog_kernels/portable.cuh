// One source, two compilers. A CUDA compiler makes GPU kernels of it; a host C++ compiler makes functions that a test
// calls once for every thread, with blockIdx and threadIdx as thread-local variables.
//
// Bits are promised of +, -, *, / and sqrt, each rounded once. So no compiler may contract a product and a sum into a
// fused multiply-add: --fmad=false for CUDA, -ffp-contract=off for the host. No header is included: NVRTC has none.
//
// THREAD_KERNEL: every thread works alone. BLOCK_KERNEL: the threads of a block work together, in phases:
//
//     EACH_THREAD(t) { ... }      // t = 0 .. THREADS-1; the barrier stands at the end of every phase
//
// What a phase writes to shared memory, another thread may read in the next phase and not in the same one. On the host a
// phase is a loop over t, in an order that the test chooses: if the order changes a bit, the phase has a race.
#ifdef __CUDACC__
#define INLINE __device__ __forceinline__
#define THREAD_KERNEL extern "C" __global__ void __launch_bounds__(128)
#define BLOCK_KERNEL THREAD_KERNEL
#define EACH_THREAD(t) for (int t = threadIdx.x, once = 1; once; once = 0, __syncthreads())
#define UNROLL _Pragma("unroll")
#else
struct Index { unsigned x, y; };
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;
static thread_local int thread_order = 0;  // 0 ascending, 1 descending, 2 scattered
static inline int nth_thread(int place) {
    const int last = static_cast<int>(blockDim.x) - 1;
    return thread_order == 0 ? place : thread_order == 1 ? last - place : (place * 37 + 11) & last;
}
extern "C" double log(double);
extern "C" double exp(double);
extern "C" float sqrtf(float);
extern "C" float floorf(float);
#define INLINE static inline
#define THREAD_KERNEL static void
#define BLOCK_KERNEL static void
#define EACH_THREAD(t) for (int place = 0, t = nth_thread(0); place < static_cast<int>(blockDim.x); t = nth_thread(++place))
#define UNROLL
#define __shared__ static thread_local
#endif

typedef unsigned int uint32;
typedef unsigned long long uint64;
typedef long long int64;
typedef unsigned short half_bits;  // an IEEE half-precision number as its bits

constexpr int THREADS = 128;  // of every block of every kernel; a power of two

INLINE int64 thread_index() { return static_cast<int64>(blockIdx.x) * THREADS + threadIdx.x; }

template <class Number> struct alignas(4 * sizeof(Number)) Four { Number v[4]; };  // one 8- or 16-byte access

#ifdef __CUDA_ARCH__
INLINE float bits_to_float(uint32 pattern) { return __uint_as_float(pattern); }
INLINE uint32 float_to_bits(float number) { return __float_as_uint(number); }
INLINE double minus_infinity() { return __longlong_as_double(0xFFF0000000000000ll); }
INLINE uint64 wide_product(uint32 a, uint32 b) {  // written out: from (uint64)a * b the compiler adds a zero to the upper half
    uint64 product;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
    return product;
}
#else
INLINE float bits_to_float(uint32 pattern) {
    float number;
    __builtin_memcpy(&number, &pattern, sizeof number);
    return number;
}
INLINE uint32 float_to_bits(float number) {
    uint32 pattern;
    __builtin_memcpy(&pattern, &number, sizeof pattern);
    return pattern;
}
INLINE uint64 wide_product(uint32 a, uint32 b) { return static_cast<uint64>(a) * b; }
INLINE double minus_infinity() { return -__builtin_huge_val(); }
#endif

// a b + c of an exact product: one rounding, as of a product that rounds nothing and a sum.
INLINE float exact_product_plus(float a, float b, float c) {
#ifdef __CUDA_ARCH__
    float sum;
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(sum) : "f"(a), "f"(b), "f"(c));
    return sum;
#else
    return a * b + c;
#endif
}

// a / b, rounded once, for |a| <= 1, 0 or no less than 2^-60, and b in [1, 4].
INLINE float quotient(float a, float b) {
#ifdef __CUDA_ARCH__
    float reciprocal, error, ratio;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(b));
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(error) : "f"(-b), "f"(reciprocal), "f"(1.0f));
    asm("fma.rn.f32 %0, %1, %2, %1;" : "=f"(reciprocal) : "f"(reciprocal), "f"(error));
    asm("mul.rn.f32 %0, %1, %2;" : "=f"(ratio) : "f"(a), "f"(reciprocal));
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(error) : "f"(-b), "f"(ratio), "f"(a));
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(ratio) : "f"(reciprocal), "f"(error), "f"(ratio));
    return ratio;
#else
    return a / b;
#endif
}

// sqrt(x), rounded once, for x = 0, -0, or in [2^-60, 2^60].
INLINE float root(float x) {
#ifdef __CUDA_ARCH__
    float inverse, estimate, error, rooted;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(fmaxf(x, 0x1p-60f)));
    asm("mul.rn.f32 %0, %1, %2;" : "=f"(estimate) : "f"(x), "f"(inverse));
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(error) : "f"(-estimate), "f"(estimate), "f"(x));
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(rooted) : "f"(error), "f"(inverse * 0.5f), "f"(estimate));
    return rooted;
#else
    return sqrtf(x);
#endif
}

// floor(x) + 2^23 for x in [0, 2^22]: its last bits are the integer's.
INLINE float floor_as_sum(float x) {
#ifdef __CUDA_ARCH__
    float sum;
    asm("add.rm.f32 %0, %1, %2;" : "=f"(sum) : "f"(x), "f"(0x1p23f));
    return sum;
#else
    return floorf(x) + 0x1p23f;
#endif
}

// x, its sign turned where bit 1 of `turn` is set.
INLINE float flipped(float x, uint32 turn) { return bits_to_float(float_to_bits(x) ^ (turn << 30 & 0x80000000u)); }

// Round to nearest, ties to even, as NumPy's float32 -> float16.
INLINE half_bits to_half(float number) {
#ifdef __CUDA_ARCH__
    half_bits half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(number));
    return half;
#else
    const uint32 pattern = float_to_bits(number), sign = (pattern >> 16) & 0x8000u, magnitude = pattern & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return static_cast<half_bits>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));  // NaN
    if (magnitude >= 0x477FF000u) return static_cast<half_bits>(sign | 0x7C00u);  // from 65,520 on: infinity
    if (magnitude < 0x33000001u) return static_cast<half_bits>(sign);              // up to 2^-25: zero
    const uint32 exponent = magnitude >> 23;
    const uint32 shift = exponent >= 113 ? 13 : 126 - exponent;  // below 2^-14: subnormal, fewer bits
    const uint32 fraction = exponent >= 113 ? magnitude - (112u << 23) : (magnitude & 0x7FFFFFu) | 0x800000u;
    const uint32 rounded = (fraction + ((1u << (shift - 1)) - 1) + ((fraction >> shift) & 1)) >> shift;
    return static_cast<half_bits>(sign | rounded);
#endif
}

// Four numbers in one access that leaves the cache soon: of an assignment a compiler makes four.
INLINE void store(float* where, const Four<float>& four) {
#ifdef __CUDA_ARCH__
    asm volatile("st.global.cs.v4.f32 [%0], {%1, %2, %3, %4};"
                 ::"l"(where), "f"(four.v[0]), "f"(four.v[1]), "f"(four.v[2]), "f"(four.v[3]) : "memory");
#else
    *reinterpret_cast<Four<float>*>(where) = four;
#endif
}
INLINE void store(half_bits* where, const Four<half_bits>& four) {
#ifdef __CUDA_ARCH__
    asm volatile("st.global.cs.v4.u16 [%0], {%1, %2, %3, %4};"
                 ::"l"(where), "h"(four.v[0]), "h"(four.v[1]), "h"(four.v[2]), "h"(four.v[3]) : "memory");
#else
    *reinterpret_cast<Four<half_bits>*>(where) = four;
#endif
}

INLINE void put(float& where, double value) { where = static_cast<float>(value); }
INLINE void put(half_bits& where, double value) { where = to_half(static_cast<float>(value)); }

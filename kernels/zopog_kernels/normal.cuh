// Standard normals by Box-Muller in single precision: the operations of zopog_ref.randomness.normal, in its order, so
// that every bit is the same. Words (a, b) of a half block give r cos(2 pi v), r sin(2 pi v), r = sqrt(-2 log u).
//
// On a GPU instructions decide how fast this is (docs/kernels.md), so products that are exact are fused with the sum that
// follows, and `quotient`, `root` and `floor_as_sum` are the compiler's own fast paths without their guards, for the
// numbers that occur here. A test on the GPU compares all 2^32 words with the guarded operators.
#include "philox.cuh"

struct Pair { float cosine, sine; };
struct Normals4 { float v[4]; };

// (word + 1/2) / 2^32 in single precision: in [2^-33, 1].
INLINE float to_unit(uint32 bits) { return exact_product_plus(static_cast<float>(bits), 0x1p-32f, 0x1p-33f); }

// log(m 2^e) = e log 2 + 2 atanh((m-1)/(m+1)), m in [0.7071, 1.4142]; u positive and normal.
INLINE float log_float32(float u) {
    const int pattern = static_cast<int>(float_to_bits(u));
    const int exponent = (pattern - 0x3F3504F3) >> 23;
    const float mantissa = bits_to_float(static_cast<uint32>(pattern - exponent * (1 << 23)));
    const float fraction = mantissa - 1.0f;
    const float s = quotient(fraction, 2.0f + fraction);
    const float square = s * s;
    float series = static_cast<float>(2.0 / 9);
    series = series * square + static_cast<float>(2.0 / 7);
    series = series * square + static_cast<float>(2.0 / 5);
    series = series * square + static_cast<float>(2.0 / 3);
    const float log_mantissa = fraction - s * (fraction - square * series);
    const float scale = static_cast<float>(exponent);
    return exact_product_plus(scale, 0.693359375f, scale * static_cast<float>(-2.12194440e-4) + log_mantissa);
}

// cos(2 pi v), sin(2 pi v) for v in [0, 1]: exact reduction to an eighth of a turn, then Taylor series.
INLINE Pair cos_sin_turns(float v) {
    const float shifted = floor_as_sum(exact_product_plus(4.0f, v, 0.5f));
    const float quarter = shifted - 0x1p23f;
    const float x = exact_product_plus(quarter, -0.25f, v) * static_cast<float>(6.283185307179586);
    const float square = x * x;
    float sine_series = static_cast<float>(1.0 / 362880);
    sine_series = sine_series * square + static_cast<float>(-1.0 / 5040);
    sine_series = sine_series * square + static_cast<float>(1.0 / 120);
    sine_series = sine_series * square + static_cast<float>(-1.0 / 6);
    float cosine_series = static_cast<float>(-1.0 / 3628800);
    cosine_series = cosine_series * square + static_cast<float>(1.0 / 40320);
    cosine_series = cosine_series * square + static_cast<float>(-1.0 / 720);
    cosine_series = cosine_series * square + static_cast<float>(1.0 / 24);
    cosine_series = cosine_series * square + -0.5f;
    const float sine = x + x * (square * sine_series);
    const float cosine = 1.0f + square * cosine_series;
    const uint32 turn = float_to_bits(shifted);  // its last two bits are the quarter's
    const Pair turned = turn & 1 ? Pair{sine, cosine} : Pair{cosine, sine};
    return {flipped(turned.cosine, turn + 1), flipped(turned.sine, turn)};
}

// Elements 4 block .. 4 block + 3 of a stream of normals.
INLINE Normals4 block_normals(Stream stream, uint64 block) {
    const Words4 words = block_words(stream, block);
    Normals4 normals;
    UNROLL
    for (int half = 0; half < 2; ++half) {
        const float radius = root(-2.0f * log_float32(to_unit(words.v[2 * half])));
        const Pair turned = cos_sin_turns(to_unit(words.v[2 * half + 1]));
        normals.v[2 * half] = radius * turned.cosine;
        normals.v[2 * half + 1] = radius * turned.sine;
    }
    return normals;
}

// Elements first .. first + 3, wherever they start. A row of d % 4 = 0 elements starts at a block; others cost two blocks.
INLINE Normals4 normals_from(Stream stream, uint64 first) {
    Normals4 low = block_normals(stream, first >> 2);
    if (first & 3) {
        const Normals4 high = block_normals(stream, (first >> 2) + 1);
        float tail = high.v[0];
        if (first & 2) {
            low = {{low.v[2], low.v[3], high.v[0], high.v[1]}};
            tail = high.v[2];
        }
        if (first & 1) low = {{low.v[1], low.v[2], low.v[3], tail}};
    }
    return low;
}

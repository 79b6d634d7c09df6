// A stream written out: words, uniforms, Gumbel noise, normals. The hot path never needs it; tests and users may.
#include "normal.cuh"

template <class Number, class Make> INLINE void write_out(Stream stream, int64 count, Number* out, Make make) {
    const int64 block = thread_index(), first = 4 * block;
    if (first >= count) return;
    const auto values = make(stream, static_cast<uint64>(block));
    UNROLL
    for (int lane = 0; lane < 4; ++lane)
        if (first + lane < count) out[first + lane] = values.v[lane];
}

template <class Make> INLINE Four<double> each_word(Stream stream, uint64 block, Make make) {
    const Words4 words = block_words(stream, block);
    return {{make(words.v[0]), make(words.v[1]), make(words.v[2]), make(words.v[3])}};
}

THREAD_KERNEL zopog_words(uint64 seed, uint32 step, uint32 purpose, int64 count, uint32* out) {
    write_out({seed, step, purpose}, count, out, [](Stream s, uint64 block) { return block_words(s, block); });
}

THREAD_KERNEL zopog_uniform(uint64 seed, uint32 step, uint32 purpose, int64 count, double* out) {
    write_out({seed, step, purpose}, count, out, [](Stream s, uint64 block) {
        return each_word(s, block, [](uint32 bits) { return to_uniform(bits); });
    });
}

THREAD_KERNEL zopog_gumbel(uint64 seed, uint32 step, uint32 purpose, int64 count, double* out) {
    write_out({seed, step, purpose}, count, out, [](Stream s, uint64 block) {
        return each_word(s, block, [](uint32 bits) { return to_gumbel(bits); });
    });
}

THREAD_KERNEL zopog_normal(uint64 seed, uint32 step, uint32 purpose, int64 count, float* out) {
    write_out({seed, step, purpose}, count, out, [](Stream s, uint64 block) { return block_normals(s, block); });
}

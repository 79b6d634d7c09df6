// Philox4x32-10 and the key scheme of zopog_ref.randomness: element e of a stream is a pure function of
// (seed, step, purpose, e), the same bits as NumPy's.
//
//     key     = (seed mod 2^32, seed div 2^32)
//     counter = (block mod 2^32, block div 2^32, step, purpose),    block = e div 4
//     word e  = output word (e mod 4) of that block
#include "portable.cuh"

struct Stream {
    uint64 seed;
    uint32 step, purpose;
};

struct Words4 { uint32 v[4]; };

INLINE Words4 philox4x32(Words4 counter, uint32 key0, uint32 key1) {
    UNROLL
    for (int round = 0; round < 10; ++round) {
        const uint64 product0 = wide_product(0xD2511F53u, counter.v[0]);
        const uint64 product1 = wide_product(0xCD9E8D57u, counter.v[2]);
        counter = {{static_cast<uint32>(product1 >> 32) ^ counter.v[1] ^ key0, static_cast<uint32>(product1),
                    static_cast<uint32>(product0 >> 32) ^ counter.v[3] ^ key1, static_cast<uint32>(product0)}};
        key0 += 0x9E3779B9u;  // golden ratio
        key1 += 0xBB67AE85u;  // sqrt(3) - 1
    }
    return counter;
}

INLINE Words4 block_words(Stream stream, uint64 block) {
    const Words4 counter = {{static_cast<uint32>(block), static_cast<uint32>(block >> 32), stream.step, stream.purpose}};
    return philox4x32(counter, static_cast<uint32>(stream.seed), static_cast<uint32>(stream.seed >> 32));
}

INLINE uint32 word(Stream stream, uint64 element) {
    const Words4 words = block_words(stream, element >> 2);
    const uint32 pair0 = element & 1 ? words.v[1] : words.v[0], pair1 = element & 1 ? words.v[3] : words.v[2];
    return element & 2 ? pair1 : pair0;
}

// (word + 1/2) / 2^32, exact in double precision, strictly inside (0, 1).
INLINE double to_uniform(uint32 bits) { return (static_cast<double>(bits) + 0.5) * 2.3283064365386963e-10; }

INLINE double to_gumbel(uint32 bits) { return -log(-log(to_uniform(bits))); }

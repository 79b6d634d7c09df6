// The continuous prompt, section 3.3: the points z + mu u and z - mu u, and the gradient sum_r slope_r u_r / rows.
// u is never stored: element (r, c) of the directions (rows, dim) is element r dim + c of their stream.
//
// x runs over quads of four columns, y over rows (perturb) or chunks of rows (gradient).
#include "normal.cuh"

// points (2, rows, dim): the value is computed in double precision, as NumPy does, and rounded once at the end.
// whole: dim % 4 = 0, so that every quad is whole, aligned, and one block of the stream.
template <bool whole, class Number>
INLINE void perturb_rows(Stream stream, double mu, const double* z, int64 rows, int64 dim, Number* points) {
    const int64 column = 4 * thread_index();
    if (column >= dim) return;
    double centre[4];
    UNROLL
    for (int lane = 0; lane < 4; ++lane) centre[lane] = whole || column + lane < dim ? z[column + lane] : 0.0;
    int64 first = blockIdx.y * dim + column;
    for (int64 row = blockIdx.y; row < rows; row += gridDim.y, first += gridDim.y * dim) {
        const uint64 element = static_cast<uint64>(first);
        const Normals4 u = whole ? block_normals(stream, element >> 2) : normals_from(stream, element);
        Four<Number> plus, minus;
        UNROLL
        for (int lane = 0; lane < 4; ++lane) {
            const double step = mu * static_cast<double>(u.v[lane]);
            put(plus.v[lane], centre[lane] + step);
            put(minus.v[lane], centre[lane] - step);
        }
        if (whole) {
            store(points + first, plus);
            store(points + rows * dim + first, minus);
        } else {
            UNROLL
            for (int lane = 0; lane < 4; ++lane)
                if (column + lane < dim) {
                    points[first + lane] = plus.v[lane];
                    points[rows * dim + first + lane] = minus.v[lane];
                }
        }
    }
}

template <class Number>
INLINE void perturb(Stream stream, double mu, const double* z, int64 rows, int64 dim, Number* points) {
    if (dim % 4 == 0)
        perturb_rows<true>(stream, mu, z, rows, dim, points);
    else
        perturb_rows<false>(stream, mu, z, rows, dim, points);
}

THREAD_KERNEL zopog_perturb_float32(uint64 seed, uint32 step, uint32 purpose, double mu, const double* z, int64 rows,
                                    int64 dim, float* points) {
    perturb({seed, step, purpose}, mu, z, rows, dim, points);
}

THREAD_KERNEL zopog_perturb_float16(uint64 seed, uint32 step, uint32 purpose, double mu, const double* z, int64 rows,
                                    int64 dim, half_bits* points) {
    perturb({seed, step, purpose}, mu, z, rows, dim, points);
}

THREAD_KERNEL zopog_slope(const double* plus, const double* minus, double mu, int64 rows, double* slope) {
    const int64 row = thread_index();
    if (row < rows) slope[row] = (plus[row] - minus[row]) / (2 * mu);
}

// total: the sum over rows first, first + 1, ... in their order, of one quad of columns.
template <bool whole>
INLINE void sum_rows(Stream stream, const double* slope, int64 row, int64 end_row, int64 dim, int64 column, double* total) {
    int64 first = row * dim + column;
    for (; row < end_row; ++row, first += dim) {
        const uint64 element = static_cast<uint64>(first);
        const Normals4 u = whole ? block_normals(stream, element >> 2) : normals_from(stream, element);
        const double weight = slope[row];
        UNROLL
        for (int lane = 0; lane < 4; ++lane) total[lane] += weight * static_cast<double>(u.v[lane]);
    }
}

// partial (chunks, dim): the sum over one chunk of rows.
THREAD_KERNEL zopog_gradient_partial(uint64 seed, uint32 step, uint32 purpose, const double* slope, int64 rows,
                                     int64 dim, int64 rows_per_chunk, double* partial) {
    const int64 column = 4 * thread_index(), chunk = blockIdx.y, first_row = chunk * rows_per_chunk;
    if (column >= dim) return;
    const int64 end_row = first_row + rows_per_chunk < rows ? first_row + rows_per_chunk : rows;
    double total[4] = {0.0, 0.0, 0.0, 0.0};
    if (dim % 4 == 0)
        sum_rows<true>({seed, step, purpose}, slope, first_row, end_row, dim, column, total);
    else
        sum_rows<false>({seed, step, purpose}, slope, first_row, end_row, dim, column, total);
    UNROLL
    for (int lane = 0; lane < 4; ++lane)
        if (column + lane < dim) partial[chunk * dim + column + lane] = total[lane];
}

// gradient (dim,): the chunks in their order, then the mean over rows.
THREAD_KERNEL zopog_gradient_finish(const double* partial, int64 chunks, int64 rows, int64 dim, double* gradient) {
    const int64 column = thread_index();
    if (column >= dim) return;
    double total = 0.0;
    for (int64 chunk = 0; chunk < chunks; ++chunk) total += partial[chunk * dim + column];
    gradient[column] = total / static_cast<double>(rows);
}

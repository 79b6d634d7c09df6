// The continuous prompt, section 3.3: the points z + mu u and z - mu u, and the gradient sum_r slope_r u_r / rows.
// u is never stored: element (r, c) of the directions (rows, dim) is element r dim + c of their stream.
//
// x runs over quads of four columns, y over rows (perturb) or chunks of rows (gradient).
#include "normal.cuh"

// points (2, rows, dim): the value is computed in double precision, as NumPy does, and rounded once at the end.
template <class Number>
INLINE void perturb(Stream stream, double mu, const double* z, int64 rows, int64 dim, Number* points) {
    const int64 column = 4 * thread_index();
    if (column >= dim) return;
    double centre[4];
    UNROLL
    for (int lane = 0; lane < 4; ++lane) centre[lane] = column + lane < dim ? z[column + lane] : 0.0;
    for (int64 row = blockIdx.y; row < rows; row += gridDim.y) {
        const int64 first = row * dim + column;
        const Normals4 u = normals_from(stream, static_cast<uint64>(first));
        Four<Number> plus, minus;
        UNROLL
        for (int lane = 0; lane < 4; ++lane) {
            const double step = mu * static_cast<double>(u.v[lane]);
            put(plus.v[lane], centre[lane] + step);
            put(minus.v[lane], centre[lane] - step);
        }
        if (dim % 4 == 0) {  // every quad is whole and aligned
            *reinterpret_cast<Four<Number>*>(points + first) = plus;
            *reinterpret_cast<Four<Number>*>(points + rows * dim + first) = minus;
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

// partial (chunks, dim): the sum over one chunk of rows, in the order of the rows.
THREAD_KERNEL zopog_gradient_partial(uint64 seed, uint32 step, uint32 purpose, const double* slope, int64 rows,
                                     int64 dim, int64 rows_per_chunk, double* partial) {
    const Stream stream{seed, step, purpose};
    const int64 column = 4 * thread_index(), chunk = blockIdx.y, first_row = chunk * rows_per_chunk;
    if (column >= dim) return;
    const int64 end_row = first_row + rows_per_chunk < rows ? first_row + rows_per_chunk : rows;
    double total[4] = {0.0, 0.0, 0.0, 0.0};
    for (int64 row = first_row; row < end_row; ++row) {
        const Normals4 u = normals_from(stream, static_cast<uint64>(row * dim + column));
        UNROLL
        for (int lane = 0; lane < 4; ++lane) total[lane] += slope[row] * static_cast<double>(u.v[lane]);
    }
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

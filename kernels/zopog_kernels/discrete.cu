// The discrete prompt, section 3.2: Gumbel-Softmax probabilities, sampling, the policy gradient.
#include "philox.cuh"

// p_rj = softmax_j((log alpha_ij + g_rj) / tau), i = r mod n: one block a row; g is element r N + j of its stream.
BLOCK_KERNEL zopog_probabilities(uint64 seed, uint32 step, uint32 purpose, int noisy, const double* alpha, double tau,
                                 int64 n, int64 n_candidates, double* p) {
    __shared__ double largest[THREADS], sum[THREADS];
    const int64 row = blockIdx.x;
    const double* alpha_row = alpha + row % n * n_candidates;
    double* p_row = p + row * n_candidates;
    EACH_THREAD(t) {
        double most = minus_infinity();
        for (int64 j = t; j < n_candidates; j += THREADS) {
            double noise = 0.0;
            if (noisy) noise = to_gumbel(word({seed, step, purpose}, static_cast<uint64>(row * n_candidates + j)));
            const double exponent = (log(alpha_row[j]) + noise) * (1.0 / tau);
            p_row[j] = exponent;
            most = exponent > most ? exponent : most;
        }
        largest[t] = most;
    }
    for (int width = THREADS / 2; width > 0; width /= 2) {
        EACH_THREAD(t) {
            if (t < width && largest[t + width] > largest[t]) largest[t] = largest[t + width];
        }
    }
    EACH_THREAD(t) {
        double total = 0.0;
        for (int64 j = t; j < n_candidates; j += THREADS) {
            p_row[j] = exp(p_row[j] - largest[0]);
            total += p_row[j];
        }
        sum[t] = total;
    }
    for (int width = THREADS / 2; width > 0; width /= 2) {
        EACH_THREAD(t) {
            if (t < width) sum[t] += sum[t + width];
        }
    }
    EACH_THREAD(t) {
        for (int64 j = t; j < n_candidates; j += THREADS) p_row[j] /= sum[0];
    }
}

// t_ki is the first j with p_0 + ... + p_j > u (p_0 + ... + p_{N-1}), sums in the order of j, u element k n + i of its
// stream. p (n, N) shared by all samples, or (samples, n, N) when own_p. Neighbouring threads read the same row of p.
THREAD_KERNEL zopog_sample(uint64 seed, uint32 step, uint32 purpose, const double* p, int own_p, int64 samples, int64 n,
                           int64 n_candidates, int64* tokens) {
    const int64 thread = thread_index();
    if (thread >= samples * n) return;
    const int64 i = thread / samples, k = thread % samples;
    const double* row = p + (own_p ? k * n + i : i) * n_candidates;
    double total = 0.0;
    for (int64 j = 0; j < n_candidates; ++j) total += row[j];
    const double threshold = to_uniform(word({seed, step, purpose}, static_cast<uint64>(k * n + i))) * total;
    double cumulative = row[0];
    int64 j = 0;
    while (cumulative <= threshold && j < n_candidates - 1) cumulative += row[++j];
    tokens[k * n + i] = j;
}

struct PolicyGradient {
    const double* losses;
    const int64* tokens;
    const double* alpha;
    const double* p;  // null: one p for all samples, so that the -p_ij of the scores cancel [V3]
    double tau;
    int64 samples, n, n_candidates;
};

// g_ij = 1/(I-1) sum_k (l_k - mean l) (1{t_ki = j} - p_kij) / (tau alpha_ij), sums in the order of k.
INLINE double policy_gradient_cell(const PolicyGradient& a, int64 cell) {
    const int64 i = cell / a.n_candidates, j = cell % a.n_candidates;
    double mean = 0.0, total = 0.0;
    for (int64 k = 0; k < a.samples; ++k) mean += a.losses[k];
    mean /= static_cast<double>(a.samples);
    for (int64 k = 0; k < a.samples; ++k) {
        const double advantage = a.losses[k] - mean;
        const bool drawn = a.tokens[k * a.n + i] == j;
        if (a.p)
            total += advantage * (((drawn ? 1.0 : 0.0) - a.p[(k * a.n + i) * a.n_candidates + j]) / (a.tau * a.alpha[cell]));
        else if (drawn)
            total += advantage;
    }
    const double others = static_cast<double>(a.samples - 1);
    return a.p ? total / others : total / (others * a.tau * a.alpha[cell]);
}

// gradient (n, N), and with it the step max(alpha - eta g, alpha_min) where alpha_plus is not null.
THREAD_KERNEL zopog_policy_gradient(const double* losses, const int64* tokens, const double* alpha, const double* p,
                                    double tau, int64 samples, int64 n, int64 n_candidates, double eta,
                                    double alpha_min, double* gradient, double* alpha_plus) {
    const int64 cell = thread_index();
    if (cell >= n * n_candidates) return;
    gradient[cell] = policy_gradient_cell({losses, tokens, alpha, p, tau, samples, n, n_candidates}, cell);
    if (alpha_plus) {
        const double moved = alpha[cell] - eta * gradient[cell];
        alpha_plus[cell] = moved < alpha_min ? alpha_min : moved;  // a NaN stays one
    }
}

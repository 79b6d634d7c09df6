// Losses of label-word logits (rows, classes), rows = K B with the example running fastest; label of row r: r mod B.
// Not a number stays not a number.
#include "portable.cuh"

THREAD_KERNEL zopog_cross_entropy(const float* logits, const int64* labels, int64 rows, int64 batch, int64 classes,
                                  double* losses) {
    const int64 row = thread_index();
    if (row >= rows) return;
    const float* logit = logits + row * classes;
    double largest = logit[0], sum = 0.0;
    for (int64 c = 1; c < classes; ++c) largest = logit[c] > largest ? logit[c] : largest;
    for (int64 c = 0; c < classes; ++c) sum += exp(static_cast<double>(logit[c]) - largest);
    losses[row] = largest + log(sum) - static_cast<double>(logit[labels[row % batch]]);
}

// max(0, margin + max_{c != y} logit_c - logit_y)
THREAD_KERNEL zopog_hinge(const float* logits, const int64* labels, double margin, int64 rows, int64 batch,
                          int64 classes, double* losses) {
    const int64 row = thread_index();
    if (row >= rows) return;
    const float* logit = logits + row * classes;
    const int64 right = labels[row % batch];
    double other = minus_infinity();
    for (int64 c = 0; c < classes; ++c)
        if (c != right && (logit[c] > other || logit[c] != logit[c])) other = logit[c];
    const double loss = margin + other - static_cast<double>(logit[right]);
    losses[row] = loss < 0.0 ? 0.0 : loss;
}

/* The two quantisers that both layers use: what they stand for, what they cost, how they are written. See
   quantisers.py. */

#ifndef QUANTISERS_H
#define QUANTISERS_H

#include "arithmetic.h"
#include "magnitudes.h"

#define MAX_SYMBOL (1 << 15)          /* magnitudes stay below this */
#define HIGHEST_LEVEL 273             /* its shift is as many bits as are coded at once: levels end here */
#define FRACTION 8                    /* targets and reconstructions count in 2^-8 of the step */
#define LAMBDA_BITS 4                 /* lambda in 2^-12 of the step squared per bit, costs in 2^-8 bit */

/* The table row of a level, and how many low bits of the magnitude are coded apart from it. */
struct address {
    int64_t row;
    int shift;
};

INLINED struct address address_of(int64_t level)
{
    int64_t row = (level >> 1) + ORIGIN;
    if (row < DIRECT)
        return (struct address){greatest(row, 0), 0};
    return (struct address){DIRECT + (row - DIRECT) % FINE, (int)((row - DIRECT) / FINE) + 1};
}

/* The symbol of a magnitude in the tables. */
INLINED int64_t symbol_of(int64_t magnitude, int shift)
{
    return least(magnitude >> shift, ESCAPE);
}

/* The value that a magnitude with its sign stands for, in 2^-8 of the step. */
INLINED int64_t point_of(int64_t k, int quantiser, struct address at, const struct magnitudes *tables)
{
    int64_t magnitude = absolute(k), value = 0;
    if (magnitude > 0) {
        value = (2 * magnitude - quantiser) << FRACTION;
        if (at.shift == 0)
            value += tables->centroids[table_at(at.row, quantiser) + least(magnitude, ESCAPE)];
    }
    return k < 0 ? -value : value;
}

/* What a coefficient may be coded as, by 2 * quantiser + parity: the prices, distortion + lambda * rate, and the
   magnitudes. */
struct branches {
    int64_t prices[4], magnitudes[4];
};

/* The best even and the best odd magnitude of a quantiser: the two next to the target, and 0.

   `target` is the coefficient's absolute value, `weight` lambda. Not for where `rare` says so. */
INLINED void branch(struct branches *found, int64_t target, int quantiser, int64_t row, int64_t weight,
                    const struct magnitudes *tables)
{
    const int64_t *points = tables->points + table_at(row, quantiser);
    const int64_t *costs = tables->costs + table_at(row, quantiser);
    int64_t lower = (target + ((int64_t)quantiser << FRACTION)) >> (FRACTION + 1);
    int64_t even = least(lower + (lower & 1), ESCAPE), odd = least(lower + 1 - (lower & 1), ESCAPE);
    int64_t error = target - points[even], error_odd = target - points[odd];
    int64_t price = error * error + (weight * costs[even] >> LAMBDA_BITS);
    int64_t price_zero = target * target + (weight * costs[0] >> LAMBDA_BITS);
    bool zero = (even == 2) & (price_zero < price);
    found->prices[2 * quantiser] = zero ? price_zero : price;
    found->prices[2 * quantiser + 1] = error_odd * error_odd + (weight * costs[odd] >> LAMBDA_BITS);
    found->magnitudes[2 * quantiser] = zero ? 0 : even;
    found->magnitudes[2 * quantiser + 1] = odd;
}

/* Whether a magnitude near the target may be one that the tables have no symbol of its own for. */
INLINED bool rare(int64_t target, int shift)
{
    return shift > 0 || target >= (ESCAPE - 2) << (FRACTION + 1);
}

/* Distortion + lambda * rate of any magnitude. */
INLINED int64_t price_of(int64_t magnitude, int64_t target, int quantiser, struct address at, int64_t weight,
                         const struct magnitudes *tables)
{
    int64_t symbol = symbol_of(magnitude, at.shift);
    int64_t bits = at.shift;
    if (symbol == ESCAPE) {
        bits += 4;
        for (int64_t rest = (magnitude >> at.shift) - ESCAPE + 1; rest > 1; rest >>= 1)
            bits++;
    } else if (symbol == 0 && magnitude > 0) {
        bits++; /* the sign, which the costs of the other symbols hold */
    }
    int64_t error = target - point_of(magnitude, quantiser, at, tables);
    int64_t length = tables->costs[table_at(at.row, quantiser) + symbol] + (bits << 8);
    return error * error + (weight * length >> LAMBDA_BITS);
}

/* What `branch` gives, for all magnitudes but without 0. */
static __attribute__((noinline)) void rare_branch(struct branches *found, int64_t target, int quantiser,
                                                  struct address at, int64_t weight,
                                                  const struct magnitudes *tables)
{
    int64_t lower = least((target + ((int64_t)quantiser << FRACTION)) >> (FRACTION + 1), MAX_SYMBOL - 2);
    int64_t next_to[2] = {lower + (lower & 1), lower + 1 - (lower & 1)};
    for (int parity = 0; parity < 2; parity++) {
        found->magnitudes[2 * quantiser + parity] = next_to[parity];
        found->prices[2 * quantiser + parity] =
            price_of(next_to[parity], target, quantiser, at, weight, tables);
    }
}

/* What a coefficient may be coded as with either quantiser. */
INLINED struct branches branches_of(int64_t target, struct address at, int64_t weight,
                                    const struct magnitudes *tables)
{
    struct branches found;
    for (int quantiser = 0; quantiser < 2; quantiser++) {
        if (rare(target, at.shift))
            rare_branch(&found, target, quantiser, at, weight, tables);
        else
            branch(&found, target, quantiser, at.row, weight, tables);
    }
    return found;
}

/* What one quantiser or the other codes a coefficient as at the least price, and what that takes in 1/256 bit. */
struct choice {
    int64_t magnitude, bits;
    int quantiser;
};

INLINED struct choice cheapest(int64_t target, struct address at, int64_t weight, const struct magnitudes *tables)
{
    const int64_t *costs = tables->costs + table_at(at.row, 0);
    if (target < 1 << (FRACTION - 1) && at.shift == 0) { /* nearest to 0, which costs least, too */
        int quantiser = costs[SYMBOLS] < costs[0];
        return (struct choice){0, costs[quantiser * SYMBOLS], quantiser};
    }
    struct branches branches = branches_of(target, at, weight, tables);
    int best = 0;
    for (int branch = 1; branch < 4; branch++)
        best = branches.prices[branch] < branches.prices[best] ? branch : best;
    int64_t magnitude = branches.magnitudes[best], symbol = symbol_of(magnitude, at.shift);
    return (struct choice){magnitude, costs[(best >> 1) * SYMBOLS + symbol] + (at.shift << 8), best >> 1};
}

/* Code a symbol: from its table, then escape, low bits and sign. */
INLINED void put_magnitude(struct coder *coder, int64_t k, int shift, const int64_t *starts, uint8_t *buffer)
{
    int64_t magnitude = absolute(k), symbol = symbol_of(magnitude, shift);
    push(coder, starts[symbol], starts[symbol + 1] - starts[symbol], buffer);
    if (symbol == ESCAPE) {
        int64_t rest = (magnitude >> shift) - ESCAPE + 1;
        int bits = 0;
        while (rest >> (bits + 1) > 0)
            bits++;
        push_bits(coder, bits, 4, buffer);
        push_bits(coder, rest - ((int64_t)1 << bits), bits, buffer);
    }
    if (shift > 0)
        push_bits(coder, magnitude & (((int64_t)1 << shift) - 1), shift, buffer);
    if (magnitude > 0)
        push_bits(coder, k < 0, 1, buffer);
}

/* Decode what `put_magnitude` coded; `MAX_SYMBOL` or more, or less than its opposite, is none of ours. */
INLINED int64_t take_magnitude(struct coder *coder, int shift, const int64_t *starts, const uint8_t *data,
                               int64_t end)
{
    int64_t magnitude = pop(coder, starts, data, end);
    if (magnitude == ESCAPE) {
        int bits = (int)pop_bits(coder, 4, data, end);
        magnitude += ((int64_t)1 << bits) + pop_bits(coder, bits, data, end) - 1;
    }
    if (shift > 0)
        magnitude = magnitude << shift | pop_bits(coder, shift, data, end);
    if (magnitude > 0 && pop_bits(coder, 1, data, end) == 1)
        magnitude = -magnitude;
    return magnitude;
}

#endif

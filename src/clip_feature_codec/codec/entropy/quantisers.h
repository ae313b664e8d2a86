/* The two quantisers that both layers use: what they stand for, what they cost, how they are written. See
   quantisers.py. */

#ifndef QUANTISERS_H
#define QUANTISERS_H

#include "arithmetic.h"
#include "magnitudes.h"

#define MAX_SYMBOL (1 << 15)          /* magnitudes stay below this */
#define HIGHEST_LEVEL 273             /* its shift is as many bits as are coded at once: levels end here */
#define FRACTION 8                    /* targets and reconstructions count in 2^-8 of the step */
#define WIDE ((ESCAPE - 2) << (FRACTION + 1)) /* targets from here on may need more than the tables' symbols */
#define LAMBDA_BITS 4                 /* lambda in 2^-12 of the step squared per bit, costs in 2^-8 bit */

/* The table row of a level, and how many low bits of the magnitude are coded apart from it. */
struct address {
    int32_t row, shift;
};

INLINED struct address address_of(int32_t level)
{
    int32_t row = (level >> 1) + ORIGIN, beyond = row - DIRECT, direct = -(beyond < 0);
    int32_t fine = DIRECT + (beyond & ((1 << FINE_BITS) - 1));
    return (struct address){choose(fine, greatest_32(row, 0), direct), ((beyond >> FINE_BITS) + 1) & ~direct};
}

/* The symbol of a magnitude in the tables. */
INLINED int32_t symbol_of(int32_t magnitude, int32_t shift)
{
    return least_32(magnitude >> shift, ESCAPE);
}

/* The value that a magnitude with its sign stands for, in 2^-8 of the step. */
INLINED int32_t point_of(int32_t k, int32_t quantiser, struct address at, const struct magnitudes *tables)
{
    int32_t magnitude = absolute_32(k);
    int32_t centroid = tables->centroids[table_at(at.row, quantiser) + least_32(magnitude, ESCAPE)];
    int32_t value = (2 * magnitude - quantiser) * (1 << FRACTION) + (centroid & -(at.shift == 0));
    value &= -(magnitude > 0);
    return k < 0 ? -value : value;
}

/* What a coefficient may be coded as, by 2 * quantiser + parity: the prices, distortion + lambda * rate, and the
   magnitudes. */
struct branches {
    int64_t prices[4], magnitudes[4];
};

/* The best even and the best odd magnitude of a quantiser: the two next to the target, and 0. */
struct pair {
    int32_t even_price, odd_price, even, odd;
};

/* `target` is the coefficient's absolute value, `weight` lambda. Not for where `rare` says so. Without conditions
   and all of one size, so that compilers do many coefficients at once. */
INLINED struct pair pair_of(int32_t target, int32_t quantiser, int32_t row, int32_t weight,
                            const struct magnitudes *tables)
{
    int32_t table = table_at(row, quantiser);
    int32_t lower = (target + (quantiser << FRACTION)) >> (FRACTION + 1);
    int32_t even = least_32(lower + (lower & 1), ESCAPE), odd = least_32(lower + 1 - (lower & 1), ESCAPE);
    int32_t guide = tables->guides[table + even], guide_odd = tables->guides[table + odd];
    int32_t error = target - (guide >> POINT_BITS), error_odd = target - (guide_odd >> POINT_BITS);
    int32_t price = error * error + (weight * (guide & COST) >> LAMBDA_BITS);
    int32_t price_zero = target * target + (weight * tables->costs[table] >> LAMBDA_BITS);
    int32_t zero = -((even == 2) & (price_zero < price));
    return (struct pair){
        choose(price, price_zero, zero),
        error_odd * error_odd + (weight * (guide_odd & COST) >> LAMBDA_BITS),
        even & ~zero,
        odd,
    };
}

/* Whether a magnitude near the target may be one that the tables have no symbol of its own for. */
INLINED bool rare(int64_t target, int shift)
{
    return shift > 0 || target >= WIDE;
}

/* Distortion + lambda * rate of any magnitude. */
INLINED int64_t price_of(int64_t magnitude, int64_t target, int quantiser, struct address at, int64_t weight,
                         const struct magnitudes *tables)
{
    int32_t symbol = symbol_of((int32_t)magnitude, at.shift);
    int64_t bits = at.shift;
    if (symbol == ESCAPE) {
        bits += 4;
        for (int64_t rest = (magnitude >> at.shift) - ESCAPE + 1; rest > 1; rest >>= 1)
            bits++;
    } else if (symbol == 0 && magnitude > 0) {
        bits++; /* the sign, which the costs of the other symbols hold */
    }
    int64_t error = target - point_of((int32_t)magnitude, quantiser, at, tables);
    int64_t length = tables->costs[table_at(at.row, quantiser) + symbol] + (bits << 8);
    return error * error + (weight * length >> LAMBDA_BITS);
}

/* What `pair_of` gives, for all magnitudes but without 0. */
static __attribute__((noinline)) void rare_pair(struct branches *found, int64_t target, int quantiser,
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
        if (rare(target, at.shift)) {
            rare_pair(&found, target, quantiser, at, weight, tables);
            continue;
        }
        struct pair pair = pair_of((int32_t)target, quantiser, at.row, (int32_t)weight, tables);
        found.prices[2 * quantiser] = pair.even_price;
        found.prices[2 * quantiser + 1] = pair.odd_price;
        found.magnitudes[2 * quantiser] = pair.even;
        found.magnitudes[2 * quantiser + 1] = pair.odd;
    }
    return found;
}

/* What one quantiser or the other codes a coefficient as at the least price, and what that takes in 1/256 bit. */
struct choice {
    int32_t magnitude, bits, quantiser;
};

/* Not for where `rare` says so; without conditions, as `pair_of`. */
INLINED struct choice cheapest_of_direct(int32_t target, int32_t row, int32_t weight, const struct magnitudes *tables)
{
    const int32_t *costs = tables->costs;
    struct pair first = pair_of(target, 0, row, weight, tables), second = pair_of(target, 1, row, weight, tables);
    int32_t of_zero = -(target < 1 << (FRACTION - 1)); /* nearest to 0, which costs least, too */
    int32_t odd = -(first.odd_price < first.even_price), odd_second = -(second.odd_price < second.even_price);
    int32_t price = choose(first.even_price, first.odd_price, odd);
    int32_t price_second = choose(second.even_price, second.odd_price, odd_second);
    int32_t zero_quantiser = costs[table_at(row, 1)] < costs[table_at(row, 0)];
    int32_t quantiser = choose(price_second < price, zero_quantiser, of_zero);
    int32_t magnitude = choose(first.even, first.odd, odd), magnitude_second = choose(second.even, second.odd, odd_second);
    magnitude = choose(magnitude, magnitude_second, -quantiser) & ~of_zero;
    return (struct choice){magnitude, costs[table_at(row, quantiser) + magnitude], quantiser};
}

INLINED struct choice cheapest(int32_t target, struct address at, int32_t weight, const struct magnitudes *tables)
{
    if (!rare(target, at.shift))
        return cheapest_of_direct(target, at.row, weight, tables);
    struct branches branches = branches_of(target, at, weight, tables);
    int best = 0;
    for (int branch = 1; branch < 4; branch++)
        best = branches.prices[branch] < branches.prices[best] ? branch : best;
    int32_t magnitude = (int32_t)branches.magnitudes[best], quantiser = best >> 1;
    int32_t symbol = table_at(at.row, quantiser) + symbol_of(magnitude, at.shift);
    return (struct choice){magnitude, tables->costs[symbol] + (at.shift << 8), quantiser};
}

/* Code a symbol: from its table, then escape, low bits and sign. */
INLINED void put_magnitude(struct coder *coder, int32_t k, int shift, const int32_t *starts, uint8_t *buffer)
{
    int32_t magnitude = absolute_32(k), symbol = symbol_of(magnitude, shift);
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
        push_bits(coder, magnitude & ((1 << shift) - 1), shift, buffer);
    if (magnitude > 0)
        push_bits(coder, k < 0, 1, buffer);
}

/* Decode what `put_magnitude` coded; `MAX_SYMBOL` or more, or less than its opposite, is none of ours. */
INLINED int64_t take_magnitude(struct coder *coder, int shift, const int32_t *starts, const uint8_t *data,
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

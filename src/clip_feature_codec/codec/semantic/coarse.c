/* What products with vectors cannot be above, from a few bits a coefficient. See coarse.py. */

#include "../native.h"

#define GROUPS 3 /* of coefficients: those of 8, 4 and 2 bits */
#define UNBOUNDED 255

/* Sums of products with the fields of one group's bytes in a row. Each field has a sum of its own: so compilers see
   dot products of int16, which processors have an instruction for. */
INLINED int32_t by_wholes(const uint8_t *codes, const int16_t *weights, int64_t count)
{
    int32_t sum = 0;
    for (int64_t j = 0; j < count; j++)
        sum += (int16_t)codes[j] * weights[j];
    return sum;
}

INLINED int32_t by_halves(const uint8_t *codes, const int16_t *weights, int64_t count)
{
    int32_t low = 0, high = 0;
    for (int64_t j = 0; j < count; j++) {
        int16_t first = codes[j] & 15, second = codes[j] >> 4;
        low += first * weights[j];
        high += second * weights[count + j];
    }
    return low + high;
}

INLINED int32_t by_quarters(const uint8_t *codes, const int16_t *weights, int64_t count)
{
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int64_t j = 0; j < count; j++) {
        int16_t first = codes[j] & 3, second = codes[j] >> 2 & 3, third = codes[j] >> 4 & 3, fourth = codes[j] >> 6;
        a += first * weights[j];
        b += second * weights[count + j];
        c += third * weights[2 * count + j];
        d += fourth * weights[3 * count + j];
    }
    return a + b + c + d;
}

/* For each of `count` rows, (sum of weight * code) + (sum of reach * radius), or INT32_MAX where a radius is not
   known. `bytes` (3,): of each group in a row. `weights`: int16 for each field of a group's bytes, the lowest bits
   of all its bytes first. `reaches` (3,). The caller sees to it that no sum leaves int32. */
EXPORT void coarse_limits(const uint8_t *codes, const uint8_t *radii, int64_t count, const int64_t *bytes,
                          const int16_t *weights, const int64_t *reaches, int32_t *limits)
{
    const int64_t whole = bytes[0], halves = bytes[1], quarters = bytes[2];
    const int16_t *by_half = weights + whole, *by_quarter = by_half + 2 * halves;
    for (int64_t i = 0; i < count; i++, radii += GROUPS) {
        int32_t sum = by_wholes(codes, weights, whole) + by_halves(codes + whole, by_half, halves) +
                      by_quarters(codes + whole + halves, by_quarter, quarters);
        codes += whole + halves + quarters;
        bool bounded = true;
        for (int k = 0; k < GROUPS; k++) {
            sum += (int32_t)reaches[k] * radii[k];
            bounded &= radii[k] != UNBOUNDED;
        }
        limits[i] = bounded ? sum : INT32_MAX;
    }
}

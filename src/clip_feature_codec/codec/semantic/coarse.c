/* What products with vectors cannot be above, from a few bits a coefficient. See coarse.py. */

#include "../native.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

#define BLOCK 512     /* rows that go through the stages together */
#define TOGETHER 8    /* words that rows have a multiple of for each kind of field */
#define UNKNOWN 255   /* of a length */

/* Codes of one stage, rows of words with fields of 8, 4 and 2 bits and of a word with two lengths, and what a query
   makes of them. */
struct stage {
    const uint16_t *rows;
    int64_t wholes, halves, quarters; /* words of a row with fields of so many bits */
    const int16_t *weights;           /* of each field: the lowest fields of a kind's words first */
    int64_t base;                     /* added to the sum of weight * field */
    int64_t missed, uncoded;          /* what one of each length may add */
};

/* Sums of products that have still to be added up: compilers see dot products of int16, which processors have an
   instruction for, but would add up those of each field by themselves, which takes longer than the products. */
#ifdef __AVX2__
typedef __m256i sums;

INLINED sums none(void)
{
    return _mm256_setzero_si256();
}

INLINED int32_t total(sums sums)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

INLINED sums with_products(sums sums, __m256i words, const int16_t *weights, bool all)
{
    __m256i some = all ? _mm256_loadu_si256((const __m256i *)weights)
                       : _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)weights));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(words, some));
}

/* Add products with all fields of `count` words. */
INLINED sums with_fields(sums sums, const uint16_t *words, const int16_t *weights, int64_t count, int bits)
{
    const __m256i field = _mm256_set1_epi16((int16_t)((1 << bits) - 1));
    int64_t j = 0;
    for (; j + 2 * TOGETHER <= count; j += 2 * TOGETHER) {
        __m256i some = _mm256_loadu_si256((const __m256i *)(words + j));
        for (int k = 0; k < 16 / bits; k++, some = _mm256_srli_epi16(some, bits))
            sums = with_products(sums, _mm256_and_si256(some, field), weights + k * count + j, true);
    }
    if (j < count) {
        __m256i some = _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(words + j)));
        for (int k = 0; k < 16 / bits; k++, some = _mm256_srli_epi16(some, bits))
            sums = with_products(sums, _mm256_and_si256(some, field), weights + k * count + j, false);
    }
    return sums;
}
#else
typedef int32_t sums;

INLINED sums none(void)
{
    return 0;
}

INLINED int32_t total(sums sums)
{
    return sums;
}

INLINED sums with_fields(sums sums, const uint16_t *words, const int16_t *weights, int64_t count, int bits)
{
    int32_t parts[8] = {0}; /* of each field */
    for (int64_t j = 0; j < count; j++) {
#pragma GCC unroll 8
        for (int k = 0; k < 16 / bits; k++) {
            int16_t field = words[j] >> k * bits & ((1 << bits) - 1);
            parts[k] += field * weights[k * count + j];
        }
    }
    for (int k = 0; k < 16 / bits; k++)
        sums += parts[k];
    return sums;
}
#endif

/* Take `count` rows through a stage: add to what is `known` of their products, lower their `limits`, and keep those
   where these are at least `floor`, in front. How many these are. */
static int64_t passed(const struct stage *stage, int64_t count, int32_t floor, int32_t *places, int32_t *known,
                      int32_t *limits)
{
    const int64_t wholes = stage->wholes, halves = stage->halves, quarters = stage->quarters;
    const int64_t words = wholes + halves + quarters;
    const int16_t *by_half = stage->weights + 2 * wholes, *by_quarter = by_half + 4 * halves;
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++) {
        const uint16_t *row = stage->rows + places[i] * (words + 1);
        sums sums = with_fields(none(), row, stage->weights, wholes, 8);
        sums = with_fields(sums, row + wholes, by_half, halves, 4);
        sums = with_fields(sums, row + wholes + halves, by_quarter, quarters, 2);
        int32_t sum = known[i] + (int32_t)stage->base + total(sums);
        int32_t missed = row[words] & 255, uncoded = row[words] >> 8;
        int32_t limit = sum + (int32_t)stage->missed * missed + (int32_t)stage->uncoded * uncoded;
        bool known_lengths = missed != UNKNOWN && uncoded != UNKNOWN;
        limit = known_lengths ? least_32(limit, limits[i]) : limits[i];
        places[kept] = places[i];
        known[kept] = sum;
        limits[kept] = limit;
        kept += limit >= floor;
    }
    return kept;
}

/* Take `count` rows through some stages, one after the other. The limit after each is (sum of weight * field) + (sum of
   what lengths may add), if these are known. Those rows are found where it is at least `floor` after all of them, as
   `places` and the lowest of their `limits`. How many they are. The caller sees to it that no sum leaves int32. */
EXPORT int64_t coarse_scan(const struct stage *stages, int64_t stages_count, int64_t count, int64_t floor,
                           int32_t *places, int32_t *limits)
{
    int64_t found = 0;
    for (int64_t first = 0; first < count; first += BLOCK) {
        int64_t left = least(BLOCK, count - first);
        int32_t known[BLOCK] = {0};
        for (int64_t i = 0; i < left; i++) {
            places[found + i] = (int32_t)(first + i);
            limits[found + i] = INT32_MAX;
        }
        for (int64_t k = 0; k < stages_count; k++)
            left = passed(stages + k, left, (int32_t)floor, places + found, known, limits + found);
        found += left;
    }
    return found;
}

/* Products of some `rows` of int16 channels with a query's, `width` of them. The lengths of both are at most 46340, so
   that no part of a sum leaves int32. */
EXPORT void coarse_products(const int16_t *vectors, int64_t width, const int32_t *rows, int64_t count,
                            const int16_t *query, int32_t *products)
{
    for (int64_t i = 0; i < count; i++) {
        const int16_t *vector = vectors + rows[i] * width;
        int32_t sum = 0;
        for (int64_t j = 0; j < width; j++)
            sum += vector[j] * query[j];
        products[i] = sum;
    }
}

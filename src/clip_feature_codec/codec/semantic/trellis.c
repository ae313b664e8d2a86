/* Dependent quantisation of a vector: the Viterbi search for the path of least distortion + lambda * rate. See
   trellis.py for the method and for what the arguments are. */

#include "trellis.h"

#include "levels.h"

#define HALF (STATES / 2)
#define DEAREST (1 << 26)   /* prices are no further apart, so that the costs of paths fit int32 */
#define UNREACHED (1 << 29) /* beyond what seven branches cost, after which all states are reached */

/* Memory of the search.

   `costs`: of the best path to each state, before and after a coefficient.
   `choices` (n, 4): the magnitudes that are branched to, by 2 * quantiser + parity.
   `ways` (n, HALF): by which of its two ways the best path to state 2 u (bit 0) and 2 u + 1 (bit 1) came: from
   state u, 0, or from u + HALF, 1. */
struct search {
    int32_t *costs[2];
    int64_t *choices;
    uint8_t *ways;
};

EXPORT int64_t semantic_search_size(int64_t width)
{
    return STATES + 4 * width + HALF / 8 * width;
}

static struct search search_in(int64_t *memory, int64_t width)
{
    int32_t *costs = (int32_t *)memory;
    int64_t *choices = memory + STATES;
    return (struct search){{costs, costs + STATES}, choices, (uint8_t *)(choices + 4 * width)};
}

INLINED int32_t least_32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Of two numbers the second where `mask` is all ones, the first where it is 0. */
INLINED int32_t choose(int32_t first, int32_t second, int32_t mask)
{
    return first ^ ((first ^ second) & mask);
}

/* A step of the Viterbi algorithm, written so that compilers do many states at once: without conditions, and each
   loop with numbers of one size.

   `prices` are by 2 * quantiser + parity; `cheapest` becomes the least cost before the step of the states of each
   quantiser. */
INLINED void advance(const int32_t *restrict costs, int32_t *restrict after, const int32_t *restrict prices,
                     const int32_t *restrict quantisers, const int32_t *restrict parities,
                     uint8_t *restrict ways, int32_t *restrict cheapest)
{
    int32_t even_0 = prices[0], odd_0 = prices[1], even_1 = prices[2], odd_1 = prices[3];
    int32_t cheapest_0 = UNREACHED, cheapest_1 = UNREACHED, by[HALF];
    for (int u = 0; u < HALF; u++) {
        int32_t second = -quantisers[u], turned = -parities[u];
        int32_t even = choose(even_0, even_1, second), odd = choose(odd_0, odd_1, second);
        int32_t to_0 = choose(even, odd, turned), to_1 = choose(odd, even, turned);
        int32_t low = costs[u], high = costs[u + HALF];
        int32_t low_0 = low + to_0, high_0 = high + to_1, low_1 = low + to_1, high_1 = high + to_0;
        after[2 * u] = least_32(low_0, high_0);
        after[2 * u + 1] = least_32(low_1, high_1);
        by[u] = (high_0 < low_0) | (high_1 < low_1) << 1;
        int32_t least = least_32(low, high);
        cheapest_0 = least_32(cheapest_0, choose(least, UNREACHED, second));
        cheapest_1 = least_32(cheapest_1, choose(UNREACHED, least, second));
    }
    for (int u = 0; u < HALF; u++)
        ways[u] = (uint8_t)by[u];
    cheapest[0] = cheapest_0;
    cheapest[1] = cheapest_1;
}

/* Fill `symbols` with the path that ends in `state`. */
static void follow_back(const int64_t *targets, int64_t width, int64_t state, const struct machine *machine,
                        const struct search *search, int64_t *symbols)
{
    for (int64_t j = width - 1; j >= 0; j--) {
        int64_t u = state >> 1, newest = state & 1;
        int64_t way = search->ways[j * HALF + u] >> newest & 1;
        int64_t parity = newest ^ machine->parities[u] ^ way;
        int64_t magnitude = search->choices[4 * j + 2 * machine->quantisers[u] + parity];
        symbols[j] = targets[j] >= 0 ? magnitude : -magnitude;
        state = u + way * HALF;
    }
}

INLINED void quantise(const int64_t *targets, const int64_t *levels, const int64_t *gains, int64_t width,
                      int64_t weight, const struct magnitudes *tables, const struct machine *machine,
                      int64_t *memory, int64_t *symbols)
{
    struct search search = search_in(memory, width);
    int32_t *before = search.costs[0], *after = search.costs[1];
    for (int state = 0; state < STATES; state++)
        before[state] = UNREACHED;
    before[0] = 0;
    int64_t drift = 0;
    int32_t paid = 0; /* by the cheapest path, which is taken off so that costs stay small */
    for (int64_t j = 0; j < width; j++) {
        struct address at = drifted_address(levels[j], drift);
        struct branches branches = branches_of(absolute(targets[j]), at, weight, tables);
        const int64_t *prices = branches.prices;
        int64_t base = least(least(prices[0], prices[1]), least(prices[2], prices[3]));
        int32_t relative[4], cheapest[2];
        for (int branch = 0; branch < 4; branch++) {
            relative[branch] = (int32_t)least(prices[branch] - base, DEAREST) - paid;
            search.choices[4 * j + branch] = branches.magnitudes[branch];
        }
        advance(before, after, relative, machine->quantisers, machine->parities, search.ways + j * HALF, cheapest);
        int32_t *swapped = before;
        before = after;
        after = swapped;
        cheapest[0] += least_32(relative[0], relative[1]);
        cheapest[1] += least_32(relative[2], relative[3]);
        int quantiser = cheapest[1] < cheapest[0];
        paid = cheapest[quantiser];
        int parity = relative[2 * quantiser + 1] < relative[2 * quantiser];
        int64_t magnitude = branches.magnitudes[2 * quantiser + parity];
        drift = drift_after(drift, gains[j], at, quantiser, magnitude, tables);
    }
    int64_t best = 0;
    for (int state = 1; state < STATES; state++)
        best = before[state] < before[best] ? state : best;
    follow_back(targets, width, best, machine, &search, symbols);
}

EXPORT void semantic_quantise(const int64_t *targets, const int64_t *levels, const int64_t *gains, int64_t width,
                              int64_t weight, const struct magnitudes *tables, const struct machine *machine,
                              int64_t *memory, int64_t *symbols)
{
    quantise(targets, levels, gains, width, weight, tables, machine, memory, symbols);
}

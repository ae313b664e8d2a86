/* Dependent quantisation of vectors: the Viterbi search for the path of least distortion + lambda * rate. See
   trellis.py for the method and for what the arguments are.

   Each coefficient waits for what the best path so far makes of the drift, so that one vector alone would leave a
   processor idle; some are searched side by side. */

#include "trellis.h"

#include "levels.h"

#define HALF (STATES / 2)
#define KINDS 4             /* of states: 2 * quantiser + parity */
#define OF_A_KIND (HALF / KINDS)
#define DEAREST (1 << 26)   /* prices are no further apart, so that the costs of paths fit int32 */
#define UNREACHED (1 << 29) /* beyond what seven branches cost, after which all states are reached */

/* What the search remembers.

   `costs` (STATES): of the best path to each state, before and after a coefficient.
   `choices` (n, 4): the magnitudes that are branched to, by 2 * quantiser + parity.
   `ways` (n, KINDS): by which of its two ways the best path to states 2 u (bit 2 k) and 2 u + 1 (bit 2 k + 1)
   came, u being the k-th state of its kind: from state u, 0, or from u + HALF, 1. */
struct paths {
    int32_t (*costs[2])[LANES], (*choices)[4][LANES];
    uint32_t (*ways)[KINDS][LANES];
};

int64_t lanes_size(int64_t width)
{
    return LINE / 8 + LANES / 2 * (4 * width + 2 * STATES + width * (4 + KINDS));
}

struct lanes lanes_in(int64_t *memory, const int64_t *scales, int64_t width)
{
    int32_t (*gains)[LANES] = lines_in(memory), (*targets)[LANES] = gains + width;
    memset(gains, 0, (size_t)(2 * width) * sizeof *gains);
    return (struct lanes){
        .scales = scales,
        .gains = *gains,
        .targets = targets,
        .symbols = targets + width,
        .quantisers = targets + 2 * width,
        .memory = (int64_t *)(targets + 3 * width),
    };
}

static struct paths paths_in(int64_t *memory, int64_t width)
{
    int32_t (*costs)[LANES] = (int32_t (*)[LANES])memory;
    int32_t (*choices)[4][LANES] = (int32_t (*)[4][LANES])(costs + 2 * STATES);
    return (struct paths){{costs, costs + STATES}, choices, (uint32_t (*)[KINDS][LANES])(choices + width)};
}

/* Where states u are, of 0 to HALF - 1: the `members` of each kind, and the `kinds` and `places` among those of
   each u. */
struct kinds {
    int32_t members[KINDS][OF_A_KIND], kinds[HALF], places[HALF];
};

/* A code's quantisers and parities are sums of different bits of the state: so each kind has as many states. */
static struct kinds kinds_of(const struct machine *machine)
{
    struct kinds found;
    int counts[KINDS] = {0};
    for (int u = 0; u < HALF; u++) {
        int kind = 2 * machine->quantisers[u] + machine->parities[u];
        found.kinds[u] = kind;
        found.places[u] = counts[kind];
        found.members[kind][counts[kind]++] = u;
    }
    return found;
}

/* What a coefficient is coded as: its addresses, and the prices of its branches less the least one, by 2 * quantiser
   + parity. */
struct branching {
    int32_t rows[LANES], shifts[LANES], prices[4][LANES];
};

/* `branch` where magnitudes may have no symbol of their own. */
static __attribute__((noinline)) void branch_rarely(int32_t target, int lane, int32_t weight,
                                                    const struct magnitudes *tables, struct branching *found,
                                                    int32_t (*choices)[LANES])
{
    struct address at = {found->rows[lane], found->shifts[lane]};
    struct branches branches = branches_of(target, at, weight, tables);
    const int64_t *prices = branches.prices;
    int64_t base = least(least(prices[0], prices[1]), least(prices[2], prices[3]));
    for (int branch = 0; branch < 4; branch++) {
        found->prices[branch][lane] = (int32_t)least(prices[branch] - base, DEAREST);
        choices[branch][lane] = (int32_t)branches.magnitudes[branch];
    }
}

INLINED void branch(int64_t j, const struct lanes *lanes, const int32_t *restrict drifts,
                    const struct magnitudes *tables, struct branching *restrict found,
                    int32_t (*restrict choices)[LANES], const int wide)
{
    int32_t any_rare = 0;
    EACH_LANE(lane) {
        int32_t target = absolute_32(lanes->targets[j][lane]), weight = lanes->weights[lane];
        struct address at = drifted_address(level_in(lanes, j, lane), drifts[lane]);
        any_rare |= rare(target, at.shift);
        found->rows[lane] = at.row;
        found->shifts[lane] = at.shift;
        struct pair first = pair_of(least_32(target, WIDE), 0, at.row, weight, tables);
        struct pair second = pair_of(least_32(target, WIDE), 1, at.row, weight, tables);
        int32_t base = least_32(least_32(first.even_price, first.odd_price),
                                least_32(second.even_price, second.odd_price));
        found->prices[0][lane] = least_32(first.even_price - base, DEAREST);
        found->prices[1][lane] = least_32(first.odd_price - base, DEAREST);
        found->prices[2][lane] = least_32(second.even_price - base, DEAREST);
        found->prices[3][lane] = least_32(second.odd_price - base, DEAREST);
        choices[0][lane] = first.even;
        choices[1][lane] = first.odd;
        choices[2][lane] = second.even;
        choices[3][lane] = second.odd;
    }
    for (int lane = 0; any_rare && lane < wide; lane++) {
        int32_t target = absolute_32(lanes->targets[j][lane]);
        if (rare(target, found->shifts[lane]))
            branch_rarely(target, lane, lanes->weights[lane], tables, found, choices);
    }
}

/* A step of the Viterbi algorithm. `cheapest` becomes the least cost before the step of the states of each
   quantiser. */
INLINED void advance(int32_t (*restrict costs)[LANES], int32_t (*restrict after)[LANES],
                     int32_t (*restrict prices)[LANES], const struct kinds *kinds, uint32_t (*restrict ways)[LANES],
                     int32_t (*restrict cheapest)[LANES], const int wide)
{
    for (int kind = 0; kind < KINDS; kind++) {
        uint32_t by[LANES] = {0};
        int32_t to_0[LANES], to_1[LANES], lowest[LANES];
        EACH_LANE(lane) {
            to_0[lane] = prices[kind][lane];
            to_1[lane] = prices[kind ^ 1][lane];
            lowest[lane] = kind & 1 ? cheapest[kind >> 1][lane] : UNREACHED;
        }
#pragma GCC unroll 16
        for (int k = 0; k < OF_A_KIND; k++) {
            int u = kinds->members[kind][k];
            EACH_LANE(lane) {
                int32_t low = costs[u][lane], high = costs[u + HALF][lane];
                int32_t low_0 = low + to_0[lane], high_0 = high + to_1[lane];
                int32_t low_1 = low + to_1[lane], high_1 = high + to_0[lane];
                after[2 * u][lane] = least_32(low_0, high_0);
                after[2 * u + 1][lane] = least_32(low_1, high_1);
                by[lane] |= (uint32_t)(high_0 < low_0) << 2 * k | (uint32_t)(high_1 < low_1) << (2 * k + 1);
                lowest[lane] = least_32(lowest[lane], least_32(low, high));
            }
        }
        EACH_LANE(lane) {
            ways[kind][lane] = by[lane];
            cheapest[kind >> 1][lane] = lowest[lane];
        }
    }
}

/* Where the search is: the drifts of the best paths, and what these have paid, which is taken off so that costs stay
   small. */
struct position {
    int32_t drifts[LANES], paid[LANES];
};

/* Go on by coefficient j. */
INLINED void advance_by(int64_t j, struct position *here, const struct lanes *lanes, const struct magnitudes *tables,
                        const struct kinds *kinds, const struct paths *paths, const int wide)
{
    struct branching found;
    int32_t cheapest[2][LANES], quantisers[LANES], magnitudes[LANES];
    branch(j, lanes, here->drifts, tables, &found, paths->choices[j], wide);
    for (int branch = 0; branch < 4; branch++)
        EACH_LANE(lane)
            found.prices[branch][lane] -= here->paid[lane];
    advance(paths->costs[j & 1], paths->costs[~j & 1], found.prices, kinds, paths->ways[j], cheapest, wide);
    EACH_LANE(lane) {
        int32_t (*prices)[LANES] = found.prices, (*choices)[LANES] = paths->choices[j];
        int32_t first = cheapest[0][lane] + least_32(prices[0][lane], prices[1][lane]);
        int32_t second = cheapest[1][lane] + least_32(prices[2][lane], prices[3][lane]);
        int32_t of_first = choose(choices[0][lane], choices[1][lane], -(prices[1][lane] < prices[0][lane]));
        int32_t of_second = choose(choices[2][lane], choices[3][lane], -(prices[3][lane] < prices[2][lane]));
        quantisers[lane] = second < first;
        here->paid[lane] = least_32(first, second);
        magnitudes[lane] = choose(of_first, of_second, -quantisers[lane]);
    }
    EACH_LANE(lane) {
        struct address at = {found.rows[lane], found.shifts[lane]};
        int32_t gain = lanes->gains[lanes->offsets[lane] + j];
        here->drifts[lane] = drift_after(here->drifts[lane], gain, at, quantisers[lane], magnitudes[lane], tables);
    }
}

/* The states in which the best paths end, of lanes of this width. */
static void finish(int64_t width, const struct lanes *lanes, int32_t (*costs)[LANES], int32_t *states)
{
    for (int lane = 0; lane < LANES; lane++) {
        int best = 0;
        for (int state = 1; lanes->widths[lane] == width && state < STATES; state++)
            best = costs[state][lane] < costs[best][lane] ? state : best;
        states[lane] = lanes->widths[lane] == width ? best : states[lane];
    }
}

/* Fill in the symbols and quantisers of the paths that end in `states`. */
INLINED void follow_back(struct lanes *lanes, const struct kinds *kinds, const struct paths *paths, int32_t *states,
                         const int wide)
{
    for (int64_t j = lanes->widest - 1; j >= 0; j--) {
        const int32_t *choices = paths->choices[j][0], *targets = lanes->targets[j];
        const uint32_t *ways = paths->ways[j][0];
        int32_t symbols[LANES], quantisers[LANES];
        EACH_LANE(lane) {
            int32_t inside = -(j < lanes->widths[lane]), state = states[lane], u = state >> 1, newest = state & 1;
            int32_t kind = kinds->kinds[u];
            int32_t way = ways[kind * LANES + lane] >> (2 * kinds->places[u] + newest) & 1;
            int32_t branch = (kind & 2) | ((newest ^ kind ^ way) & 1);
            int32_t magnitude = choices[branch * LANES + lane];
            symbols[lane] = (targets[lane] >= 0 ? magnitude : -magnitude) & inside;
            quantisers[lane] = kind >> 1;
            states[lane] = choose(state, u + way * HALF, inside);
        }
        copy_lanes(lanes->symbols[j], symbols);
        copy_lanes(lanes->quantisers[j], quantisers);
    }
}

INLINED void search_in(struct lanes *lanes, const struct magnitudes *tables, const struct machine *machine,
                       const int wide)
{
    struct paths paths = paths_in(lanes->memory, lanes->widest);
    struct kinds kinds = kinds_of(machine);
    struct position here = {{0}, {0}};
    int32_t states[LANES] = {0};
    for (int state = 0; state < STATES; state++)
        EACH_LANE(lane)
            paths.costs[0][state][lane] = state == 0 ? 0 : UNREACHED;
    for (int64_t begin = 0, end; begin < lanes->widest; begin = end) {
        end = lanes->widest;
        EACH_LANE(lane)
            end = lanes->widths[lane] > begin ? least(end, lanes->widths[lane]) : end;
        for (int64_t j = begin; j < end; j++)
            advance_by(j, &here, lanes, tables, &kinds, &paths, wide);
        finish(end, lanes, paths.costs[end & 1], states);
    }
    follow_back(lanes, &kinds, &paths, states, wide);
}

void search(struct lanes *lanes, int count, const struct magnitudes *tables, const struct machine *machine)
{
    if (ALONE(count))
        search_in(lanes, tables, machine, 1);
    else
        search_in(lanes, tables, machine, LANES);
}

/* int64s of memory that `semantic_quantise` takes. */
EXPORT int64_t semantic_search_size(int64_t width)
{
    return lanes_size(width);
}

EXPORT void semantic_quantise(const int64_t *targets, const int64_t *levels, const int32_t *gains, int64_t width,
                              int64_t weight, const struct magnitudes *tables, const struct machine *machine,
                              int64_t *memory, int64_t *symbols)
{
    struct lanes lanes = lanes_in(memory, levels, width);
    memcpy(lanes.gains, gains, (size_t)width * sizeof *gains);
    lanes.widths[0] = lanes.widest = width;
    lanes.weights[0] = (int32_t)weight;
    for (int64_t j = 0; j < width; j++)
        lanes.targets[j][0] = (int32_t)targets[j];
    search(&lanes, 1, tables, machine);
    for (int64_t j = 0; j < width; j++)
        symbols[j] = lanes.symbols[j][0];
}

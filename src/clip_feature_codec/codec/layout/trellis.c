/* Dependent quantisation of layouts: the Viterbi search for symbols of little distortion + lambda * rate. See
   trellis.py for the method and for what the arguments are. */

#include "trellis.h"

#define HALF (LAYOUT_STATES / 2)
#define DEAREST (1 << 26)   /* prices are no further apart, so that the costs of paths fit int32 */
#define UNREACHED (1 << 29) /* beyond what three branches cost, after which all states are reached */
#define DIAGONALS 82        /* of a channel, at most */

/* What the search remembers, for each of the coefficients that any lane codes, in their order.

   Only the best path of a lane is looked at by what comes; it is kept whole, and mended from where another one
   becomes the best. A coefficient that others code and a lane does not leaves its path as it is.

   `coded`: which coefficients they are.
   `choices` (4): the magnitudes that are branched to, by 2 * quantiser + parity.
   `ways`: by which of its two ways the best path to states 2 u (bit 2 u) and 2 u + 1 (bit 2 u + 1) came: from state
   u, 0, or from u + HALF, 1.
   `states`, `taken`: those of the best path, behind each coefficient; its branches.
   `scores` (L + 1): its scores, by coefficient.
   `score_sums`, `information_sums`: of its scores and their information, from the channel's first one on, before
   each coefficient.
   `firsts` (DIAGONALS): with which coefficient each of the channel's diagonals begins.
   `running` (DIAGONALS): its running means, before each of those. */
struct paths {
    int64_t *coded, (*information_sums)[LANES];
    struct running (*running)[LANES];
    int32_t (*choices)[4][LANES], (*ways)[LANES], (*states)[LANES], (*taken)[LANES], (*scores)[LANES];
    int32_t (*score_sums)[LANES], (*firsts)[LANES];
};

int64_t layouts_size(int64_t size)
{
    int64_t lines = 3 * size + (4 + 3) * size + 2 * (size + 1) + DIAGONALS; /* of int32s */
    return LINE / 8 + LANES / 2 * lines + LANES * (size + 1) + size +
           DIAGONALS * LANES * (int64_t)(sizeof(struct running) / sizeof(int64_t));
}

struct layouts layouts_in(int64_t *memory, const struct layout_tables *tables, const struct geometry *geometry)
{
    int32_t (*targets)[LANES] = lines_in(memory);
    int64_t size = geometry->size;
    memset(targets, 0, (size_t)(2 * size) * sizeof *targets);
    struct layouts layouts = {
        .tables = tables,
        .geometry = geometry,
        .targets = targets,
        .symbols = targets + size,
        .quantisers = targets + 2 * size,
        .memory = (int64_t *)(targets + 3 * size),
        .finest = NO_STEP,
    };
    for (int lane = 0; lane < LANES; lane++)
        layouts.steps[lane] = NO_STEP;
    return layouts;
}

static struct paths paths_in(int64_t *memory, int64_t size)
{
    struct paths paths = {.choices = (int32_t (*)[4][LANES])memory};
    paths.ways = (int32_t (*)[LANES])(paths.choices + size);
    paths.states = paths.ways + size;
    paths.taken = paths.states + size;
    paths.scores = paths.taken + size;
    paths.score_sums = paths.scores + size + 1;
    paths.firsts = paths.score_sums + size + 1;
    paths.information_sums = (int64_t (*)[LANES])(paths.firsts + DIAGONALS);
    paths.running = (struct running (*)[LANES])(paths.information_sums + size + 1);
    paths.coded = (int64_t *)(paths.running + DIAGONALS);
    memset(paths.scores, 0, (size_t)(size + 1) * sizeof *paths.scores);
    return paths;
}

/* Where the search is: `begin`, with which of the coefficients that are coded the channel begins; and in each lane the
   diagonal, and how many of the channel came before it; the best states at
   the beginning and so far; and the running means.

   `costs`: of the best path to each state, less that of the best state. */
struct position {
    int64_t begin, passed[LANES];
    int32_t diagonals[LANES], entered[LANES], best[LANES], recent_means[LANES], all_means[LANES];
    int32_t costs[LAYOUT_STATES][LANES];
};

/* What is known of a coefficient: whether a lane codes it, all ones or 0; where its level starts; its address; and the
   prices of its branches. */
struct branching {
    int32_t inside[LANES], starts[LANES], rows[LANES], shifts[LANES], prices[4][LANES];
};

/* The running means on entering a diagonal, 1 or more, from those of the one before and what it added. */
static void enter(int64_t diagonal, int lane, const struct paths *paths)
{
    struct running running = paths->running[diagonal - 1][lane];
    int32_t begin = paths->firsts[diagonal - 1][lane], end = paths->firsts[diagonal][lane];
    running.diagonal = paths->score_sums[end][lane] - paths->score_sums[begin][lane];
    running.diagonal_information = paths->information_sums[end][lane] - paths->information_sums[begin][lane];
    fold(&running);
    paths->running[diagonal][lane] = running;
}

/* Begin a channel with coefficient k of those that are coded. Only the best path goes on, without running means. */
static void begin_channel(int64_t k, struct position *here, const struct paths *paths)
{
    here->begin = k;
    copy_lanes(here->entered, here->best);
    for (int lane = 0; lane < LANES; lane++) {
        for (int state = 0; state < LAYOUT_STATES; state++)
            here->costs[state][lane] = state == here->best[lane] ? 0 : UNREACHED;
        here->diagonals[lane] = NOWHERE;
        here->passed[lane] = here->recent_means[lane] = here->all_means[lane] = 0;
        paths->firsts[0][lane] = (int32_t)k;
        paths->running[0][lane] = (struct running){0};
        paths->score_sums[k][lane] = 0;
        paths->information_sums[k][lane] = 0;
    }
}

static void know_means(int lane, struct position *here, const struct paths *paths)
{
    const struct running *running = &paths->running[here->passed[lane]][lane];
    here->recent_means[lane] = running->recent_mean;
    here->all_means[lane] = running->all_mean;
}

/* Go on to the k-th coefficient that is coded, which lies on `diagonal`, in lanes that code it. */
INLINED void turn(int64_t k, int32_t diagonal, const int32_t *inside, struct position *here, const struct paths *paths,
                  const int wide)
{
    int32_t turning = 0;
    EACH_LANE(lane)
        turning |= inside[lane] & (here->diagonals[lane] ^ diagonal);
    for (int lane = 0; turning && lane < wide; lane++) {
        int32_t last = here->diagonals[lane];
        if (!inside[lane] || last == diagonal)
            continue;
        here->diagonals[lane] = diagonal;
        if (last == NOWHERE)
            continue;
        paths->firsts[++here->passed[lane]][lane] = (int32_t)k;
        enter(here->passed[lane], lane, paths);
        know_means(lane, here, paths);
    }
}

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

INLINED void branch(int64_t i, const struct layouts *layouts, const struct position *here, const struct paths *paths,
                    struct branching *restrict found, int32_t (*restrict choices)[LANES], const int wide)
{
    const struct magnitudes *tables = &layouts->tables->magnitudes;
    int32_t any_rare = 0;
    EACH_LANE(lane) {
        int32_t features[FEATURES], target = absolute_32(layouts->targets[i][lane]);
        look(i, layouts->geometry, *paths->scores + lane, LANES, here->recent_means[lane], here->all_means[lane],
             features);
        struct address at = address_in(i, found->starts[lane], layouts->tables, layouts->geometry, features);
        any_rare |= rare(target, at.shift);
        found->rows[lane] = at.row;
        found->shifts[lane] = at.shift;
    }
    EACH_LANE(lane) {
        int32_t target = least_32(absolute_32(layouts->targets[i][lane]), WIDE), weight = layouts->weights[lane];
        struct pair first = pair_of(target, 0, found->rows[lane], weight, tables);
        struct pair second = pair_of(target, 1, found->rows[lane], weight, tables);
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
        int32_t target = absolute_32(layouts->targets[i][lane]);
        if (rare(target, found->shifts[lane]))
            branch_rarely(target, lane, layouts->weights[lane], tables, found, choices);
    }
}

/* One step of the Viterbi algorithm, in lanes that are `inside`. */
INLINED void advance(const struct branching *restrict found, const struct machine *machine,
                     int32_t *restrict ways, struct position *restrict here, const int wide)
{
    int32_t after[LAYOUT_STATES][LANES], least_cost[LANES], best[LANES] = {0};
    int32_t by[LANES] = {0};
    for (int u = 0; u < HALF; u++) {
        int quantiser = machine->quantisers[u], parity = machine->parities[u];
        int32_t to_0[LANES], to_1[LANES];
        copy_lanes(to_0, found->prices[2 * quantiser + parity]);
        copy_lanes(to_1, found->prices[2 * quantiser + 1 - parity]);
        EACH_LANE(lane) {
            int32_t low = here->costs[u][lane], high = here->costs[u + HALF][lane];
            int32_t low_0 = low + to_0[lane], high_0 = high + to_1[lane];
            int32_t low_1 = low + to_1[lane], high_1 = high + to_0[lane];
            after[2 * u][lane] = least_32(low_0, high_0);
            after[2 * u + 1][lane] = least_32(low_1, high_1);
            by[lane] |= (high_0 < low_0) << 2 * u | (high_1 < low_1) << (2 * u + 1);
        }
    }
    copy_lanes(ways, by);
    copy_lanes(least_cost, after[0]);
    for (int state = 1; state < LAYOUT_STATES; state++)
        EACH_LANE(lane) {
            best[lane] = choose(best[lane], state, -(after[state][lane] < least_cost[lane]));
            least_cost[lane] = least_32(least_cost[lane], after[state][lane]);
        }
    for (int state = 0; state < LAYOUT_STATES; state++)
        EACH_LANE(lane)
            here->costs[state][lane] =
                choose(here->costs[state][lane], after[state][lane] - least_cost[lane], found->inside[lane]);
    EACH_LANE(lane)
        here->best[lane] = choose(here->best[lane], best[lane], found->inside[lane]);
}

/* By which branch the best path came to a state, and the state before. */
INLINED int32_t branch_to(int32_t state, int32_t ways, const struct machine *machine, int32_t *before)
{
    int32_t u = state >> 1, way = ways >> state & 1;
    *before = u + way * HALF;
    return 2 * machine->quantisers[u] + ((state ^ machine->parities[u] ^ way) & 1);
}

/* Put coefficient i, the k-th that is coded, at the ends of the best paths, as if these had not changed before. Where
   they have, lanes are `broken`, and this returns true. */
INLINED bool append(int64_t k, int64_t i, const struct branching *found, const struct position *here,
                    const struct paths *paths, const struct layout_tables *tables, const struct machine *machine,
                    int32_t *restrict broken, const int wide)
{
    const int32_t *choices = *paths->choices[k], *former = paths->states[k - (k > 0)], *ways = paths->ways[k];
    int32_t taken[LANES], scores[LANES], information[LANES], any = 0;
    EACH_LANE(lane) {
        int32_t inside = found->inside[lane], before, branch = branch_to(here->best[lane], ways[lane], machine, &before);
        taken[lane] = branch;
        broken[lane] = inside & -((k > here->begin) & (former[lane] != before));
        any |= broken[lane];
        struct address at = scored_at(greatest_32(found->starts[lane], FAR_BELOW));
        scores[lane] = score_of(at, choices[branch * LANES + lane], branch >> 1, &tables->magnitudes) & inside;
        information[lane] = tables->magnitudes.information[at.row] & inside;
    }
    copy_lanes(paths->taken[k], taken);
    copy_lanes(paths->scores[i], scores);
    copy_lanes(paths->states[k], here->best);
    EACH_LANE(lane)
        paths->score_sums[k + 1][lane] = paths->score_sums[k][lane] + scores[lane];
    EACH_LANE(lane)
        paths->information_sums[k + 1][lane] = paths->information_sums[k][lane] + information[lane];
    return any;
}

/* Make the path that ends in the best state behind coefficient k, of those that are coded, the one that is kept. Returns
   the first one at which it is another. */
static int64_t mend(int64_t k, int lane, const struct position *here, const struct paths *paths,
                    const struct layouts *layouts, const struct machine *machine)
{
    int32_t step = layouts->steps[lane], state = here->best[lane];
    int64_t first = k;
    for (;; first--) {
        paths->states[first][lane] = state;
        if (start_of(paths->coded[first], step, layouts->tables) < LOWEST)
            continue;
        paths->taken[first][lane] = branch_to(state, paths->ways[first][lane], machine, &state);
        if (first == here->begin || paths->states[first - 1][lane] == state)
            break;
    }
    for (int64_t j = first; j <= k; j++) {
        int64_t i = paths->coded[j], branch = paths->taken[j][lane];
        int32_t start = start_of(i, step, layouts->tables), score = 0;
        if (start >= LOWEST) {
            int32_t magnitude = paths->choices[j][branch][lane], quantiser = (int32_t)(branch >> 1);
            score = score_of(scored_at(start), magnitude, quantiser, &layouts->tables->magnitudes);
            paths->scores[i][lane] = score;
        }
        paths->score_sums[j + 1][lane] = paths->score_sums[j][lane] + score;
    }
    return first;
}

/* `mend`, and what follows from it. */
static void mend_lane(int64_t k, int lane, struct position *here, const struct paths *paths,
                      const struct layouts *layouts, const struct machine *machine)
{
    int64_t first = mend(k, lane, here, paths, layouts, machine), stale = here->passed[lane];
    while (paths->firsts[stale][lane] > first)
        stale--;
    for (stale++; stale <= here->passed[lane]; stale++)
        enter(stale, lane, paths);
    know_means(lane, here, paths);
}

/* Fill in the symbols of the best paths through the channel from `begin` to `end`, and their quantisers: zeros where none
   was looked for. The best states become those behind the channel. */
INLINED void take(struct layouts *layouts, int64_t begin, int64_t end, int64_t count, struct position *here,
                  const struct paths *paths, const struct machine *machine, const int wide)
{
    const int32_t *ends = layouts->ends[layouts->geometry->channels[begin]];
    int32_t states[LANES];
    int64_t k = here->begin;
    copy_lanes(states, here->entered);
    for (int64_t i = begin; i < end; i++) {
        int32_t magnitudes[LANES] = {0}, quantisers[LANES], coded[LANES];
        EACH_LANE(lane)
            coded[lane] = -(start_of(i, layouts->steps[lane], layouts->tables) >= LOWEST);
        if (k < count && paths->coded[k] == i) {
            const int32_t *choices = *paths->choices[k], *taken = paths->taken[k], *targets = layouts->targets[i];
            int32_t symbols[LANES];
            EACH_LANE(lane) {
                magnitudes[lane] = choices[taken[lane] * LANES + lane] & coded[lane] & -(i < ends[lane]);
                symbols[lane] = targets[lane] >= 0 ? magnitudes[lane] : -magnitudes[lane];
            }
            copy_lanes(layouts->symbols[i], symbols);
            k++;
        }
        EACH_LANE(lane) {
            int32_t state = states[lane];
            quantisers[lane] = machine->quantisers[state];
            states[lane] = choose(state, following(state, magnitudes[lane], machine, LAYOUT_STATES), coded[lane]);
        }
        copy_lanes(layouts->quantisers[i], quantisers);
    }
    copy_lanes(here->best, states);
}

INLINED void search_in(struct layouts *layouts, const struct machine *machine, const int wide)
{
    const struct geometry *geometry = layouts->geometry;
    struct paths paths = paths_in(layouts->memory, geometry->size);
    struct position here = {.begin = 0};
    int64_t count = 0;
    for (int64_t begin = 0, end; begin < geometry->size; begin = end) {
        const int32_t *ends = layouts->ends[geometry->channels[begin]];
        int32_t last = 0;
        end = end_of_channel(begin, geometry);
        EACH_LANE(lane)
            last = greatest_32(last, ends[lane]);
        begin_channel(count, &here, &paths);
        for (int64_t i = begin; i < least(last, end); i++) {
            struct branching found;
            int32_t broken[LANES];
            if (start_of(i, layouts->finest, layouts->tables) < LOWEST)
                continue;
            EACH_LANE(lane) {
                found.starts[lane] = start_of(i, layouts->steps[lane], layouts->tables);
                found.inside[lane] = -((found.starts[lane] >= LOWEST) & (i < ends[lane]));
            }
            paths.coded[count] = i;
            turn(count, diagonal_of(i, geometry), found.inside, &here, &paths, wide);
            branch(i, layouts, &here, &paths, &found, paths.choices[count], wide);
            advance(&found, machine, paths.ways[count], &here, wide);
            bool any = append(count, i, &found, &here, &paths, layouts->tables, machine, broken, wide);
            for (int lane = 0; any && lane < wide; lane++)
                if (broken[lane])
                    mend_lane(count, lane, &here, &paths, layouts, machine);
            count++;
        }
        take(layouts, begin, end, count, &here, &paths, machine, wide);
    }
}

void search_layouts(struct layouts *layouts, int count, const struct machine *machine)
{
    if (ALONE(count))
        search_in(layouts, machine, 1);
    else
        search_in(layouts, machine, LANES);
}

/* int64s of memory that `layout_quantise` takes. */
EXPORT int64_t layout_search_size(int64_t size)
{
    return layouts_size(size);
}

EXPORT void layout_quantise(const int64_t *targets, int64_t step, int64_t weight,
                            const struct layout_tables *tables, const struct geometry *geometry,
                            const struct machine *machine, int64_t *memory, int64_t *symbols, int64_t *quantisers)
{
    struct layouts layouts = layouts_in(memory, tables, geometry);
    add_layout(&layouts, 0, step, weight, (int64_t[CHANNELS]){geometry->size, geometry->size, geometry->size});
    for (int64_t i = 0; i < geometry->size; i++)
        layouts.targets[i][0] = (int32_t)targets[i];
    search_layouts(&layouts, 1, machine);
    for (int64_t i = 0; i < geometry->size; i++) {
        symbols[i] = layouts.symbols[i][0];
        quantisers[i] = layouts.quantisers[i][0];
    }
}

/* Pairs of points that are near each other, among all. See near_pairs.py. */

#include "../native.h"

#define AXES 192   /* of a point */
#define LEADING 16 /* of these, the ones by which most pairs and whole boxes are ruled out */
#define CHUNK 64   /* axes that are looked at before it is asked again whether two points are near */
#define BOX 64     /* points */
#define TILE 16    /* boxes */

/* A product of two coordinates in units of 1 / 32768, rounded: one instruction for all lanes of a register. */
INLINED int16_t product(int16_t a, int16_t b)
{
    return (int16_t)((((int32_t)a * b >> 14) + 1) >> 1);
}

/* Which boxes of a tile may have a point within reach of one, by the square of its gap to them in units of 65536,
   rounded down axis by axis. `ends`: where each box begins, by axis, and where it ends. */
INLINED void boxes_near(const int16_t *point, const int16_t *ends, int64_t most, uint8_t *near)
{
    const int16_t *lows = ends, *highs = ends + LEADING * TILE;
    int16_t squares[TILE] = {0};
    for (int j = 0; j < LEADING; j++)
        for (int box = 0; box < TILE; box++) {
            int16_t below = lows[j * TILE + box] - point[j], above = point[j] - highs[j * TILE + box];
            int16_t gap = below > above ? below : above;
            gap = gap > 0 ? gap : 0;
            squares[box] += (int16_t)((int32_t)gap * gap >> 16);
        }
    for (int box = 0; box < TILE; box++)
        near[box] = squares[box] <= most;
}

/* Which points of a box may be within reach of one, as far as the leading axes tell: those for which the product is
   not below half of both squares by more than half the square of the reach. */
INLINED void points_near(const int16_t *point, const int16_t *lanes, const int16_t *halves, int16_t least,
                         uint8_t *near)
{
    int16_t sums[BOX];
    for (int lane = 0; lane < BOX; lane++)
        sums[lane] = -halves[lane];
    _Pragma("GCC unroll 16") for (int j = 0; j < LEADING; j++)
        for (int lane = 0; lane < BOX; lane++)
            sums[lane] += product(point[j], lanes[j * BOX + lane]);
    for (int lane = 0; lane < BOX; lane++)
        near[lane] = sums[lane] >= least;
}

INLINED int32_t square_apart(const int16_t *a, const int16_t *b)
{
    int32_t sum = 0;
    for (int j = 0; j < CHUNK; j++) {
        int16_t apart = a[j] - b[j];
        sum += apart * apart;
    }
    return sum;
}

INLINED bool within(const int16_t *a, const int16_t *b, int32_t reach)
{
    int32_t sum = 0;
    for (int j = 0; j < AXES && sum <= reach; j += CHUNK)
        sum += square_apart(a + j, b + j);
    return sum <= reach;
}

/* Points of a box from `after` on within reach of point `a`; how many were written. */
INLINED int64_t pairs_in_box(const int16_t *points, int64_t a, int64_t box, int64_t after, const uint8_t *near,
                             int32_t reach, int32_t *pairs)
{
    int64_t found = 0;
    for (int first = 0; first < BOX; first += 8) {
        uint64_t eight; /* points, which are rarely near; the first one's byte is the lowest */
        memcpy(&eight, near + first, sizeof eight);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        eight = __builtin_bswap64(eight);
#endif
        for (; eight; eight &= eight - 1) {
            const int64_t b = box * BOX + first + __builtin_ctzll(eight) / 8;
            if (b >= after && within(points + a * AXES, points + b * AXES, reach)) {
                pairs[2 * found] = (int32_t)a;
                pairs[2 * found++ + 1] = (int32_t)b;
            }
        }
    }
    return found;
}

/* Pairs of the points of one tile with those of the `steps` tiles that begin with it, in a ring. At most `reach` is
   the square of their distance, at most 2^30. `points` (count, AXES), `lanes` (boxes, LEADING, BOX), `halves` (boxes,
   BOX), `ends` (tiles, 2, LEADING, TILE). `at` (2,), the step and the point of the tile to begin with, becomes where
   to go on, since for one point more there must be room in `pairs` for a whole tile. The number of pairs. */
EXPORT int64_t near_pairs(const int16_t *points, const int16_t *lanes, const int16_t *halves, const int16_t *ends,
                          int64_t count, int64_t reach, int64_t tile, int64_t steps, int64_t *at, int32_t *pairs,
                          int64_t room)
{
    const int64_t boxes = (count + BOX - 1) / BOX, tiles = (boxes + TILE - 1) / TILE;
    const int64_t first = tile * BOX * TILE, mine = least(count - first, BOX * TILE), units = reach >> 16;
    const int16_t slack = (int16_t)(units + 1 + LEADING / 2); /* each product is rounded by half a unit at most */
    int64_t found = 0;
    for (; at[0] < steps; at[0]++, at[1] = 0) {
        const int64_t other = (tile + at[0]) % tiles, there = least(boxes - other * TILE, TILE);
        for (; at[1] < mine; at[1]++) {
            if (room - found < BOX * TILE)
                return found;
            const int64_t a = first + at[1];
            const int64_t after = at[0] ? 0 : a + 1; /* of its own tile, each pair once */
            const int16_t *point = points + a * AXES;
            uint8_t near[TILE], lane_near[BOX];
            boxes_near(point, ends + other * 2 * LEADING * TILE, units, near);
            for (int64_t i = 0; i < there; i++) {
                if (!near[i])
                    continue;
                const int64_t box = other * TILE + i;
                points_near(point, lanes + box * LEADING * BOX, halves + box * BOX, halves[a] - slack, lane_near);
                found += pairs_in_box(points, a, box, after, lane_near, (int32_t)reach, pairs + 2 * found);
            }
        }
    }
    return found;
}

/* Arithmetic coding: symbols with integer probabilities to bytes and back. See arithmetic.py for the method. */

#ifndef ARITHMETIC_H
#define ARITHMETIC_H

#include "../native.h"

#define PRECISION 15 /* a table's frequencies add up to 2^15 */

#define NUMBER_BYTES 6 /* of the number that are looked at together */
#define ONE ((int64_t)1 << 8 * NUMBER_BYTES)
#define BYTE (ONE >> 8) /* the range never falls below this */
#define BYTE_BITS (8 * NUMBER_BYTES - 8)

/* `number`: writing, the low end of the interval; reading, the stream's number less that.
   `place`: writing, the bytes in the buffer; reading, where the next byte is.
   `strayed`: reading, 1 if the stream pointed outside of every symbol's share. */
struct coder {
    int64_t number, range, place, strayed;
};

/* A coder at the start of an empty buffer. */
INLINED struct coder writer(void)
{
    return (struct coder){0, ONE, 0, 0};
}

/* Add 1 to the number in `buffer[0:size]`, which is not all ones. */
INLINED void carry(uint8_t *buffer, int64_t size)
{
    int64_t at = size - 1;
    while (buffer[at] == 255)
        buffer[at--] = 0;
    buffer[at]++;
}

/* Code the symbol whose part of 0 to 2^15 begins at `start` and is `frequency` long, 1 or more. The buffer has
   room for 2 bytes more. */
INLINED void push(struct coder *coder, int64_t start, int64_t frequency, uint8_t *buffer)
{
    int64_t share = coder->range >> PRECISION;
    int64_t low = coder->number + share * start, range = share * frequency;
    if (low >= ONE) {
        low -= ONE;
        carry(buffer, coder->place);
    }
    while (range < BYTE) {
        buffer[coder->place++] = (uint8_t)(low >> BYTE_BITS);
        low = (low & (BYTE - 1)) << 8;
        range <<= 8;
    }
    coder->number = low;
    coder->range = range;
}

/* Code `bits` equally likely bits, 0 to 15 of them, that spell `value`. */
INLINED void push_bits(struct coder *coder, int64_t value, int bits, uint8_t *buffer)
{
    push(coder, value << (PRECISION - bits), (int64_t)1 << (PRECISION - bits), buffer);
}

/* End the stream, which is then `buffer[0:size]`, and return the size. */
INLINED int64_t flush(struct coder *coder, uint8_t *buffer)
{
    int64_t low = coder->number, size = coder->place;
    if (low > 0) {
        if (low + coder->range > ONE)
            carry(buffer, size); /* up to the next multiple of 1 */
        else
            buffer[size++] = (uint8_t)((low + BYTE - 1) >> BYTE_BITS);
    }
    while (size > 0 && buffer[size - 1] == 0)
        size--;
    return size;
}

/* The byte at a place of a stream, and a zero behind its end. */
INLINED int64_t byte_at(const uint8_t *data, int64_t place, int64_t end)
{
    return place < end ? data[place] : 0;
}

/* A coder at the start of the stream `data[begin:end]`. */
INLINED struct coder reader(const uint8_t *data, int64_t begin, int64_t end)
{
    int64_t number = 0;
    for (int64_t place = begin; place < begin + NUMBER_BYTES; place++)
        number = number << 8 | byte_at(data, place, end);
    return (struct coder){number, ONE, begin + NUMBER_BYTES, 0};
}

/* What 1 of 2^15 is of the range. Where the number points to what is left above the last share, it is taken to point to
   that one. */
INLINED int64_t share_of(struct coder *coder)
{
    int64_t share = coder->range >> PRECISION;
    if (coder->number >= share << PRECISION) {
        coder->number = (share << PRECISION) - 1;
        coder->strayed = 1;
    }
    return share;
}

/* Take a symbol's share. */
INLINED void narrow(struct coder *coder, int64_t share, int64_t start, int64_t frequency, const uint8_t *data,
                    int64_t end)
{
    int64_t number = coder->number - share * start, range = share * frequency;
    while (range < BYTE) {
        number = number << 8 | byte_at(data, coder->place++, end);
        range <<= 8;
    }
    coder->number = number;
    coder->range = range;
}

/* Decode one symbol; `starts` goes from 0 to 2^15, strictly increasing. (To multiply a few times is quicker than to
   divide once.) */
INLINED int64_t pop(struct coder *coder, const int32_t *starts, const uint8_t *data, int64_t end)
{
    int64_t share = share_of(coder), symbol = 0;
    while (share * starts[symbol + 1] <= coder->number)
        symbol++;
    narrow(coder, share, starts[symbol], starts[symbol + 1] - starts[symbol], data, end);
    return symbol;
}

/* Decode what `push_bits` coded. */
INLINED int64_t pop_bits(struct coder *coder, int bits, const uint8_t *data, int64_t end)
{
    int rest = PRECISION - bits;
    int64_t share = share_of(coder), half = share << (PRECISION - 1);
    int64_t value = bits == 1 ? coder->number >= half : (int64_t)((uint64_t)coder->number / (uint64_t)(share << rest));
    narrow(coder, share, value << rest, (int64_t)1 << rest, data, end);
    return value;
}

/* Whether `data[begin:end]` is what `flush` gives for the symbols read: nothing more, less or other. */
INLINED bool complete(const struct coder *coder, const uint8_t *data, int64_t begin, int64_t end)
{
    if (coder->strayed || (end > begin && data[end - 1] == 0))
        return false;
    int64_t settled = coder->place - NUMBER_BYTES; /* bytes before this place moved out before the end */
    if (end <= settled)
        return true;
    if (end > settled + 1)
        return false;
    int64_t low = (int64_t)data[settled] * BYTE - coder->number;
    return low > 0 && coder->number < BYTE && low + coder->range <= ONE;
}

#endif

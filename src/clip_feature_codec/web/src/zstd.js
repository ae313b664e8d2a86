// Zstandard frames (RFC 8878) of the profile `int8`: one frame of a few hundred bytes, read as a whole.

/** A frame is damaged; the message says where. */
export class FrameError extends Error {}

const LITERAL_LENGTHS = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 128, 256, 512,
    1024, 2048, 4096, 8192, 16384, 32768, 65536],
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
];
const MATCH_LENGTHS = [
  [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
    33, 34, 35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, 131, 259, 515, 1027, 2051, 4099, 8195, 16387, 32771, 65539],
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2,
    3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
];
/** Symbols of literal lengths, offsets and match lengths: usual counts, their accuracy, the most accurate, the last. */
const KINDS = [
  [[4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1],
    6, 9, 35],
  [[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1], 5, 8, 31],
  [[1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1], 6, 9, 52],
];

/**
 * Decompress the blocks of a frame.
 *
 * @param {Uint8Array} blocks all behind the frame's header
 * @param {number} window bytes of its window, which no block is larger than, coded or not
 * @param {number} most bytes that come out at most
 * @returns {Uint8Array}
 * @throws {FrameError} they are damaged, or hold more bytes
 */
export function inflate(blocks, window, most) {
  const out = { bytes: new Uint8Array(most), length: 0 };
  const memory = { huffman: null, tables: [null, null, null], offsets: [1, 4, 8] };
  const input = new Forward(blocks);
  let last = 0;
  while (!last) {
    const header = input.byte() | (input.byte() << 8) | (input.byte() << 16);
    last = header & 1;
    const length = header >> 3;
    const kind = (header >> 1) & 3;
    const begin = out.length;
    if (kind === 3 || length > window) throw damaged("a block of no kind");
    if (kind === 0) put(out, input.take(length));
    else if (kind === 1) put(out, new Uint8Array(length).fill(input.byte()));
    else decodeBlock(new Forward(input.take(length)), memory, out);
    if (out.length - begin > window) throw damaged("a block too large");
  }
  if (input.left > 0) throw damaged("it does not end where the payload does");
  return out.bytes.subarray(0, out.length);
}

function damaged(why) {
  return new FrameError(why);
}

function put(out, bytes) {
  if (out.length + bytes.length > out.bytes.length) throw damaged("it does not end where the payload does");
  out.bytes.set(bytes, out.length);
  out.length += bytes.length;
}

/** Bytes from the first to the last. */
class Forward {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  get left() {
    return this.bytes.length - this.at;
  }

  byte() {
    return this.take(1)[0];
  }

  take(count) {
    if (count > this.left) throw damaged("it ends early");
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }
}

/** Bits from the last to the first; the highest one of the last byte marks the end. */
class Backward {
  constructor(bytes) {
    const last = bytes[bytes.length - 1];
    if (!last) throw damaged("bits without an end");
    this.bytes = bytes;
    this.left = 8 * bytes.length - 1 - Math.clz32(last) + 24;
  }

  /** The next bits as one number; zeros behind the last of them. */
  bits(count) {
    let value = 0;
    for (let i = 0; i < count; i++) {
      this.left--;
      value = value * 2 + (this.left >= 0 ? (this.bytes[this.left >> 3] >> (this.left & 7)) & 1 : 0);
    }
    return value;
  }
}

function decodeBlock(input, memory, out) {
  const literals = readLiterals(input, memory);
  let count = input.byte();
  if (count === 0) {
    if (input.left > 0) throw damaged("sequences of another number");
    return put(out, literals);
  }
  if (count === 255) count = input.byte() + (input.byte() << 8) + 0x7f00;
  else if (count > 127) count = ((count - 128) << 8) + input.byte();
  const modes = input.byte();
  if (modes & 3) throw damaged("reserved bits");
  KINDS.forEach((kind, i) => readTable(input, memory, i, (modes >> (6 - 2 * i)) & 3));
  return runSequences(new Backward(input.take(input.left)), count, literals, memory, out);
}

function readLiterals(input, memory) {
  const first = input.byte();
  const kind = first & 3;
  const format = (first >> 2) & 3;
  if (kind < 2) {
    let size = first >> 3;
    if (format === 1) size = (first >> 4) | (input.byte() << 4);
    if (format === 3) size = (first >> 4) | (input.byte() << 4) | (input.byte() << 12);
    return kind === 0 ? input.take(size) : new Uint8Array(limited(size)).fill(input.byte());
  }
  const width = [10, 10, 14, 18][format];
  let header = first;
  const bytes = [3, 3, 4, 5][format];
  for (let i = 1; i < bytes; i++) header += input.byte() * 2 ** (8 * i);
  const size = limited(Math.floor(header / 16) % 2 ** width);
  const packed = new Forward(input.take(Math.floor(header / 2 ** (4 + width)) % 2 ** width));
  if (kind === 2) memory.huffman = readHuffman(packed);
  if (memory.huffman === null) throw damaged("literals without a table");
  return readStreams(packed, size, format === 0 ? 1 : 4, memory.huffman);
}

function limited(size) {
  if (size > 131072) throw damaged("a block of no size");
  return size;
}

function readStreams(packed, size, count, huffman) {
  const literals = new Uint8Array(size);
  const part = count === 1 ? size : Math.floor((size + 3) / 4);
  if (count === 4 && size < 6) throw damaged("literals in too many parts");
  const lengths = [];
  for (let i = 0; i + 1 < count; i++) lengths.push(packed.byte() | (packed.byte() << 8));
  for (let i = 0; i < count; i++) {
    const bits = new Backward(packed.take(i + 1 < count ? lengths[i] : packed.left));
    const begin = part * i;
    const end = i + 1 < count ? begin + part : size;
    if (begin > end) throw damaged("literals in too many parts");
    for (let at = begin; at < end; at++) literals[at] = huffman.symbol(bits);
    if (bits.left !== 0) throw damaged("literals that end elsewhere");
  }
  return literals;
}

/** Codes of up to 11 bits, looked up by the next bits. */
class Huffman {
  constructor(weights) {
    const sum = weights.reduce((total, weight) => total + (weight ? 2 ** (weight - 1) : 0), 0);
    if (sum === 0) throw damaged("no codes");
    this.width = Math.floor(Math.log2(sum)) + 1;
    const rest = Math.log2(2 ** this.width - sum);
    const all = [...weights, rest + 1];
    const ones = all.filter((weight) => weight === 1).length;
    if (this.width > 11 || !Number.isInteger(rest) || ones < 2 || ones % 2) throw damaged("codes that do not add up");
    this.symbols = [];
    this.lengths = [];
    for (let weight = 1; weight <= this.width; weight++) {
      all.forEach((each, symbol) => {
        if (each !== weight) return;
        for (let i = 0; i < 2 ** (weight - 1); i++) {
          this.symbols.push(symbol);
          this.lengths.push(this.width + 1 - weight);
        }
      });
    }
  }

  symbol(bits) {
    const next = bits.bits(this.width);
    bits.left += this.width - this.lengths[next];
    return this.symbols[next];
  }
}

function readHuffman(packed) {
  const header = packed.byte();
  if (header >= 128) {
    const count = header - 127;
    const bytes = packed.take((count + 1) >> 1);
    return new Huffman(Array.from({ length: count }, (_, i) => (i % 2 ? bytes[i >> 1] & 15 : bytes[i >> 1] >> 4)));
  }
  const input = new Forward(packed.take(header));
  const table = readCounts(input, 6, 255);
  const bits = new Backward(input.take(input.left));
  const states = [bits.bits(table.accuracy), bits.bits(table.accuracy)];
  const weights = [];
  for (let i = 0; ; i = 1 - i) {
    if (weights.length > 253) throw damaged("too many codes");
    const { symbol, width, base } = table.cells[states[i]];
    weights.push(symbol);
    if (bits.left < width) {
      weights.push(table.cells[states[1 - i]].symbol);
      return new Huffman(weights);
    }
    states[i] = base + bits.bits(width);
  }
}

/** Read how often symbols are, and make their table. */
function readCounts(input, mostAccurate, lastSymbol) {
  const reader = bitsOf(input);
  const accuracy = reader.bits(4) + 5;
  if (accuracy > mostAccurate) throw damaged("a table too large");
  const counts = [];
  let left = 2 ** accuracy;
  while (left > 0) {
    const width = Math.floor(Math.log2(left + 1)) + 1;
    const few = 2 ** width - 1 - (left + 1);
    let value = reader.bits(width - 1);
    if (value >= few) {
      value += reader.bits(1) << (width - 1);
      if (value >= 2 ** (width - 1)) value -= few;
    }
    counts.push(value - 1);
    left -= Math.abs(value - 1);
    if (value === 1) {
      for (let more = 3; more === 3; ) {
        more = reader.bits(2);
        for (let i = 0; i < more; i++) counts.push(0);
      }
    }
    if (counts.length > lastSymbol + 1) throw damaged("symbols that there are not");
  }
  reader.end();
  return tableOf(counts, accuracy);
}

/** Bits from the lowest one of the first byte on. */
function bitsOf(input) {
  const begin = input.at;
  let at = 8 * begin;
  return {
    bits(count) {
      let value = 0;
      for (let i = 0; i < count; i++, at++) {
        const byte = input.bytes[at >> 3] ?? 0;
        value |= ((byte >> (at & 7)) & 1) << i;
      }
      return value;
    },
    end() {
      input.take(((at + 7) >> 3) - begin);
    },
  };
}

/** What each state stands for: a symbol, and the next state but for some bits (RFC 8878, section 4.1.1). */
function tableOf(counts, accuracy) {
  const size = 2 ** accuracy;
  const symbols = new Array(size);
  let high = size;
  counts.forEach((count, symbol) => {
    if (count === -1) symbols[--high] = symbol;
  });
  let at = 0;
  counts.forEach((count, symbol) => {
    for (let i = 0; i < count; i++) {
      symbols[at] = symbol;
      do at = (at + (size >> 1) + (size >> 3) + 3) & (size - 1);
      while (at >= high);
    }
  });
  const next = counts.map(Math.abs);
  const cells = symbols.map((symbol) => {
    const state = next[symbol]++;
    const width = accuracy - (31 - Math.clz32(state));
    return { symbol, width, base: (state << width) - size };
  });
  return { accuracy, cells };
}

function readTable(input, memory, i, mode) {
  const [usual, accuracy, mostAccurate, lastSymbol] = KINDS[i];
  if (mode === 0) {
    memory.tables[i] = tableOf(usual, accuracy);
  } else if (mode === 1) {
    const symbol = input.byte();
    if (symbol > lastSymbol) throw damaged("symbols that there are not");
    memory.tables[i] = { accuracy: 0, cells: [{ symbol, width: 0, base: 0 }] };
  } else if (mode === 2) {
    memory.tables[i] = readCounts(input, mostAccurate, lastSymbol);
  } else if (memory.tables[i] === null) {
    throw damaged("sequences without a table");
  }
}

function runSequences(bits, count, literals, memory, out) {
  const { tables, offsets } = memory;
  const states = tables.map(({ accuracy }) => bits.bits(accuracy));
  let used = 0;
  for (let i = 0; i < count; i++) {
    const [length, offset, match] = tables.map(({ cells }, k) => cells[states[k]]);
    const distance = 2 ** offset.symbol + bits.bits(offset.symbol);
    const matched = MATCH_LENGTHS[0][match.symbol] + bits.bits(MATCH_LENGTHS[1][match.symbol]);
    const literal = LITERAL_LENGTHS[0][length.symbol] + bits.bits(LITERAL_LENGTHS[1][length.symbol]);
    if (used + literal > literals.length) throw damaged("literals that are not there");
    put(out, literals.subarray(used, used + literal));
    used += literal;
    copy(out, settled(distance, literal, offsets), matched);
    if (i + 1 < count) {
      for (const [k, cell] of [[0, length], [2, match], [1, offset]]) states[k] = cell.base + bits.bits(cell.width);
    }
    if (bits.left < 0) throw damaged("sequences that end early");
  }
  if (bits.left !== 0) throw damaged("sequences that end elsewhere");
  put(out, literals.subarray(used));
}

/** How far back a match lies, by its code and the last three. */
function settled(code, literal, offsets) {
  const repeated = literal === 0 ? code + 1 : code;
  if (code > 3) {
    offsets.unshift(code - 3);
    offsets.length = 3;
  } else if (repeated > 1) {
    const found = repeated === 4 ? offsets[0] - 1 : offsets[repeated - 1];
    if (found === 0) throw damaged("a match of no distance");
    if (repeated > 2) offsets[2] = offsets[1];
    offsets[1] = offsets[0];
    offsets[0] = found;
  }
  return offsets[0];
}

function copy(out, distance, count) {
  if (distance > out.length) throw damaged("a match before the beginning");
  if (out.length + count > out.bytes.length) throw damaged("it does not end where the payload does");
  for (let i = 0; i < count; i++, out.length++) out.bytes[out.length] = out.bytes[out.length - distance];
}

// The codec's own loops in C, compiled to WebAssembly by recipes/web/make_loops.py. What their arguments are is said in
// codec/semantic/payloads.py and codec/layout/payloads.py.

const PAGE = 65536;

export class Loops {
  /** @param {BufferSource} program loops.wasm */
  static async open(program) {
    return new Loops((await WebAssembly.instantiate(program)).instance.exports);
  }

  constructor(exports) {
    this.exports = exports;
    this.end = exports.__heap_base.value;
  }

  /** Room for `count` numbers, for good: where it begins. */
  room(Kind, count) {
    const begin = Math.ceil(this.end / 8) * 8;
    this.end = begin + Kind.BYTES_PER_ELEMENT * count;
    const missing = this.end - this.exports.memory.buffer.byteLength;
    if (missing > 0) this.exports.memory.grow(Math.ceil(missing / PAGE));
    return begin;
  }

  /** Room with numbers in it. */
  place(Kind, numbers) {
    const begin = this.room(Kind, numbers.length);
    this.write(Kind, begin, numbers);
    return begin;
  }

  write(Kind, begin, numbers) {
    const values = Kind === BigInt64Array ? Array.from(numbers, BigInt) : numbers;
    this.view(Kind, begin, numbers.length).set(values);
  }

  /** Numbers as they are now. */
  view(Kind, begin, count) {
    return new Kind(this.exports.memory.buffer, begin, count);
  }

  /** Call a loop that gives nothing, with addresses and whole numbers: these are BigInts. */
  call(name, ...given) {
    this.exports[name](...given);
  }

  /** Memory of so many int64s as a loop says that it takes. */
  work(name, size) {
    return this.room(BigInt64Array, Number(this.exports[name](BigInt(size))));
  }
}

// Blocks of data: base 85, bzip2, JSON, as harness/report/packed.py writes them.

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%.()*+-;,=:?@^_`{|}~";

function block(name) {
  return JSON.parse(new TextDecoder().decode(bunzip2(fromBase85(document.getElementById("data-" + name).textContent))));
}

/** Five characters are four bytes; at the end fewer, filled up with the last character. */
function fromBase85(text) {
  const values = new Uint8Array(128).fill(84);
  for (let i = 0; i < 85; i++) values[ALPHABET.charCodeAt(i)] = i;
  const n = Math.ceil(text.length / 5);
  const bytes = new Uint8Array(4 * n);
  for (let i = 0, at = 0; i < n; i++) {
    let word = 0;
    for (let k = 0; k < 5; k++, at++) word = word * 85 + (at < text.length ? values[text.charCodeAt(at)] : 84);
    for (let k = 0; k < 4; k++) bytes[4 * i + k] = word / 256 ** (3 - k);
  }
  return bytes;
}

/** What a bzip2 stream holds. Its checksums are not looked at: it lies in the same file as this. */
function bunzip2(input) {
  const bits = bitsOf(input);
  bits.take(24); // "BZh"
  const links = new Uint32Array((bits.take(8) - 48) * 100000);
  let out = new Uint8Array(1 << 20), length = 0;
  while (bits.take(24) === 0x314159) { // else the end
    bits.take(24), bits.take(24), bits.take(8); // the rest of the mark, a checksum
    if (bits.take(1)) throw new Error("a block of data is of a bzip2 that no harness writes");
    const start = bits.take(24);
    const count = unsorted(bits, links);
    let entry = links[start], last = -1, run = 0;
    for (let i = 0; i < count; i++) {
      entry = links[entry >>> 8];
      const byte = entry & 255;
      if (length + 256 > out.length) {
        const larger = new Uint8Array(2 * out.length);
        larger.set(out);
        out = larger;
      }
      if (run === 4) { // after four alike: how many more
        out.fill(last, length, length + byte);
        length += byte;
        run = 0;
        last = -1;
      } else {
        run = byte === last ? run + 1 : 1;
        last = byte;
        out[length++] = byte;
      }
    }
  }
  return out.subarray(0, length);
}

function bitsOf(input) {
  let at = 0, held = 0, n = 0; // the last `n` bits of `held` are not taken yet
  const see = (k) => {
    for (; n < k; n += 8) held = (held << 8) | input[at++];
    return (held >>> (n - k)) & ((1 << k) - 1);
  };
  return { see, take(k) { const found = see(k); n -= k; return found; }, skip(k) { n -= k; } };
}

/** One block's bytes into `links`, each with the place of its successor above it (Burrows and Wheeler); how many. */
function unsorted(bits, links) {
  const named = [];
  const rows = bits.take(16);
  for (let row = 0; row < 16; row++) {
    if (!((rows >> (15 - row)) & 1)) continue;
    const used = bits.take(16);
    for (let k = 0; k < 16; k++) if ((used >> (15 - k)) & 1) named.push(16 * row + k);
  }
  const symbols = Uint8Array.from(named);
  const end = symbols.length + 1;
  const nCodes = bits.take(3), nSelectors = bits.take(15);
  const order = Array.from({ length: nCodes }, (_, at) => at);
  const selectors = new Uint8Array(nSelectors);
  for (let i = 0; i < nSelectors; i++) {
    let back = 0;
    while (bits.take(1)) back++;
    const chosen = order.splice(back, 1)[0];
    order.unshift(chosen);
    selectors[i] = chosen;
  }
  const codes = order.map(() => code(bits, end + 1));
  const counts = new Uint32Array(256);
  let n = 0, run = 0, weight = 1;
  for (let left = 0, group = 0, table = null; ; left--) {
    if (!left) {
      table = codes[selectors[group++]];
      left = 50;
    }
    const found = table.found[bits.see(table.longest)];
    bits.skip(found & 31);
    const symbol = found >> 5;
    if (symbol < 2) { // the first symbol again, counted with the digits 1 and 2
      run += weight << symbol;
      weight *= 2;
      continue;
    }
    if (run) {
      links.fill(symbols[0], n, n + run);
      counts[symbols[0]] += run;
      n += run;
      run = 0;
      weight = 1;
    }
    if (symbol === end) break;
    const byte = symbols[symbol - 1];
    for (let k = symbol - 1; k; k--) symbols[k] = symbols[k - 1];
    symbols[0] = byte;
    links[n++] = byte;
    counts[byte]++;
  }
  for (let byte = 0, sum = 0; byte < 256; byte++) {
    const own = counts[byte];
    counts[byte] = sum;
    sum += own;
  }
  for (let i = 0; i < n; i++) links[counts[links[i] & 255]++] |= i << 8;
  return n;
}

/** A canonical Huffman code of so many symbols: by its next `longest` bits, symbol and length of the code that begins there. */
function code(bits, n) {
  const lengths = [];
  for (let length = bits.take(5); lengths.length < n; lengths.push(length)) {
    while (bits.take(1)) length += bits.take(1) ? -1 : 1;
  }
  const longest = Math.max(...lengths);
  const found = new Uint32Array(1 << longest);
  let at = 0;
  for (let length = 1; length <= longest; length++) {
    lengths.forEach((own, symbol) => {
      if (own === length) found.fill((symbol << 5) | length, at, (at += 1 << (longest - length)));
    });
  }
  return { longest, found };
}

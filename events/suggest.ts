/** Damerau-Levenshtein distance with adjacent transpositions, the usual measure of a typing slip. */
export function distance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min((row[j - 1] ?? 0) + 1, (last[j] ?? 0) + 1, (last[j - 1] ?? 0) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, (beforeLast[j - 2] ?? 0) + 1);
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}

/** The nearest of the known words, when it is near enough to be a slip: a third of the letters, or a common start. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of known) {
    const start = candidate.slice(0, word.length + 1);
    const whole = distance(word, candidate);
    // A long name is often begun right and left off: `--targt` for `--target-peer`.
    const begun = word.length >= 4 && distance(word, start) <= 1;
    const starts = word.length >= 3 && candidate.startsWith(word);
    const apart = starts ? 0.5 : begun ? Math.min(whole, 1) : whole;
    const limit = Math.max(1, Math.floor(Math.max(word.length, candidate.length) / 3));
    if (apart <= limit && apart < bestDistance) {
      best = candidate;
      bestDistance = apart;
    }
  }
  return best;
}

/** ` Did you mean 'list'?`, or nothing. */
export function didYouMean(word: string, known: Iterable<string>, prefix = ''): string {
  const found = nearest(word, known);
  return found === undefined ? '' : ` Did you mean '${prefix}${found}'?`;
}

import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

type Labels = Readonly<Record<string, string>>;

interface Family<Sample> {
  /** By the conventions of Prometheus it ends in `_total` when it is a counter. */
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  /** Gives every series of now; called when somebody asks, never on the data path. */
  readonly read: (give: (labels: Labels, sample: Sample) => void) => void;
}

/** Numbers that the engines count themselves: a counter where the name says so, else a gauge. */
export function registerFigures(registry: Registry, { name, help, labelNames, read }: Family<number>): void {
  const configuration = { name, help, labelNames: [...labelNames], registers: [registry] };
  if (name.endsWith('_total')) {
    new Counter({
      ...configuration,
      collect() {
        this.reset();
        read((labels, value) => this.inc(labels, value));
      },
    });
    return;
  }
  new Gauge({
    ...configuration,
    collect() {
      this.reset();
      read((labels, value) => this.set(labels, value));
    },
  });
}

/** What a histogram has observed: how many in each bucket, the one above the last bound included, and their sum. */
export interface Observed {
  readonly counts: readonly number[];
  readonly sum: number;
}

/** Histograms that the engines keep themselves; `bounds` as in `le`, ascending. */
export function registerHistogram(
  registry: Registry,
  family: Family<Observed>,
  bounds: readonly number[],
): void {
  const { name, help, labelNames, read } = family;
  class Kept extends Histogram {
    // What prom-client's own `get` and its registry ask a histogram for; its declarations leave it out.
    async getForPromString() {
      const values: { labels: Record<string, string | number>; metricName: string; value: number }[] = [];
      read((labels, { counts, sum }) => {
        let count = 0;
        counts.forEach((one, bucket) => {
          count += one;
          const le = bounds[bucket] ?? '+Inf';
          values.push({ labels: { ...labels, le }, metricName: `${name}_bucket`, value: count });
        });
        values.push({ labels: { ...labels }, metricName: `${name}_sum`, value: sum });
        values.push({ labels: { ...labels }, metricName: `${name}_count`, value: count });
      });
      return { name, help, type: 'histogram', aggregator: 'sum', values };
    }
  }
  new Kept({ name, help, labelNames: [...labelNames], buckets: [...bounds], registers: [registry] });
}

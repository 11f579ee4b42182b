// The few shapes of query that the dashboards are made of.

/** What graphs look back over: Grafana fits it to the scrape interval and to the width of the graph. */
export const GRAPH = '$__rate_interval';

/** What tables and single numbers look back over: long enough that one lost probe of many is no spike. */
export const NOW = '5m';

/** Results of probes that are losses. ICMP errors are limited by their senders, so they never count alone. */
export const LOSS = 'result=~"lost|unreachable"';

/** Events a second, added up by labels. */
export function rate(metric: string, matchers: string, by: string, window: string): string {
  return `sum by (${by}) (rate(${metric}{${matchers}}[${window}]))`;
}

/** The share of events that also match `part`. */
export function share(metric: string, part: string, matchers: string, by: string, window: string): string {
  return `${rate(metric, `${matchers},${part}`, by, window)}\n/\n${rate(metric, matchers, by, window)}`;
}

/** The share of probes that were lost. */
export function loss(matchers: string, by: string, window: string): string {
  return share('podsonar_probes_total', LOSS, matchers, by, window);
}

/** The share of other agents' probes that were lost on their way here, as the receiver counts them. */
export function lossOnTheWay(matchers: string, by: string, window: string): string {
  const lost = rate('podsonar_inbound_lost_total', matchers, by, window);
  return `${lost}\n/\n(${rate('podsonar_inbound_probes_total', matchers, by, window)} + ${lost})`;
}

/** A quantile of a histogram: of the native one, or where only the classic one is stored, of that. */
export function quantile(q: number, metric: string, matchers: string, by: string, window: string): string {
  return [
    `histogram_quantile(${q}, ${rate(metric, matchers, by, window)})`,
    'or',
    classicQuantile(q, metric, matchers, by, window),
  ].join('\n');
}

/** A quantile of a histogram that has no native form. */
export function classicQuantile(q: number, metric: string, matchers: string, by: string, window: string): string {
  const labels = by === '' ? 'le' : `${by}, le`;
  return `histogram_quantile(${q}, ${rate(`${metric}_bucket`, matchers, labels, window)})`;
}

/** An expression that is 0, and not nothing, where there is no fault. */
export function orZero(expression: string): string {
  return `${expression}\nor\nvector(0)`;
}

/** Only those series that come from podsonar's agents: of metrics that every program has. */
export function ofAgents(expression: string, matchers: string): string {
  return `${expression}\nand on (cluster, job, instance) podsonar_build_info{${matchers}}`;
}

/** Names the zones that have no name, so that they are seen in tables. */
export function namedZones(expression: string): string {
  const named = (inner: string, label: string) => `label_replace(${inner}, "${label}", "(none)", "${label}", "")`;
  return named(named(expression, 'source_zone'), 'destination_zone');
}

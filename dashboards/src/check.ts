// What must be so of every dashboard, and is no matter of types.
import type { Dashboard, Panel } from '@grafana/schema';

/** Metrics that Prometheus makes itself of each scrape. */
const PROMETHEUS = ['up', 'scrape_samples_scraped'];

/** What is wrong, in words. The golden scrape has every metric of an agent, with its labels. */
export function problems(dashboards: Dashboard[], golden: string): string[] {
  const known = new Set(PROMETHEUS);
  for (const [, name] of golden.matchAll(/^([a-z_]+)[{ ]/gm)) known.add(name ?? '');
  // Of a native histogram the name is that of the metric itself.
  for (const [, name] of golden.matchAll(/^# TYPE ([a-z_]+) histogram$/gm)) known.add(name ?? '');
  return dashboards.flatMap((dashboard) => [
    ...variables(dashboard).map((problem) => `${dashboard.title}: ${problem}`),
    ...panelsOf(dashboard).flatMap((panel) =>
      [...about(panel), ...names(panel, known)].map((problem) => `${dashboard.title}, ${panel.title}: ${problem}`),
    ),
  ]);
}

function panelsOf(dashboard: Dashboard): Panel[] {
  return (dashboard.panels ?? []).filter((panel): panel is Panel => panel.type !== 'row');
}

function expressions(panel: Panel): string[] {
  return (panel.targets ?? []).map((target) => String(target['expr']));
}

/** Each variable is used, and each that is used is there. */
function variables(dashboard: Dashboard): string[] {
  const list = dashboard.templating?.list ?? [];
  const there = new Set(list.map(({ name }) => name));
  const texts = [...panelsOf(dashboard).flatMap(expressions), ...list.map(({ query }) => JSON.stringify(query ?? ''))];
  const used = new Set(texts.flatMap((text) => [...text.matchAll(/\$([a-z]\w*)/g)].map(([, name]) => name ?? '')));
  used.add('datasource');
  return [
    ...[...used].filter((name) => !there.has(name)).map((name) => `$${name} is no variable`),
    ...[...there].filter((name) => !used.has(name)).map((name) => `$${name} is not used`),
  ];
}

/** Whoever is woken by it at night is told what it shows, in which unit. */
function about(panel: Panel): string[] {
  const wrong = [];
  if (!panel.title) wrong.push('no title');
  if ((panel.description ?? '').length < 10) wrong.push('no description');
  if (!panel.fieldConfig?.defaults.unit) wrong.push('no unit');
  return wrong;
}

/** Every metric is one that agents have. */
function names(panel: Panel, known: Set<string>): string[] {
  const metric = /([a-z_]+)\{/g;
  const used = expressions(panel).flatMap((text) => [...text.matchAll(metric)].map(([, name]) => name ?? ''));
  const wrong = used.filter((name) => !known.has(name)).map((name) => `there is no metric ${name}`);
  return used.length === 0 ? [...wrong, 'it asks for no metric'] : wrong;
}

// Draws what panels showed in the lab, from what `podsonar-lab pictures` wrote: matrices of one moment, lines over time.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import type { LayerSpec } from 'vega-lite/types_unstable/spec/index.js';
import type { Field } from 'vega-lite/types_unstable/channeldef.js';
import type { Scale } from 'vega-lite/types_unstable/scale.js';
import { LOSS } from './panels.js';

interface Series {
  metric: Record<string, string>;
  /** Of one moment: a time and a number. */
  value?: [number, string];
  /** Of many. */
  values?: Array<[number, string]>;
}

/** What Prometheus gave for a query. */
interface Answer {
  legend: string;
  overTime: boolean;
  series: Series[];
}

interface Panel {
  title: string;
  unit: string;
  answers: Answer[];
}

/** Panels side by side. */
interface Picture {
  file: string;
  title: string;
  panels: Panel[];
}

/** When all began, when something broke and when it was put right, in Unix seconds, and what is drawn. */
interface Story {
  begin: number;
  broken: number;
  healed: number;
  pictures: Picture[];
}

type Part = LayerSpec<Field>;

const CONFIG = {
  font: 'Helvetica, Arial, sans-serif',
  background: 'white',
  view: { stroke: null },
  title: { anchor: 'start', fontSize: 13, fontWeight: 'normal', offset: 10 },
  axis: { labelFontSize: 11, titleFontSize: 11, titleFontWeight: 'normal', labelLimit: 200 },
  legend: { labelFontSize: 11, labelLimit: 0, symbolStrokeWidth: 3, orient: 'bottom', columnPadding: 8 },
} as const;

/** Grafana's names of colours, as it shows them. */
const COLOURS: Record<string, string> = { green: '#73bf69', yellow: '#fade2a', orange: '#ff9830', red: '#f2495c' };

const [file, folder] = process.argv.slice(2);
if (!file || !folder) {
  console.error('draw.js ANSWERS FOLDER');
  process.exit(2);
}
const story = JSON.parse(readFileSync(file, 'utf8')) as Story;
mkdirSync(folder, { recursive: true });
for (const picture of story.pictures) {
  const hconcat = picture.panels.map((panel) => (panel.answers.some(({ overTime }) => overTime) ? lines(panel) : matrix(panel)));
  const title = { text: picture.title, fontSize: 15, offset: 14 };
  const whole: TopLevelSpec = { title, config: CONFIG, padding: 12, hconcat, bounds: 'flush', spacing: 90, resolve: { scale: { color: 'independent' } } };
  const svg = await new View(parse(compile(whole).spec), { renderer: 'none' }).toSVG();
  writeFileSync(join(folder, `${picture.file}.svg`), `${svg}\n`);
}

/** A number in its panel's unit, as a person reads it. */
function words(value: number, unit: string): string {
  if (unit === 's') return `${(1000 * value).toFixed(2)} ms`;
  return value === 0 ? '0 %' : `${(100 * value).toFixed(1)} %`;
}

/** Sources as rows, destinations as columns, as the dashboards colour them. */
function matrix({ title, unit, answers }: Panel): Part {
  const values = answers.flatMap(({ series }) =>
    series.map(({ metric, value }) => {
      const from = metric['source'] ?? metric['source_zone'] ?? '';
      const to = metric['destination'] ?? metric['destination_zone'] ?? '';
      const number = Number(value?.[1]);
      return { from, to, number, words: words(number, unit) };
    }),
  );
  const x = { field: 'to', type: 'nominal', title: 'to', axis: { orient: 'top', labelAngle: 0, domain: false, ticks: false } } as const;
  const y = { field: 'from', type: 'nominal', title: 'from', axis: { domain: false, ticks: false } } as const;
  const judged: Scale = { type: 'threshold', domain: LOSS.slice(1).map(([, from]) => from), range: LOSS.map(([name]) => COLOURS[name] ?? name) };
  const shaded: Scale = { range: ['#eaf2fb', '#6ba3dc'], zero: true };
  return {
    title,
    data: { values },
    width: { step: 62 },
    height: { step: 32 },
    layer: [
      {
        mark: { type: 'rect', stroke: 'white', strokeWidth: 2, cornerRadius: 3 },
        encoding: { x, y, color: { field: 'number', type: 'quantitative', scale: unit === 's' ? shaded : judged, legend: null } },
      },
      { mark: { type: 'text', fontSize: 11 }, encoding: { x, y, text: { field: 'words' } } },
    ],
  };
}

/** What a series is called: the legend with the values of its labels. */
function called(legend: string, metric: Record<string, string>): string {
  return legend.replaceAll(/{{(\w+)}}/g, (_, label: string) => metric[label] ?? '');
}

/** Lines over time; the time in which something was broken is shaded. */
function lines({ title, unit, answers }: Panel): Part {
  const { begin, broken, healed } = story;
  const values = answers.flatMap(({ legend, series }) =>
    series.flatMap(({ metric, values: points }) =>
      (points ?? [])
        .filter(([, value]) => Number.isFinite(Number(value)))
        .map(([time, value]) => ({
          time: Math.round(time - begin),
          series: called(legend, metric),
          value: Number((Number(value) * (unit === 's' ? 1000 : 1)).toPrecision(4)),
        })),
    ),
  );
  const columns = new Set(values.map(({ series }) => series)).size > 4 ? 3 : 1;
  const axis = unit === 's' ? { title: 'ms' } : { title: null, format: '.0%' };
  return {
    title,
    width: 330,
    height: 190,
    layer: [
      {
        data: { values: [{ from: Math.round(broken - begin), to: Math.round(healed - begin) }] },
        mark: { type: 'rect', color: '#f2495c', opacity: 0.08 },
        encoding: { x: { field: 'from', type: 'quantitative' }, x2: { field: 'to' } },
      },
      {
        data: { values },
        mark: { type: 'line', strokeWidth: 1.5 },
        encoding: {
          x: { field: 'time', type: 'quantitative', title: 'seconds; faults while shaded', axis: { grid: false } },
          y: { field: 'value', type: 'quantitative', axis: { ...axis, tickCount: 5 } },
          color: { field: 'series', type: 'nominal', title: null, scale: { scheme: 'tableau10' }, legend: { columns } },
        },
      },
    ],
  };
}
